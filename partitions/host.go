package partitions

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// host reads what the kernel tells, below root.
type host struct{ root string }

// devNo is a device number.
type devNo struct{ major, minor uint32 }

func (d devNo) String() string { return fmt.Sprintf("%d:%d", d.major, d.minor) }

func devOf(info os.FileInfo) devNo {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return devNo{unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))}
	}
	return devNo{}
}

func parseDev(text string) (devNo, error) {
	major, minor, _ := strings.Cut(strings.TrimSpace(text), ":")
	x, err1 := strconv.ParseUint(major, 10, 32)
	y, err2 := strconv.ParseUint(minor, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return devNo{}, fmt.Errorf("cannot read device number %.40q", text)
	}
	return devNo{uint32(x), uint32(y)}, nil
}

func (h host) path(parts ...string) string {
	return filepath.Join(append([]string{h.root}, parts...)...)
}

// mount is one line of mountinfo.
type mount struct {
	dev      devNo
	point    string
	source   string
	fsType   string
	readOnly bool
}

// mounts returns the mount table, in order: a later line covers an earlier one at the same point.
func (h host) mounts() ([]mount, error) {
	text, err := os.ReadFile(h.path("proc/self/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("cannot tell what is mounted: %w", err)
	}
	return parseMounts(string(text))
}

// parseMounts reads the format of proc_pid_mountinfo(5).
func parseMounts(text string) ([]mount, error) {
	var ms []mount
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			continue
		}
		before, after, found := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !found || len(f) < 6 || len(g) < 2 {
			return nil, fmt.Errorf("cannot tell what is mounted: bad line %.120q in mountinfo", line)
		}
		dev, err := parseDev(f[2])
		if err != nil {
			return nil, fmt.Errorf("cannot tell what is mounted: %w", err)
		}
		super := ""
		if len(g) > 2 {
			super = g[2]
		}
		ms = append(ms, mount{
			dev: dev, point: unescape(f[4]), fsType: g[0], source: unescape(g[1]),
			readOnly: hasOption(f[5], "ro") || hasOption(super, "ro"),
		})
	}
	return ms, nil
}

func hasOption(options, want string) bool {
	return slices.Contains(strings.Split(options, ","), want)
}

// unescape undoes the kernel's octal escapes of blanks and backslashes.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// mountOf returns the mount that holds path.
func mountOf(ms []mount, path string) (mount, bool) {
	path = filepath.Clean(path)
	best, found := mount{}, false
	for _, m := range ms {
		inside := m.point == "/" || path == m.point || strings.HasPrefix(path, m.point+"/")
		if inside && len(m.point) >= len(best.point) {
			best, found = m, true
		}
	}
	return best, found
}

// cmdline returns the words of the kernel command line, up to the "--" that ends the kernel's own.
func (h host) cmdline() ([]string, error) {
	text, err := os.ReadFile(h.path("proc/cmdline"))
	if err != nil {
		return nil, fmt.Errorf("cannot read the kernel command line: %w", err)
	}
	return splitCmdline(string(text)), nil
}

func splitCmdline(text string) (words []string) {
	quoted := false
	for _, w := range strings.FieldsFunc(text, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && strings.ContainsRune(" \t\r\n", r)
	}) {
		if w == "--" {
			break
		}
		words = append(words, strings.ReplaceAll(w, `"`, ""))
	}
	return words
}

// values returns what every key=value of the words says.
func values(words []string, key string) (vs []string) {
	for _, w := range words {
		if v, ok := strings.CutPrefix(w, key+"="); ok {
			vs = append(vs, v)
		}
	}
	return vs
}

// device is a block device as sysfs describes it.
type device struct {
	dev    devNo
	dir    string            // its directory in sysfs
	uevent map[string]string // DEVNAME, PARTN, PARTUUID, ...
	parent string            // directory of the whole disk, for a partition; "" where sysfs does not tell
}

func (h host) device(dev devNo) (device, error) {
	link := h.path("sys/dev/block", dev.String())
	dir, err := filepath.EvalSymlinks(link)
	if err != nil {
		return device{}, fmt.Errorf("cannot tell what device %s is: %w", dev, err)
	}
	d := device{dev: dev, dir: dir, uevent: map[string]string{}}
	text, err := os.ReadFile(filepath.Join(dir, "uevent"))
	if err != nil {
		return device{}, fmt.Errorf("cannot tell what device %s is: %w", dev, err)
	}
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			d.uevent[k] = v
		}
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(dir), "dev")); err == nil && d.uevent["PARTN"] != "" {
		d.parent = filepath.Dir(dir)
	}
	return d, nil
}

