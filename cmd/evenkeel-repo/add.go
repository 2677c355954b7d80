package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/evenkeel-os/evenkeel/cmd/internal/cli"
	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/tuf/repo"
)

// releaseFile is a release as people write it in YAML.
type releaseFile struct {
	Product    string      `yaml:"product"`
	Compatible []string    `yaml:"compatible"`
	Arch       string      `yaml:"arch"`
	Layout     int         `yaml:"layout"`
	Version    string      `yaml:"version"`
	Serial     uint64      `yaml:"serial"`
	MinAgent   string      `yaml:"min_agent"`
	Notes      string      `yaml:"notes"`
	Boot       bootFile    `yaml:"boot"`
	Images     []imageFile `yaml:"images"`
}

type bootFile struct {
	Kernel  string `yaml:"kernel"`
	Initrd  string `yaml:"initrd"`
	Cmdline string `yaml:"cmdline"`
}

// imageFile is one image: with a name, it is a file on the ESP, without, it fills a partition.
type imageFile struct {
	Role string `yaml:"role"`
	Name string `yaml:"name"`
	File string `yaml:"file"`
}

const addHelp = `Makes the files of a release, index and pack of each image, and stages the next version of the role "releases" that
names it. Sign and publish come next; discard throws it away.

A release comes from flags, from a YAML file (--release), or from both; flags win:

  product: edge-appliance        # what the appliance is
  compatible: [qemu-x86]         # machine types that may run it
  arch: amd64                    # amd64, arm64, ...
  layout: 1                      # version of the disk layout
  version: 2.4.1                 # for people
  serial: 17                     # must grow
  min_agent: 0.1.0               # optional
  notes: Fixes the clock.        # optional
  boot:
    kernel: kernel               # ROLE of a file, or ROLE:/path inside a partition's file system
    initrd: initrd               # optional
    cmdline: root={root} ro quiet  # {ROLE} becomes PARTUUID=... of the slot, {slot} becomes a or b
  images:
    - {role: root, file: rootfs.ext4}                  # fills a partition of the slot
    - {role: kernel, name: vmlinuz, file: vmlinuz}     # a file in the slot's directory of the ESP
    - {role: initrd, name: initrd.img, file: initrd.img}

Paths in the YAML file are relative to it.`

func (a *app) addCommand() *cobra.Command {
	var file string
	var images, files []string
	var r releaseFile
	c := &cobra.Command{
		Use: "add", Short: "make the files of a release, and stage it", Long: addHelp,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&file, "release", "", "YAML file that describes the release")
	f.StringVar(&r.Product, "product", "", "what the appliance is")
	f.StringArrayVar(&r.Compatible, "compatible", nil, "machine type that may run it; repeatable")
	f.StringVar(&r.Arch, "arch", "", "architecture: amd64, arm64, ...")
	f.IntVar(&r.Layout, "layout", 0, "version of the disk layout (default 1)")
	f.StringVar(&r.Version, "version", "", "version, for people")
	f.Uint64Var(&r.Serial, "serial", 0, "serial number; it must grow")
	f.StringVar(&r.MinAgent, "min-agent", "", "oldest agent that may install it")
	f.StringVar(&r.Notes, "notes", "", "notes, for people")
	f.StringVar(&r.Boot.Kernel, "kernel", "", "kernel: ROLE of a file, or ROLE:/path")
	f.StringVar(&r.Boot.Initrd, "initrd", "", "initrd: ROLE of a file, or ROLE:/path")
	f.StringVar(&r.Boot.Cmdline, "cmdline", "", "kernel command line, with {root} for PARTUUID=... of the slot")
	f.StringArrayVar(&images, "image", nil, "image of a partition, as ROLE=FILE; repeatable")
	f.StringArrayVar(&files, "file", nil, "image that is a file on the ESP, as ROLE=NAME=FILE; repeatable")
	f.IntVar(&a.level, "level", 0, "compression of the packs, from 1 (quick) to 22 (small); 0: the smallest")
	a.addExpires(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		var err error
		if r.Images, err = parseImages(images, files); err != nil {
			return err
		}
		described, err := readReleaseFile(file)
		if err != nil {
			return err
		}
		return a.add(c.Context(), described.overriddenBy(r))
	}
	return c
}

func parseImages(images, files []string) ([]imageFile, error) {
	var all []imageFile
	for _, text := range images {
		role, file, ok := strings.Cut(text, "=")
		if !ok || role == "" || file == "" {
			return nil, repo.BadInput("--image %s: write ROLE=FILE", text)
		}
		all = append(all, imageFile{Role: role, File: file})
	}
	for _, text := range files {
		parts := strings.SplitN(text, "=", 3)
		if len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
			return nil, repo.BadInput("--file %s: write ROLE=NAME=FILE", text)
		}
		all = append(all, imageFile{Role: parts[0], Name: parts[1], File: parts[2]})
	}
	return all, nil
}

