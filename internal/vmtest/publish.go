package vmtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Cmdline is that of every release. A panic ends the boot after five seconds. An emulated processor that has to wait for a
// real one would fail the check of the timer.
const Cmdline = "root={root} ro console=ttyS0 quiet panic=5 oops=panic mitigations=off no_timer_check"

// Sizes of the machine's disk.
const (
	espSize   = "64MiB"
	rootSize  = "80MiB"
	stateSize = "32MiB"
)

// Workshop keeps what takes long to make: repositories with their releases. Its directory belongs to one set of programs
// and one base; see scripts/vm.
type Workshop struct {
	Dir      string
	Programs string // directory of evenkeel-repo
	Builder  *Builder

	mu sync.Mutex
}

// Repository returns the directory of a repository that offers these releases, published one after the other. What was
// made before is used again.
func (w *Workshop) Repository(ctx context.Context, releases ...Release) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.repository(ctx, releases)
}

func (w *Workshop) repository(ctx context.Context, releases []Release) (string, error) {
	name := "empty"
	var names []string
	for _, r := range releases {
		names = append(names, r.String())
		name = strings.Join(names, "+")
	}
	dir := filepath.Join(w.Dir, "repos", name)
	if st, err := os.Stat(filepath.Join(dir, "repo/metadata/timestamp.json")); err == nil {
		if time.Since(st.ModTime()) < 3*24*time.Hour { // it is valid for seven
			return dir, nil
		}
		return dir, w.publisher(dir).run(ctx, "refresh")
	}
	part := dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		return "", err
	}
	if err := w.extend(ctx, part, releases); err != nil {
		return "", fmt.Errorf("cannot publish %s: %w", name, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, os.Rename(part, dir)
}

// extend makes a repository in dir: that of all releases but the last, and then the last.
func (w *Workshop) extend(ctx context.Context, dir string, releases []Release) error {
	if len(releases) == 0 {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		return w.publisher(dir).run(ctx, "init", "--role", "all=1/1")
	}
	last := len(releases) - 1
	before, err := w.repository(ctx, releases[:last])
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "cp", "-a", "--reflink=auto", before, dir).CombinedOutput(); err != nil {
		return fmt.Errorf("cp: %w: %s", err, out)
	}
	if w.Builder.Root == nil {
		if w.Builder.Root, err = os.ReadFile(filepath.Join(dir, "repo/metadata/1.root.json")); err != nil {
			return err
		}
	}
	return w.publish(ctx, dir, releases[last])
}

// publish adds r to the repository in dir.
func (w *Workshop) publish(ctx context.Context, dir string, r Release) error {
	im, err := w.Builder.Build(ctx, r, dir)
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range []string{im.Root, im.Kernel, im.Initrd} {
			_ = os.Remove(f)
		}
	}()
	p := w.publisher(dir)
	add := []string{
		"add", "--product", or(r.Product, Product), "--compatible", or(r.Compatible, Compatible), "--arch", or(r.Arch, "amd64"), "--version", r.Version,
		"--serial", fmt.Sprint(r.Serial), "--image", "root=" + im.Root, "--file", "kernel=vmlinuz=" + im.Kernel, "--file", "initrd=initrd.img=" + im.Initrd,
		"--kernel", "kernel", "--initrd", "initrd", "--cmdline", Cmdline, "--level", "1",
	}
	for _, args := range [][]string{add, {"sign"}, {"publish"}} {
		if err := p.run(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Disk makes the factory image of a machine from the only release of a repository, with config on its state partition.
func (w *Workshop) Disk(ctx context.Context, factory Release, config, path string) error {
	dir, err := w.Repository(ctx, factory)
	if err != nil {
		return err
	}
	loader := filepath.Join(w.Dir, "BOOTX64.EFI")
	args := []string{
		"disk-image", "--output", path, "--loader", loader, "--esp-size", espSize, "--state-size", stateSize, "--partition-size", "root=" + rootSize,
	}
	if config != "" {
		file := path + ".config.yaml"
		if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
			return err
		}
		defer os.Remove(file)
		args = append(args, "--state", "config.d/10-scenario.yaml="+file)
	}
	return w.publisher(dir).run(ctx, args...)
}

// publisher runs evenkeel-repo on one repository.
type publisher struct{ program, dir string }

func (w *Workshop) publisher(dir string) publisher {
	return publisher{filepath.Join(w.Programs, "evenkeel-repo"), dir}
}

func (p publisher) run(ctx context.Context, args ...string) error {
	c := exec.CommandContext(ctx, p.program, append(args, "--repo", filepath.Join(p.dir, "repo"), "--keys", filepath.Join(p.dir, "keys"))...)
	c.Env = append(os.Environ(), "EVENKEEL_REPO_PASSPHRASE=only for virtual machines")
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Run(); err != nil {
		return fmt.Errorf("cannot %s: %w: %s", args[0], err, out.Bytes())
	}
	return nil
}
