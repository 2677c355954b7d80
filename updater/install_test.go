package updater_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

// shelf is a Source and the Slots of one machine, in memory.
type shelf struct {
	indexes map[release.Role]*image.Index
	packs   map[release.Role][]byte
	disks   map[string]*fixtures.Disk // by slot and role
	pruned  []release.Image
	fetched int64
	openErr error
}

func key(s updater.Slot, r release.Role) string { return string(s) + string(r) }

func (w *shelf) Refresh(context.Context) error                      { return nil }
func (w *shelf) Offers(context.Context) ([]release.Release, error)  { return nil, nil }
func (w *shelf) Running() (updater.Slot, error)                     { return updater.A, nil }
func (w *shelf) prune(_ updater.Slot, images []release.Image) error { w.pruned = images; return nil }

func (w *shelf) Open(_ context.Context, im release.Image) (*image.Index, image.Blob, []image.DeltaRef, error) {
	return w.indexes[im.Role], packBlob{w, w.packs[im.Role]}, nil, w.openErr
}

func (w *shelf) Base(s updater.Slot, im release.Image) (updater.ReaderAtCloser, error) {
	d, ok := w.disks[key(s, im.Role)]
	if !ok {
		return nil, errors.New("there is no such place")
	}
	return d, nil
}

func (w *shelf) Target(s updater.Slot, im release.Image) (updater.TargetCloser, error) {
	d, ok := w.disks[key(s, im.Role)]
	if !ok {
		return nil, errors.New("there is no such place")
	}
	return d, nil
}

type packBlob struct {
	w    *shelf
	data []byte
}

func (b packBlob) Size() int64 { return int64(len(b.data)) }

func (b packBlob) Range(_ context.Context, off, n int64) (io.ReadCloser, error) {
	b.w.fetched += n
	return io.NopCloser(bytes.NewReader(b.data[off : off+n])), nil
}

