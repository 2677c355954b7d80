package vmtest

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel-os/evenkeel/fixtures"
)

// Product and Compatible are what the appliance is.
const (
	Product    = "edge-appliance"
	Compatible = "qemu-x86"
)

// buildTime is that of every file.
var buildTime = time.Date(2025, 11, 25, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant

// Release is one version of the appliance.
type Release struct {
	Version string
	Serial  uint64
	Kind    fixtures.Kind
	Agent   string // program of another version of the agent, relative to Builder.Programs; empty: evenkeel

	// What makes it a release for another machine; empty: it is for this one.
	Product, Compatible, Arch string
}

// String names the release and what is wrong with it.
func (r Release) String() string {
	s := r.Version + "-" + r.Kind.String()
	for _, x := range []string{r.Agent, r.Product, r.Compatible, r.Arch} {
		if x != "" {
			s += "-" + x
		}
	}
	return s
}

// Builder makes the images of releases.
type Builder struct {
	Base     string // tar file made by scripts/lib/vm-base.sh
	Source   string // root of the checkout: packaging/ is installed from there
	Programs string // directory of evenkeel, and of other versions of it
	Root     []byte // trusted root metadata, which the images bring along

	base   *tree
	kernel string
	initrd []byte
}

// Images are the files of a release.
type Images struct{ Root, Kernel, Initrd string }

// unwanted is what a package brings along and no appliance needs: it would have to be read, hashed and written.
var unwanted = regexp.MustCompile(`^(boot/(config|initrd|System)|usr/share/(perl|doc/[^/]*/[^c]|man|locale)|` + //nolint:gochecknoglobals // a constant
	`usr/lib/x86_64-linux-gnu/(perl|libperl|libicu|gconv)|usr/bin/(perl|openssl)|(usr/)?lib/udev/hwdb|usr/lib/systemd/systemd-(networkd|resolved|importd)$|` +
	`usr/lib/modules/[^/]*/kernel/(block/|mm/|security/|samples/|virt/|crypto/([^c]|c[^r])|lib/test_)|usr/include/|usr/lib/(python|valgrind|gcc)|` +
	`var/(lib/(apt|dpkg)|cache|log)/.|dev/.|(proc|sys|run|tmp)/.|usr/share/(mime|polkit|systemd/.*map|zoneinfo)|` +
	`usr/lib/systemd/system-generators/systemd-(cryptsetup|gpt-auto|veritysetup|integritysetup|hibernate-resume|sysv|rc-local|bless-boot|run|getty|debug|system-update)-generator|` +
	`(usr/)?lib/udev/rules.d/([0-4]|5[1-9]|60-(auto|cd|ev|fid|inp|per[^-]*-(alsa|inp|stor[^.]*-tape|v4l)|sens|serial)|6[1-9]|7|8[1-9]|80-(drivers|debian)|9[0-8]))`)

// masked are units that do nothing for this appliance, and take emulated seconds for it.
var masked = strings.Fields(`dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount
 sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount kmod-static-nodes.service modprobe@.service systemd-random-seed.service
 systemd-tmpfiles-setup-dev.service systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-logind.service
 systemd-user-sessions.service getty.target getty@.service serial-getty@.service console-getty.service systemd-ask-password-console.path
 systemd-ask-password-wall.path dpkg-db-backup.timer fstrim.timer systemd-tmpfiles-clean.timer e2scrub_reap.service e2scrub_all.timer
 systemd-remount-fs.service systemd-journal-flush.service systemd-machine-id-commit.service systemd-firstboot.service
 systemd-pcrphase.service systemd-pcrphase-sysinit.service systemd-hwdb-update.service ldconfig.service systemd-sysusers.service
 systemd-modules-load.service apt-daily.timer apt-daily-upgrade.timer systemd-repart.service systemd-journald-audit.socket
 systemd-initctl.socket systemd-tmpfiles-setup.service systemd-binfmt.service systemd-boot-system-token.service`) //nolint:gochecknoglobals // a constant

//go:embed overlay kinds
var additions embed.FS

func (b *Builder) load() error {
	if b.base != nil {
		return nil
	}
	base, err := readTree(b.Base, unwanted)
	if err != nil {
		return err
	}
	kernels := base.glob("boot/vmlinuz-*")
	if len(kernels) != 1 {
		return fmt.Errorf("%s holds %d kernels, want 1", b.Base, len(kernels))
	}
	b.kernel = strings.TrimPrefix(kernels[0], "boot/vmlinuz-")
	if b.initrd, err = initrd(base, b.kernel); err != nil {
		return fmt.Errorf("cannot make the initrd: %w", err)
	}
	b.base = base
	return nil
}

// Build makes the images of r in dir.
func (b *Builder) Build(ctx context.Context, r Release, dir string) (Images, error) {
	if err := b.load(); err != nil {
		return Images{}, err
	}
	t, err := b.tree(r)
	if err != nil {
		return Images{}, fmt.Errorf("cannot make the image of %s: %w", r, err)
	}
	im := Images{filepath.Join(dir, "root.squashfs"), filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "initrd.img")}
	kernel := b.base.files["boot/vmlinuz-"+b.kernel].data
	if r.Kind == fixtures.Unloadable {
		kernel = kernel[:512]
	}
	if err := os.WriteFile(im.Kernel, kernel, 0o644); err != nil {
		return Images{}, err
	}
	if err := os.WriteFile(im.Initrd, b.initrd, 0o644); err != nil {
		return Images{}, err
	}
	return im, squash(ctx, t, im.Root)
}

