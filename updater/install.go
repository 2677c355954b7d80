package updater

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/release"
)

// Filler is the Installer: image after image, it opens what the release names, and has the slot filled on the cheapest
// routes there are. It remembers nothing; what is right in the slot already is the slot's to say.
type Filler struct {
	Source Source
	Slots  Slots
	Limits image.Limits // MaxFetch is for a whole release
	// Prune removes from a slot what only other releases need, before the first image is written. May be nil.
	Prune func(Slot, []release.Image) error
	// OnProgress hears how far each image is. It must not block for long. May be nil.
	OnProgress func(Progress)
}

var _ Installer = (*Filler)(nil)

// Progress says how far an install is.
type Progress struct {
	Version string         `json:"version"`
	Slot    Slot           `json:"slot"`
	Role    release.Role   `json:"role"`
	Image   int            `json:"image"`  // from 1
	Images  int            `json:"images"` // of the release
	Bytes   image.Progress `json:"bytes"`  // of this image
}

// Install implements Installer.
func (f *Filler) Install(ctx context.Context, s Slot, rel release.Release) error {
	if f.Prune != nil {
		if err := f.Prune(s, rel.Images); err != nil {
			return fmt.Errorf("cannot make room in slot %s: %w", s, err)
		}
	}
	limits := f.Limits
	for i, im := range rel.Images {
		report := func(p image.Progress) {
			if f.OnProgress != nil {
				f.OnProgress(Progress{Version: rel.Version, Slot: s, Role: im.Role, Image: i + 1, Images: len(rel.Images), Bytes: p})
			}
		}
		st, err := f.fill(ctx, s, im, limits, report)
		if err != nil {
			return fmt.Errorf("cannot install image %q of release %s: %w", im.Role, rel.Version, err)
		}
		if limits.MaxFetch > 0 {
			// What is used up must not become 0, which is no limit.
			limits.MaxFetch = max(1, limits.MaxFetch-st.Fetched)
		}
	}
	return nil
}

func (f *Filler) fill(ctx context.Context, s Slot, im release.Image, lim image.Limits, on func(image.Progress)) (st image.Stats, err error) {
	ix, pack, _, err := f.Source.Open(ctx, im)
	if err != nil {
		return st, err
	}
	if err := agrees(ix, im); err != nil {
		return st, err
	}
	target, err := f.Slots.Target(s, im)
	if err != nil {
		return st, err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	routes, done := f.routes(s, im, ix, pack)
	defer done()
	return image.Fill(ctx, ix, target, routes, lim, on)
}

// agrees: the release and the index are both signed, and must speak of the same image.
func agrees(ix *image.Index, im release.Image) error {
	if ix.Size() != im.Size || release.Digest(ix.SHA256()) != im.SHA256 {
		return fmt.Errorf("the release names an image of %d bytes with SHA-256 %s, and its index is of %d bytes with %s", im.Size, im.SHA256, ix.Size(), release.Digest(ix.SHA256()))
	}
	return nil
}

// routes lists the ways by which segments can come, and what closes them. The running slot is the cheapest base; where it
// has no such image, the pack is enough.
func (f *Filler) routes(s Slot, im release.Image, ix *image.Index, pack image.Blob) (rs []image.Route, done func()) {
	done = func() {}
	if base, err := f.Slots.Base(s.Other(), im); err == nil {
		rs = append(rs, image.Copy(ix, base))
		done = func() { _ = base.Close() }
	}
	return append(rs, image.Pack(ix, pack)), done
}

// RolePlan is what installing one image would take.
type RolePlan struct {
	Role  release.Role `json:"role"`
	Kind  release.Kind `json:"kind"`
	Stats image.Stats  `json:"bytes"`
}

// Plan says what Install would do. It writes nothing, and fetches nothing but indexes.
func (f *Filler) Plan(ctx context.Context, s Slot, rel release.Release) ([]RolePlan, error) {
	var all []RolePlan
	for _, im := range rel.Images {
		st, err := f.plan(ctx, s, im)
		if err != nil {
			return all, fmt.Errorf("cannot plan image %q of release %s: %w", im.Role, rel.Version, err)
		}
		all = append(all, RolePlan{Role: im.Role, Kind: im.Kind, Stats: st})
	}
	return all, nil
}

func (f *Filler) plan(ctx context.Context, s Slot, im release.Image) (image.Stats, error) {
	ix, pack, _, err := f.Source.Open(ctx, im)
	if err != nil {
		return image.Stats{}, err
	}
	if err := agrees(ix, im); err != nil {
		return image.Stats{}, err
	}
	var there io.ReaderAt
	if r, err := f.Slots.Base(s, im); err == nil {
		defer r.Close()
		there = r
	}
	routes, done := f.routes(s, im, ix, pack)
	defer done()
	return image.Plan(ctx, ix, there, routes)
}

// Check implements Installer: it reads every image that the record knows of the slot, and compares. A slot whose content
// was never installed by this agent, as the factory's, has nothing to be compared with.
func (f *Filler) Check(ctx context.Context, s Slot, rec SlotRecord) error {
	for _, im := range rec.Images {
		if err := f.check(ctx, s, im); err != nil {
			return fmt.Errorf("image %q of slot %s is not what was installed there: %w", im.Role, s, err)
		}
	}
	return nil
}

func (f *Filler) check(ctx context.Context, s Slot, im release.Image) error {
	r, err := f.Slots.Base(s, im)
	if err != nil {
		return err
	}
	defer r.Close()
	h := sha256.New()
	buf := make([]byte, image.DefaultSize)
	for off := int64(0); off < im.Size; off += int64(len(buf)) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p := buf[:min(int64(len(buf)), im.Size-off)]
		if n, err := r.ReadAt(p, off); n < len(p) {
			return fmt.Errorf("cannot read %d bytes at %d: %w", len(p), off, err)
		}
		_, _ = h.Write(p) // never fails
	}
	if sum := h.Sum(nil); !bytes.Equal(sum, im.SHA256[:]) {
		return fmt.Errorf("its SHA-256 is %x, not %s", sum, im.SHA256)
	}
	return nil
}
