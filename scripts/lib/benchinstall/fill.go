package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/internal/transport"
	"github.com/evenkeel-os/evenkeel/partitions"
	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

const rootRole = "root"

// filled is what one installation says of itself.
type filled struct {
	Stats   image.Stats `json:"stats"`
	Reading float64     `json:"reading_back_seconds"` // from the first byte that was read back to the end
	Peak    int64       `json:"peak_bytes"`           // of memory
}

// fill installs into slot b of a machine whose disk is given, from a pack that a server has.
func fill(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("fill", flag.ContinueOnError)
	var (
		root    = f.String("root", "", "directory with the machine's proc, sys and dev")
		disk    = f.String("disk", "", "block device")
		index   = f.String("index", "", "file with the index")
		url     = f.String("url", "", "of the directory that has the pack")
		pack    = f.String("pack", "", "its name there")
		profile = f.String("cpuprofile", "", "write a profile to `file`")
	)
	if err := f.Parse(args); err != nil {
		return err
	}
	if *profile != "" {
		stop, err := startProfile(*profile)
		if err != nil {
			return err
		}
		defer stop()
	}
	out, err := install(ctx, *root, *disk, *index, *url, *pack)
	if err != nil {
		return err
	}
	if out.Peak, err = peakOf("self"); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

func startProfile(path string) (stop func(), err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}, nil
}

func install(ctx context.Context, root, disk, index, url, pack string) (out filled, err error) {
	ix, err := readIndex(index)
	if err != nil {
		return out, err
	}
	slots, err := partitions.New(slotOptions(root, disk))
	if err != nil {
		return out, err
	}
	t, err := transport.New(transport.Options{Mirrors: []string{url}, Proxy: "none"})
	if err != nil {
		return out, err
	}
	var began time.Time
	filler := updater.Filler{
		Source: source{ix: ix, t: t, pack: pack}, Slots: slots, Prune: slots.Prune,
		OnProgress: func(p updater.Progress) {
			if out.Stats = p.Bytes.Stats; p.Bytes.Verified > 0 && began.IsZero() {
				began = time.Now()
			}
		},
	}
	im := release.Image{Role: rootRole, Kind: release.KindPartition, Size: ix.Size(), SHA256: release.Digest(ix.SHA256())}
	err = filler.Install(ctx, updater.B, release.Release{Version: "2", Images: []release.Image{im}})
	out.Reading = time.Since(began).Seconds()
	return out, err
}

func slotOptions(root, disk string) partitions.Options {
	return partitions.Options{
		Root: root, Disk: disk,
		Roles: []partitions.Role{{
			Name: rootRole, Kind: release.KindPartition,
			A: partitions.Place{Partition: partitions.Selector{Label: labelA}},
			B: partitions.Place{Partition: partitions.Selector{Label: labelB}},
		}},
	}
}

// source is the updater.Source of one image that needs no trust: the measurement begins where TUF ends.
type source struct {
	updater.Source
	ix   *image.Index
	t    *transport.Transport
	pack string
}

// Open implements updater.Source.
func (s source) Open(ctx context.Context, _ release.Image) (*image.Index, image.Blob, []image.DeltaRef, error) {
	b, err := s.t.Blob(ctx, s.pack, s.ix.PackSize())
	return s.ix, b, nil, err
}

// peakOf returns the most memory that a process ever had resident, in bytes.
func peakOf(pid string) (int64, error) {
	text, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 53)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("the kernel does not tell the memory of process %s", pid)
}