// squash makes a squashfs image: small, for everything in it is read, hashed and written under emulation, and quick to
// unpack. Its bytes depend on the tree alone.
func squash(ctx context.Context, t *tree, name string) error {
	_ = os.Remove(name)
	r, w := io.Pipe()
	c := exec.CommandContext(ctx, "sqfstar", "-comp", "lz4", "-no-progress", "-quiet", "-reproducible", "-mkfs-time", fmt.Sprint(buildTime.Unix()), "-all-time", fmt.Sprint(buildTime.Unix()), name)
	var out bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = r, &out, &out
	go func() { w.CloseWithError(t.write(w)) }()
	err := c.Run()
	r.Close() // ends the writer where sqfstar did not read to the end
	if err != nil {
		return fmt.Errorf("cannot make a squashfs image: %w: %s", err, out.Bytes())
	}
	return nil
}

// tree is the root file system of r: the base, the agent and its units, the appliance, and what is wrong with it, last.
func (b *Builder) tree(r Release) (*tree, error) {
	t := b.base.clone()
	for _, p := range t.glob("boot/*") {
		t.remove(p)
	}
	if err := b.install(t, r); err != nil {
		return nil, err
	}
	if err := overlay(t, "overlay"); err != nil {
		return nil, err
	}
	for _, dir := range []string{"efi", "var/lib/evenkeel", "etc/evenkeel/health"} {
		t.add(dir, 0o755, []byte(nil))
	}
	for _, u := range masked {
		t.link("etc/systemd/system/"+u, "/dev/null")
	}
	enabled := map[string]string{
		"evenkeel.service": "multi-user.target", "evenkeel-settle.service": "sysinit.target", "evenkeel-deadline.service": "sysinit.target",
		"vm-operator.service": "sysinit.target", "vm-network.service": "multi-user.target",
	}
	switch r.Kind {
	case fixtures.Hung:
		enabled["hang.service"] = "sysinit.target"
	case fixtures.Crashy:
		enabled["crash.service"] = "multi-user.target"
	}
	for _, u := range slices.Sorted(maps.Keys(enabled)) {
		t.link("etc/systemd/system/"+enabled[u]+".wants/"+u, "/usr/lib/systemd/system/"+u)
	}
	if err := overlay(t, "kinds/"+r.Kind.String()); err != nil {
		return nil, err
	}
	return t, b.release(t, r)
}

// install does what packaging/README.md says.
func (b *Builder) install(t *tree, r Release) error {
	agent := r.Agent
	if agent == "" {
		agent = "evenkeel"
	}
	files := map[string]string{
		filepath.Join(b.Programs, agent):                                                     "usr/bin/evenkeel",
		filepath.Join(b.Source, "packaging/systemd/on-trial"):                                "usr/lib/evenkeel/on-trial",
		filepath.Join(b.Source, "packaging/systemd/system.conf.d/10-evenkeel-watchdog.conf"): "usr/lib/systemd/system.conf.d/10-evenkeel-watchdog.conf",
	}
	units, err := filepath.Glob(filepath.Join(b.Source, "packaging/systemd/*.service"))
	if err != nil || len(units) == 0 {
		return fmt.Errorf("there are no units in %s/packaging/systemd", b.Source)
	}
	for _, u := range units {
		files[u] = "usr/lib/systemd/system/" + filepath.Base(u)
	}
	for _, from := range slices.Sorted(maps.Keys(files)) {
		to := files[from]
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		t.add(to, mode(to), data)
	}
	t.add("usr/share/evenkeel/root.json", 0o644, b.Root)
	return nil
}

// release says in the image which release it is.
func (b *Builder) release(t *tree, r Release) error {
	old := t.files["usr/lib/os-release"]
	if old == nil {
		return fmt.Errorf("there is no usr/lib/os-release in the base")
	}
	text := fmt.Sprintf("%sIMAGE_ID=%s\nIMAGE_VERSION=%s\nEVENKEEL_SERIAL=%d\n", old.data, Product, r.Version, r.Serial)
	t.add("usr/lib/os-release", 0o644, []byte(text))
	return nil
}

// overlay adds the files below dir. A kind that needs none has no directory.
func overlay(t *tree, dir string) error {
	err := fs.WalkDir(additions, dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := additions.ReadFile(p)
		if data == nil {
			data = []byte{}
		}
		to := strings.TrimPrefix(p, dir+"/")
		t.add(to, mode(to), data)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) && dir != "overlay" {
		return nil
	}
	return err
}

// mode is that of a file, by where it lies: programs can be run.
func mode(p string) int64 {
	for _, dir := range []string{"usr/bin", "usr/sbin", "usr/lib/vm", "usr/lib/evenkeel/health/required.d", "usr/lib/evenkeel/health/wanted.d"} {
		if path.Dir(p) == dir {
			return 0o755
		}
	}
	return 0o644
}