// attr reads one attribute file, or returns "".
func (d device) attr(name string) string { return readAttr(d.dir, name) }

func readAttr(dir, name string) string {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// sysExtent is where a device lies on the device that holds it. The kernel counts in 512 bytes whatever the sectors are.
func (d device) sysExtent() (extent, bool) {
	size, err := strconv.ParseInt(d.attr("size"), 10, 54)
	if err != nil {
		return extent{}, false
	}
	if d.parent == "" {
		return extent{Size: size * 512}, true
	}
	start, err := strconv.ParseInt(d.attr("start"), 10, 54)
	return extent{Start: start * 512, Size: size * 512}, err == nil
}

// below returns the devices that dev is made of: itself, or for a device mapper or RAID device what lies at its bottom.
func (h host) below(dev devNo) ([]device, error) {
	seen := map[devNo]bool{}
	var out []device
	var walk func(devNo) error
	walk = func(dev devNo) error {
		if seen[dev] {
			return nil
		}
		seen[dev] = true
		d, err := h.device(dev)
		if err != nil {
			return err
		}
		slaves, _ := os.ReadDir(filepath.Join(d.dir, "slaves"))
		if len(slaves) == 0 {
			out = append(out, d)
		}
		for _, s := range slaves {
			under, err := parseDev(readAttr(filepath.Join(d.dir, "slaves", s.Name()), "dev"))
			if err != nil {
				return fmt.Errorf("cannot tell what device %s consists of: %w", dev, err)
			}
			if err := walk(under); err != nil {
				return err
			}
		}
		return nil
	}
	return out, walk(dev)
}

// diskUnder returns the path of the disk that holds what is mounted at point.
func (h host) diskUnder(point string) (string, error) {
	devs, err := h.devicesUnder(point)
	if err != nil {
		return "", err
	}
	for _, d := range devs {
		name := d.uevent["DEVNAME"]
		if d.parent != "" {
			name = ""
			for line := range strings.Lines(readAttr(d.parent, "uevent")) {
				if v, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok {
					name = v
				}
			}
		}
		if name != "" {
			return h.path("dev", name), nil
		}
	}
	return "", fmt.Errorf("sysfs does not tell the disk of what is mounted at %s: name the disk in the configuration", point)
}

// devicesUnder returns the devices that hold the file system mounted at point.
func (h host) devicesUnder(point string) ([]device, error) {
	ms, err := h.mounts()
	if err != nil {
		return nil, err
	}
	found := mount{}
	for _, m := range ms {
		if m.point == point {
			found = m
		}
	}
	if found.point == "" {
		return nil, fmt.Errorf("nothing is mounted at %s", point)
	}
	dev, err := h.mountDev(found)
	if err != nil {
		return nil, err
	}
	return h.below(dev)
}

// mountDev returns the block device of a mount. File systems such as btrfs have an anonymous number; their source says it.
func (h host) mountDev(m mount) (devNo, error) {
	if m.dev.major != 0 {
		return m.dev, nil
	}
	if strings.HasPrefix(m.source, "/dev/") {
		if info, err := os.Stat(h.path(m.source)); err == nil && info.Mode()&os.ModeDevice != 0 {
			return devOf(info), nil
		}
	}
	return devNo{}, fmt.Errorf("%s (%s on %s) has no block device: if it is an overlay, "+
		"say in the configuration where the root file system of the slot is mounted", m.point, m.fsType, m.source)
}

// swaps returns the devices that are swapped to.
func (h host) swaps() ([]devNo, error) {
	text, err := os.ReadFile(h.path("proc/swaps"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot tell what is swapped to: %w", err)
	}
	var devs []devNo
	for i, line := range strings.Split(string(text), "\n") {
		f := strings.Fields(line)
		if i == 0 || len(f) < 2 || f[1] != "partition" {
			continue
		}
		if info, err := os.Stat(h.path(unescape(f[0]))); err == nil {
			devs = append(devs, devOf(info))
		}
	}
	return devs, nil
}