// readReleaseFile reads a YAML file; without a name it returns an empty description.
func readReleaseFile(name string) (releaseFile, error) {
	var r releaseFile
	if name == "" {
		return r, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return r, fmt.Errorf("cannot read the release: %w", err)
	}
	defer f.Close()
	d := yaml.NewDecoder(f)
	d.KnownFields(true)
	if err := d.Decode(&r); err != nil && !errors.Is(err, io.EOF) {
		return r, repo.BadInput("%s: %w", name, plainYAML(err))
	}
	for i := range r.Images {
		if !filepath.IsAbs(r.Images[i].File) {
			r.Images[i].File = filepath.Join(filepath.Dir(name), r.Images[i].File)
		}
	}
	return r, nil
}

// plainYAML puts what is wrong with a YAML file on one line, without names of Go types.
func plainYAML(err error) error {
	var types *yaml.TypeError
	if !errors.As(err, &types) {
		return err
	}
	var lines []string
	for _, e := range types.Errors {
		line, _, _ := strings.Cut(e, " in type ")
		lines = append(lines, line)
	}
	return errors.New(strings.Join(lines, "; "))
}

// overriddenBy returns r with what the flags say in its place. An image of a flag replaces that of the same role.
func (r releaseFile) overriddenBy(flags releaseFile) releaseFile {
	override(&r.Product, flags.Product)
	override(&r.Arch, flags.Arch)
	override(&r.Layout, flags.Layout)
	override(&r.Version, flags.Version)
	override(&r.Serial, flags.Serial)
	override(&r.MinAgent, flags.MinAgent)
	override(&r.Notes, flags.Notes)
	override(&r.Boot.Kernel, flags.Boot.Kernel)
	override(&r.Boot.Initrd, flags.Boot.Initrd)
	override(&r.Boot.Cmdline, flags.Boot.Cmdline)
	if len(flags.Compatible) > 0 {
		r.Compatible = flags.Compatible
	}
	override(&r.Layout, or(r.Layout, 1))
	r.Images = replaceImages(r.Images, flags.Images)
	return r
}

func replaceImages(images, flags []imageFile) []imageFile {
	given := map[string]bool{}
	for _, im := range flags {
		given[im.Role] = true
	}
	var all []imageFile
	for _, im := range images {
		if !given[im.Role] {
			all = append(all, im)
		}
	}
	return append(all, flags...)
}

func override[T comparable](value *T, flag T) { *value = or(flag, *value) }

func (a *app) add(ctx context.Context, file releaseFile) error {
	r, err := a.open()
	if err != nil {
		return err
	}
	d, closeAll, err := file.draft()
	defer closeAll()
	if err != nil {
		return err
	}
	added, err := r.Add(ctx, d)
	if err != nil {
		return err
	}
	a.say("%s %s (serial %d) is staged.", added.Release.Product, added.Release.Version, added.Release.Serial)
	for _, im := range added.Images {
		note := ""
		if im.Reused {
			note = ", the same as in an earlier release"
		}
		a.say("  %s: %s, pack %s%s", im.Role, cli.Bytes(im.Size), cli.Bytes(im.PackSize), note)
	}
	if added.Voided > 0 {
		a.say("%d signatures of the earlier draft are void: it is another one now.", added.Voided)
	}
	return a.staged(r, map[string]any{"added": added})
}

// draft opens the images.
func (r releaseFile) draft() (repo.Draft, func(), error) {
	d := repo.Draft{Rel: release.Release{
		Product: r.Product, Compatible: r.Compatible, Architecture: r.Arch, Layout: r.Layout, MinAgent: r.MinAgent,
		Version: r.Version, Serial: r.Serial, Notes: r.Notes,
		Boot: release.BootSpec{Kernel: r.Boot.Kernel, Initrd: r.Boot.Initrd, Cmdline: r.Boot.Cmdline},
	}}
	var open []io.Closer
	closeAll := func() {
		for _, f := range open {
			_ = f.Close()
		}
	}
	for _, im := range r.Images {
		f, size, err := openImage(im.File)
		if err != nil {
			return d, closeAll, fmt.Errorf("cannot read the image of role %s: %w", im.Role, err)
		}
		open = append(open, f)
		src := repo.Source{Role: release.Role(im.Role), Kind: release.KindPartition, Bytes: f, Size: size}
		if im.Name != "" {
			src.Kind, src.Name = release.KindFile, im.Name
		}
		d.Sources = append(d.Sources, src)
	}
	return d, closeAll, nil
}

// openImage opens a file or a block device.
func openImage(name string) (*os.File, int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if st, serr := f.Stat(); serr == nil && st.IsDir() {
		err = fmt.Errorf("%s is a directory", name)
	}
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, size, nil
}
