package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/evenkeel-os/evenkeel/image"
)

// bench is one measurement.
type bench struct {
	self    string // this program
	dir     string // DIR/IMAGE.img, .index and .zst
	image   string
	scratch string // where the disk is made
	label   string // what the image is, for people
	big     string // a larger image, for memory alone; may be empty
	runs    int
	names   []string // contenders to be measured; none: all
	// profile is where the last installation leaves its CPU profile; empty: nowhere.
	profile string
	out     report
	server  *server
}

// run makes a disk and lets the contenders take turns.
func run(ctx context.Context, args []string) (err error) {
	b := &bench{}
	f := flag.NewFlagSet("run", flag.ContinueOnError)
	f.StringVar(&b.dir, "dir", "", "directory with the images")
	f.StringVar(&b.scratch, "disk-dir", "", "`directory` for the file under the loop device, on the disk that is to be measured (default: that of the images)")
	f.StringVar(&b.image, "image", "", "name of the image there, without .img")
	f.StringVar(&b.label, "label", "", "what the image is")
	f.StringVar(&b.big, "big", "", "name of a larger image, to measure memory")
	f.StringVar(&b.profile, "profile", "", "leave a CPU profile of the last installation in a `file`")
	f.IntVar(&b.runs, "runs", 7, "how many `times` each contender runs")
	names := f.String("only", "", "contenders, separated by commas")
	asJSON := f.Bool("json", false, "print everything as JSON")
	check := f.Bool("check", false, "fail where a goal is missed")
	if err := f.Parse(args); err != nil {
		return err
	}
	if b.runs < 1 {
		return errors.New("--runs: want at least 1")
	}
	b.scratch = cmp.Or(b.scratch, b.dir)
	if *names != "" {
		b.names = strings.Split(*names, ",")
	}
	if err := b.measure(ctx); err != nil {
		return err
	}
	if *asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		err = e.Encode(b.out)
	} else {
		b.out.print(os.Stdout)
	}
	if *check && len(b.out.Missed) > 0 {
		err = errors.Join(err, errors.New(strings.Join(b.out.Missed, "; ")))
	}
	return err
}

func (b *bench) measure(ctx context.Context) (err error) {
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	b.out = report{Machine: machineText(), Image: b.label, Runs: b.runs, Load: load()}
	if b.server, err = startServer(ctx, b.self, b.dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.server.stop()) }()
	if b.out.Size, b.out.Pack, err = b.sizes(b.image); err != nil {
		return err
	}
	if err := b.image1(ctx); err != nil {
		return err
	}
	if b.big != "" && b.wanted("evenkeel-big") {
		if err := b.bigImage(ctx); err != nil {
			return err
		}
	}
	b.out.Load += " to " + load()
	b.out.conclude()
	return nil
}

