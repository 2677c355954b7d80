package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Copy returns a route that takes segments from base, the same image's place in the running slot, where they stand at the
// same offset. Cost reads 4 KiB of base to see whether a segment may be there; errors of base only mean that it is not.
func Copy(ix *Index, base io.ReaderAt) Route {
	return &copied{ix: ix, base: base, spare: make(chan []carried, 1)}
}

type copied struct {
	ix    *Index
	base  io.ReaderAt
	spare chan []carried // for the next Fetch, as in pack
	heads sync.Pool      // of *[hintSpan]byte: so much garbage for each segment would let memory grow with the image
}

// Cost implements Route.
func (c *copied) Cost(seg int) (Cost, bool) {
	off, n := c.ix.Segment(seg)
	b, ok := c.heads.Get().(*[hintSpan]byte)
	if !ok {
		b = new([hintSpan]byte)
	}
	defer c.heads.Put(b)
	head := b[:min(n, hintSpan)]
	if _, err := readFull(c.base, head, off); err != nil || !c.ix.mayBeRight(seg, head) {
		return Cost{}, false
	}
	return Cost{Read: n}, true
}

// Fetch implements Route. What is not there after all does not keep the rest from coming.
func (c *copied) Fetch(ctx context.Context, segs []int, put func(seg int, b []byte) error) error {
	f := &copying{copied: c, segs: segs, put: put}
	carriers := c.carriers()
	defer c.keep(carriers)
	err := ordered(ctx, carriers, copiers, f.take, f.work, f.give)
	if err == nil {
		err = f.missing
	}
	return err
}

func (c *copied) carriers() []carried {
	select {
	case cs := <-c.spare:
		return cs
	default:
		return make([]carried, copiers)
	}
}

func (c *copied) keep(cs []carried) {
	select {
	case c.spare <- cs:
	default:
	}
}

// copiers is how many segments are copied at a time.
const copiers = 2

// copying is one Fetch of a copied.
type copying struct {
	*copied
	segs    []int // that are still to come
	put     func(seg int, b []byte) error
	missing error // why a segment was not there
}

// carried is a segment on its way.
type carried struct {
	seg     int
	b       []byte
	missing error
}

func (f *copying) take(_ context.Context, u *carried) (bool, error) {
	if len(f.segs) == 0 {
		return false, nil
	}
	u.seg, f.segs = f.segs[0], f.segs[1:]
	return true, nil
}

func (f *copying) work(_ context.Context, u *carried) error {
	if u.b == nil {
		u.b = aligned(f.ix.segment)
	}
	off, n := f.ix.Segment(u.seg)
	if _, u.missing = readFull(f.base, u.b[:n], off); u.missing != nil {
		return nil
	}
	err := f.put(u.seg, u.b[:n])
	if wrong := (*wrongBytes)(nil); errors.As(err, &wrong) {
		u.missing = err
		return nil
	}
	return err
}

func (f *copying) give(u *carried) error {
	if u.missing != nil {
		f.missing = fmt.Errorf("cannot copy segment %d from the base: %w", u.seg, u.missing)
	}
	return nil
}

// readFull reads all of b, or fails.
func readFull(r io.ReaderAt, b []byte, off int64) (int, error) {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return n, nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return n, unexpected(err)
}
