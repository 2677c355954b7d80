package image

import (
	"context"
	"fmt"
	"io"
)

// Copy returns a route that takes segments from base, the same image's place in the running slot, where they stand at the
// same offset. Cost reads 4 KiB of base to see whether a segment may be there; errors of base only mean that it is not.
func Copy(ix *Index, base io.ReaderAt) Route { return &copied{ix, base} }

type copied struct {
	ix   *Index
	base io.ReaderAt
}

// Cost implements Route.
func (c *copied) Cost(seg int) (Cost, bool) {
	off, n := c.ix.Segment(seg)
	head := make([]byte, min(n, hintSpan))
	if _, err := readFull(c.base, head, off); err != nil || !c.ix.mayBeRight(seg, head) {
		return Cost{}, false
	}
	return Cost{Read: n}, true
}

// Fetch implements Route.
func (c *copied) Fetch(ctx context.Context, segs []int, put func(seg int, b []byte) error) error {
	b := aligned(c.ix.segment)
	for _, seg := range segs {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		off, n := c.ix.Segment(seg)
		if _, err := readFull(c.base, b[:n], off); err != nil {
			return fmt.Errorf("cannot copy segment %d from the base: %w", seg, err)
		}
		if err := put(seg, b[:n]); err != nil {
			return err
		}
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