// sizes returns how large an image and its pack are.
func (b *bench) sizes(name string) (size, pack int64, err error) {
	for suffix, n := range map[string]*int64{".img": &size, ".zst": &pack} {
		info, err := os.Stat(b.path(name + suffix))
		if err != nil {
			return 0, 0, err
		}
		*n = info.Size()
	}
	return size, pack, nil
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// image1 measures everything about the image itself, on one disk.
func (b *bench) image1(ctx context.Context) (err error) {
	d, err := newDisk(ctx, b.scratch, slotSize(b.out.Size))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := other(d, labelA); err != nil {
		return err
	}
	full := b.contenders(d)
	if err := b.turns(ctx, d, "other data", other, full); err != nil {
		return err
	}
	self := b.fill(d, b.image)
	for _, v := range []struct {
		name, what, target string
		before             content
		prepare            func() error
	}{
		{"evenkeel-empty", "the same onto a slot that is empty", "empty", empty, nil},
		{"evenkeel-again", "the same onto a slot that holds the image", "the image", holding(b.path(b.image + ".img")), nil},
		{"evenkeel-copy", "the same where the running slot holds the image", "other data, and the image in the running slot", other, func() error {
			return holding(b.path(b.image+".img"))(d, labelA)
		}},
	} {
		if v.prepare != nil && b.wanted(v.name) {
			if err := v.prepare(); err != nil {
				return err
			}
		}
		self.Name, self.What = v.name, v.what
		if err := b.turns(ctx, d, v.target, v.before, []contender{self}); err != nil {
			return err
		}
	}
	return nil
}

// bigImage measures the memory that a larger image takes.
func (b *bench) bigImage(ctx context.Context) (err error) {
	if b.out.BigSize, _, err = b.sizes(b.big); err != nil {
		return err
	}
	d, err := newDisk(ctx, b.scratch, slotSize(b.out.BigSize))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	c := b.fill(d, b.big)
	c.Name, c.What = "evenkeel-big", fmt.Sprintf("an image of %.0f MiB, to see its memory", inMiB(b.out.BigSize))
	runs := b.runs
	defer func() { b.runs = runs }()
	b.runs = min(runs, 3)
	return b.turns(ctx, d, "empty", empty, []contender{c})
}

// slotSize is a slot that an image of size bytes fills but for the last bytes.
func slotSize(size int64) int64 { return (size + 4*mib - 1) / (4 * mib) * (4 * mib) }

func (b *bench) contenders(d *disk) []contender {
	var (
		img   = "if=" + b.path(b.image+".img")
		dev   = "of=" + d.slot(labelB)
		fetch = []string{"curl", "--silent", "--show-error", "--fail", "--noproxy", "*", b.server.url + "/" + b.image + ".zst"}
		zstd  = []string{"zstd", "--decompress", "--stdout", "--quiet"}
		dd    = func(more ...string) []string { return append([]string{"dd", dev, "bs=1M", "status=none"}, more...) }
	)
	return []contender{
		{Name: "dd", What: "dd conv=fsync of the raw image", Pipes: [][]string{dd(img, "conv=fsync")}},
		{Name: "dd-direct", What: "the same past the page cache (iflag=direct oflag=direct)", Pipes: [][]string{dd(img, "iflag=direct", "oflag=direct", "conv=fsync")}},
		{Name: "pipe", What: "curl | zstd -d | dd conv=fsync, nothing verified", Pipes: [][]string{fetch, zstd, dd("iflag=fullblock", "conv=fsync")}},
		{Name: "pipe-direct", What: "the same past the page cache (oflag=direct)", Pipes: [][]string{fetch, zstd, dd("iflag=fullblock", "oflag=direct", "conv=fsync")}},
		b.fill(d, b.image),
	}
}

// fill is Evenkeel itself.
func (b *bench) fill(d *disk, name string) contender {
	args := []string{
		b.self, "fill", "--root", d.root, "--disk", d.dev, "--index", b.path(name + ".index"), "--url", b.server.url, "--pack", name + ".zst",
	}
	if b.profile != "" {
		args = append(args, "--cpuprofile", b.profile)
	}
	return contender{
		Name: "evenkeel", What: "Evenkeel: verified before it is written, read back and verified again", Self: true,
		Pipes: [][]string{args},
	}
}

func (b *bench) wanted(name string) bool { return len(b.names) == 0 || slices.Contains(b.names, name) }

// turns lets contenders run in turn, another one first in each round, each onto a slot with the same content before.
func (b *bench) turns(ctx context.Context, d *disk, target string, before content, all []contender) error {
	all = slices.DeleteFunc(all, func(c contender) bool { return !b.wanted(c.Name) })
	results := make([]result, len(all))
	for i, c := range all {
		results[i] = result{Name: c.Name, What: c.What, Target: target}
	}
	for round := range b.runs {
		for turn := range all {
			i := (turn + round) % len(all)
			if err := before(d, labelB); err != nil {
				return err
			}
			if err := d.settle(); err != nil {
				return err
			}
			s, err := all[i].run(ctx)
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "%d/%d %s: %s, load %s\n", round+1, b.runs, all[i].Name, s, load())
			results[i].Samples = append(results[i].Samples, s)
			if round == 0 {
				if err := b.verify(ctx, d, all[i]); err != nil {
					return err
				}
			}
		}
	}
	b.out.Results = append(b.out.Results, results...)
	return nil
}

// verify compares the slot with the image: a contender that does not do the work is not faster.
func (b *bench) verify(ctx context.Context, d *disk, c contender) error {
	name := b.image
	if c.Name == "evenkeel-big" {
		name = b.big
	}
	ix, err := readIndex(b.path(name + ".index"))
	if err != nil {
		return err
	}
	f, err := os.OpenFile(d.slot(labelB), os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := image.Verify(ctx, ix, f); err != nil {
		return fmt.Errorf("%s did not install the image: %w", c.Name, err)
	}
	return nil
}

func load() string {
	first, _, _ := strings.Cut(readLine("/proc/loadavg"), " ")
	return first
}

// machineText says what this was measured on.
func machineText() string {
	cpu := "unknown processor"
	for line := range strings.Lines(readLine("/proc/cpuinfo")) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			cpu = strings.TrimSpace(value)
		}
	}
	return fmt.Sprintf("%d cores (%s), Linux %s, %s", runtime.NumCPU(), cpu, readLine("/proc/sys/kernel/osrelease"), runtime.Version())
}