// newShelf has a release of a root and a kernel; slot a holds the first half of the root already.
func newShelf(t *testing.T) (*shelf, release.Release) {
	t.Helper()
	w := &shelf{indexes: map[release.Role]*image.Index{}, packs: map[release.Role][]byte{}, disks: map[string]*fixtures.Disk{}}
	rel := release.Release{Product: "p", Version: "v1", Serial: 10}
	for i, role := range []release.Role{"root", "kernel"} {
		content := make([]byte, 6*image.MinSize)
		for j := range content {
			content[j] = byte(j>>8) ^ byte(j*(i+3))
		}
		var pack bytes.Buffer
		ix, err := image.Build(t.Context(), bytes.NewReader(content), &pack, image.BuildOptions{SegmentSize: image.MinSize, FrameSize: image.MinSize, Level: 1})
		if err != nil {
			t.Fatal(err)
		}
		w.indexes[role], w.packs[role] = ix, pack.Bytes()
		rel.Images = append(rel.Images, release.Image{Role: role, Size: ix.Size(), SHA256: ix.SHA256()})
		for _, s := range []updater.Slot{updater.A, updater.B} {
			w.disks[key(s, role)] = fixtures.NewDisk(int64(len(content)), 4096)
		}
		if role == "root" {
			if _, err := w.disks[key(updater.A, role)].WriteAt(content[:3*image.MinSize], 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	return w, rel
}

func (w *shelf) filler() *updater.Filler {
	return &updater.Filler{Source: w, Slots: w, Prune: w.prune}
}

func (w *shelf) holds(s updater.Slot, rel release.Release) error {
	for _, im := range rel.Images {
		got := w.disks[key(s, im.Role)].Stable()[:im.Size]
		if sha256.Sum256(got) != [32]byte(im.SHA256) {
			return fmt.Errorf("the disk does not hold image %q", im.Role)
		}
	}
	return nil
}

func TestInstallTakesTheCheapestRoute(t *testing.T) {
	w, rel := newShelf(t)
	f := w.filler()
	var seen []updater.Progress
	f.OnProgress = func(p updater.Progress) { seen = append(seen, p) }
	plan, err := f.Plan(t.Context(), updater.B, rel)
	if err != nil {
		t.Fatal(err)
	}
	if got := plan[0].Stats; got.Copied != 3*image.MinSize || got.Written != 6*image.MinSize || plan[1].Stats.Copied != 0 {
		t.Errorf("plan %+v: half of the root is to be copied, and nothing of the kernel", plan)
	}
	if w.disks["broot"].Stats().Writes+w.disks["bkernel"].Stats().Writes > 0 || w.fetched > 0 {
		t.Error("Plan wrote or fetched")
	}
	if err := f.Install(t.Context(), updater.B, rel); err != nil {
		t.Fatal(err)
	}
	if err := w.holds(updater.B, rel); err != nil {
		t.Error(err)
	}
	if want := int64(len(w.packs["root"])/2 + len(w.packs["kernel"])); w.fetched > want+image.MinSize {
		t.Errorf("fetched %d bytes, want about %d: the rest is in slot a", w.fetched, want)
	}
	if last := seen[len(seen)-1]; last.Role != "kernel" || last.Image != 2 || last.Images != 2 || last.Bytes.Verified != 6*image.MinSize || last.Slot != updater.B {
		t.Errorf("last progress %+v", last)
	}
	if !slices.EqualFunc(w.pruned, rel.Images, func(a, b release.Image) bool { return a.Role == b.Role }) {
		t.Errorf("pruned %v", w.pruned)
	}
}

func TestInstallAgainWritesNothing(t *testing.T) {
	w, rel := newShelf(t)
	if err := w.filler().Install(t.Context(), updater.B, rel); err != nil {
		t.Fatal(err)
	}
	before, fetched := w.disks["broot"].Stats().Writes, w.fetched
	if err := w.filler().Install(t.Context(), updater.B, rel); err != nil {
		t.Fatal(err)
	}
	if w.disks["broot"].Stats().Writes != before || w.fetched != fetched {
		t.Error("a second install wrote or fetched what was there")
	}
}

func TestInstallRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*shelf, *release.Release, *updater.Filler)
		says  []string
	}{
		{"an index of another image", func(w *shelf, _ *release.Release, _ *updater.Filler) { w.indexes["root"] = w.indexes["kernel"] }, []string{`"root"`, "v1", "SHA-256"}},
		{"an index of another size", func(_ *shelf, r *release.Release, _ *updater.Filler) { r.Images[1].Size-- }, []string{`"kernel"`, "bytes"}},
		{"no place for a role", func(w *shelf, _ *release.Release, _ *updater.Filler) { delete(w.disks, "bkernel") }, []string{`"kernel"`, "no such place"}},
		{"a source that fails", func(w *shelf, _ *release.Release, _ *updater.Filler) { w.openErr = errors.New("it is gone") }, []string{`"root"`, "it is gone"}},
		{"a broken pack", func(w *shelf, _ *release.Release, _ *updater.Filler) { clear(w.packs["kernel"]) }, []string{`"kernel"`}},
		{"no room", func(_ *shelf, _ *release.Release, f *updater.Filler) {
			f.Prune = func(updater.Slot, []release.Image) error { return errors.New("it is full") }
		}, []string{"slot b", "it is full"}},
		{"a limit for the whole release", func(w *shelf, _ *release.Release, f *updater.Filler) {
			f.Limits.MaxFetch = int64(len(w.packs["root"])/2 + len(w.packs["kernel"])/2)
		}, []string{`"kernel"`, "limit"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, rel := newShelf(t)
			f := w.filler()
			c.spoil(w, &rel, f)
			err := f.Install(t.Context(), updater.B, rel)
			if err == nil {
				t.Fatal("it was installed")
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("error %q does not say %q", err, s)
				}
			}
		})
	}
}

func TestCheckOfASlot(t *testing.T) {
	w, rel := newShelf(t)
	f := w.filler()
	if err := f.Install(t.Context(), updater.B, rel); err != nil {
		t.Fatal(err)
	}
	rec := updater.SlotRecord{Images: rel.Images}
	if err := f.Check(t.Context(), updater.B, rec); err != nil {
		t.Errorf("a slot as it was installed: %v", err)
	}
	if err := f.Check(t.Context(), updater.A, updater.SlotRecord{}); err != nil {
		t.Errorf("the factory's slot: %v", err)
	}
	w.disks["bkernel"].Corrupt(5*image.MinSize, 1)
	w.disks["bkernel"].DropPages()
	if err := f.Check(t.Context(), updater.B, rec); err == nil || !strings.Contains(err.Error(), `"kernel"`) {
		t.Errorf("a damaged kernel: %v", err)
	}
	w.disks["broot"].BadReads(4096, 4096)
	if err := f.Check(t.Context(), updater.B, rec); err == nil || !strings.Contains(err.Error(), "cannot read") {
		t.Errorf("a root with a dead sector: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Check(cancelled, updater.B, rec); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
