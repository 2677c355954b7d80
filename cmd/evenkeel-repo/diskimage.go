package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/evenkeel-os/evenkeel/bootloader"
	"github.com/evenkeel-os/evenkeel/cmd/internal/cli"
	"github.com/evenkeel-os/evenkeel/partitions/diskimage"
	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/tuf/repo"
	"github.com/evenkeel-os/evenkeel/updater"
)

// diskFlags are the flags of disk-image, as text.
type diskFlags struct {
	product, output, loader, seed string
	size, espSize, stateSize      string
	sector                        int
	partitionSizes, stateFiles    []string
}

func (a *app) diskImageCommand() *cobra.Command {
	var f diskFlags
	c := &cobra.Command{
		Use:   "disk-image [VERSION|SERIAL] --output FILE --loader FILE",
		Short: "make the factory image of a machine from a published release",
		Long: `Makes the image that is written to a machine's disk once, and from then on only updated: GPT, EFI system partition with
GRUB, slots A and B, state partition. Slot A is filled from a published release (the newest unless one is named), slot B is
empty, and the boot loader's environment says that A is good.

--loader is the EFI program of GRUB (scripts/lib/grub-efi.sh makes one). ext4 is made by mkfs.ext4 and debugfs of
e2fsprogs. Sizes have a unit, as in 512MiB or 4GiB.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.diskImage(c.Context(), f, args) },
	}
	s := c.Flags()
	s.StringVar(&f.output, "output", "", "file to make")
	s.StringVar(&f.loader, "loader", "", "EFI program of GRUB")
	s.StringVar(&f.product, "product", "", "product of the release, where there are several")
	s.StringVar(&f.seed, "seed", "", "of every identifier on the disk (default: the product); two disks in one machine need different ones")
	s.StringVar(&f.size, "size", "", "size of the disk (default: what it takes)")
	s.StringVar(&f.espSize, "esp-size", "", "size of the EFI system partition")
	s.StringVar(&f.stateSize, "state-size", "", "least size of the state partition")
	s.StringArrayVar(&f.partitionSizes, "partition-size", nil, "size of each partition of a role, as ROLE=SIZE (default: twice the image); repeatable")
	s.StringArrayVar(&f.stateFiles, "state", nil, "file on the state partition, as PATH=FILE (config.d/10-site.yaml=site.yaml); repeatable")
	s.IntVar(&f.sector, "sector-size", 512, "512 or 4096")
	for _, name := range []string{"output", "loader"} {
		_ = c.MarkFlagRequired(name)
	}
	return c
}

// diskResult is what disk-image --json prints.
type diskResult struct {
	Output  string `json:"output"`
	Size    int64  `json:"size"`
	Product string `json:"product"`
	Version string `json:"version"`
	Serial  uint64 `json:"serial"`
}

func (a *app) diskImage(ctx context.Context, f diskFlags, args []string) error {
	r, err := a.open()
	if err != nil {
		return err
	}
	if err := f.outputFree(); err != nil {
		return err
	}
	rel, err := r.Published(f.product, strings.Join(args, ""))
	if err != nil {
		return err
	}
	if rel.Withdrawn != "" {
		return repo.BadInput("%s %s was withdrawn: %s", rel.Product, rel.Version, rel.Withdrawn)
	}
	spec, err := f.spec(rel)
	if err != nil {
		return err
	}
	if err := fillSpec(ctx, r, rel, f, &spec); err != nil {
		return err
	}
	if err := spec.Check(); err != nil {
		return repo.BadInput("%w", err)
	}
	a.note(fmt.Sprintf("building %s from %s %s", f.output, rel.Product, rel.Version))
	if err := diskimage.Build(ctx, spec, f.output); err != nil {
		return err
	}
	st, err := os.Stat(f.output)
	if err != nil {
		return err
	}
	a.say("%s: %s, with %s %s (serial %d) in slot A.", f.output, cli.Bytes(st.Size()), rel.Product, rel.Version, rel.Serial)
	return a.result(diskResult{Output: f.output, Size: st.Size(), Product: rel.Product, Version: rel.Version, Serial: rel.Serial})
}

// outputFree refuses to put the image where it would destroy something else: an image that is there already is replaced.
func (f diskFlags) outputFree() error {
	if dir, err := os.Stat(filepath.Dir(f.output)); err != nil {
		return fmt.Errorf("cannot write --output %s: %w", f.output, err)
	} else if !dir.IsDir() {
		return repo.BadInput("--output %s: %s is no directory", f.output, filepath.Dir(f.output))
	}
	out, err := os.Stat(f.output)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot write --output %s: %w", f.output, err)
	}
	if !out.Mode().IsRegular() {
		return repo.BadInput("--output %s: it is no ordinary file: make the image in one, and write that to the disk (dd, or any imaging program)", f.output)
	}
	for _, in := range f.inputs() {
		if st, err := os.Stat(in); err == nil && os.SameFile(st, out) {
			return repo.BadInput("--output %s: it is read to make the image, so the image must not replace it", f.output)
		}
	}
	return nil
}

// inputs returns the names of the files that are read.
func (f diskFlags) inputs() []string {
	names := []string{f.loader}
	for _, text := range f.stateFiles {
		_, file, _ := strings.Cut(text, "=")
		names = append(names, file)
	}
	return names
}

// spec reads the flags.
func (f diskFlags) spec(rel release.Release) (diskimage.Spec, error) {
	s := diskimage.Spec{Seed: or(f.seed, rel.Product), SectorSize: f.sector}
	for _, x := range []struct {
		flag, text string
		to         *int64
	}{{"size", f.size, &s.Size}, {"esp-size", f.espSize, &s.ESPSize}, {"state-size", f.stateSize, &s.StateSize}} {
		if x.text == "" {
			continue
		}
		n, err := parseSize(x.text)
		if err != nil {
			return s, repo.BadInput("--%s: %w", x.flag, err)
		}
		*x.to = n
	}
	for _, im := range rel.Images {
		if im.Kind == release.KindPartition {
			s.Roles = append(s.Roles, diskimage.Role{Name: im.Role})
		}
	}
	return s, f.partitions(s.Roles)
}

func (f diskFlags) partitions(roles []diskimage.Role) error {
	for _, text := range f.partitionSizes {
		name, size, _ := strings.Cut(text, "=")
		n, err := parseSize(size)
		if err != nil {
			return repo.BadInput("--partition-size %s: %w", text, err)
		}
		found := false
		for i := range roles {
			if string(roles[i].Name) == name {
				roles[i].Size, found = n, true
			}
		}
		if !found {
			return repo.BadInput("--partition-size %s: the release has no partition of role %q, only of %s", text, name, roleNames(roles))
		}
	}
	return nil
}

func roleNames(roles []diskimage.Role) string {
	var names []string
	for _, r := range roles {
		names = append(names, strconv.Quote(string(r.Name)))
	}
	return strings.Join(names, ", ")
}

// parseSize reads a number of bytes with a unit.
func parseSize(text string) (int64, error) {
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if digits, ok := strings.CutSuffix(text, unit); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
			if err == nil && n > 0 && n < 1<<20 {
				return n << (10 * (i + 1)), nil
			}
		}
	}
	return 0, fmt.Errorf("%q is no size: write it with a unit, as in 512MiB or 4GiB", text)
}

// fillSpec says what lies in slot A, on the EFI system partition and on the state partition.
func fillSpec(ctx context.Context, r *repo.Repository, rel release.Release, f diskFlags, s *diskimage.Spec) error {
	boot := diskimage.Boot{Architecture: rel.Architecture, Config: bootloader.Snippet()}
	var err error
	if boot.Loader, err = readLoader(f.loader); err != nil {
		return err
	}
	if boot.Env, err = bootloader.InitialEnv(updater.A); err != nil {
		return err
	}
	partUUID := func(slot updater.Slot, role release.Role) (string, error) { return s.PartUUID(slot, role), nil }
	if boot.EntryA, err = bootloader.Entry(updater.A, rel.Entry(), partUUID); err != nil {
		return err
	}
	// Nothing is in slot B: its entry starts nothing, and keeps the place of the one to come.
	boot.EntryB = bootloader.BlankEntry()
	boot.ImagesA = fillRoles(ctx, r, rel, s.Roles)
	if s.ESP, err = diskimage.ESPFiles(boot); err != nil {
		return err
	}
	s.State, err = f.state()
	return err
}

// fillRoles gives each partition role its image, and returns the images that are files.
func fillRoles(ctx context.Context, r *repo.Repository, rel release.Release, roles []diskimage.Role) []diskimage.File {
	var files []diskimage.File
	for _, im := range rel.Images {
		c := diskimage.Content{
			Size: im.Size, SHA256: im.SHA256,
			Open: func() (io.ReadCloser, error) { return r.ReadImage(ctx, im) },
		}
		if im.Kind == release.KindFile {
			files = append(files, diskimage.File{Path: im.Name, Content: c})
		}
		for i := range roles {
			if roles[i].Name == im.Role {
				roles[i].A = c
			}
		}
	}
	return files
}

func (f diskFlags) state() ([]diskimage.File, error) {
	var files []diskimage.File
	for _, text := range f.stateFiles {
		path, file, ok := strings.Cut(text, "=")
		if !ok || path == "" || file == "" {
			return nil, repo.BadInput("--state %s: write PATH=FILE", text)
		}
		c, err := fileContent(file)
		if err != nil {
			return nil, fmt.Errorf("cannot read the file for the state partition: %w", err)
		}
		files = append(files, diskimage.File{Path: path, Content: c})
	}
	return files, nil
}

// readLoader reads the EFI program of the boot loader.
func readLoader(name string) (diskimage.Content, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return diskimage.Content{}, fmt.Errorf("cannot read the boot loader: %w", err)
	}
	if !bytes.HasPrefix(data, []byte("MZ")) {
		return diskimage.Content{}, repo.BadInput("--loader %s: it is no EFI program: scripts/lib/grub-efi.sh makes one", name)
	}
	return diskimage.Bytes(data), nil
}

func fileContent(name string) (diskimage.Content, error) {
	data, err := os.ReadFile(name)
	return diskimage.Bytes(data), err
}
