package image

import (
	"context"
	"crypto/sha256"
	"io"
)

// verifyAhead is how many pieces are read ahead of the hashing, and readers how many at a time.
const (
	verifyAhead = 6
	readers     = 2
)

// Verify reads the whole image from r and compares it with the index. Its errors are MismatchError, TargetError with Op
// "read", and what ctx says.
//
// The digest of the whole image settles it: bytes that have it have the digest of every segment too. Only when they do not
// are the segments hashed one by one, to say where the damage is.
func Verify(ctx context.Context, ix *Index, r io.ReaderAt) error {
	return verify(ctx, ix, r, func(int64) {})
}

func verify(ctx context.Context, ix *Index, r io.ReaderAt, on func(n int64)) error {
	whole := sha256.New()
	err := readAll(ctx, r, ix.Size(), func(b []byte) error {
		whole.Write(b)
		on(int64(len(b)))
		return nil
	})
	if err != nil {
		return err
	}
	if digest(whole.Sum(nil)) == ix.sum {
		return nil
	}
	return locate(ctx, ix, r)
}

// part is a part of a device that was read.
type part struct {
	off int64
	b   []byte
}

// readAll gives the first size bytes of r, in order, reading ahead.
func readAll(ctx context.Context, r io.ReaderAt, size int64, give func(b []byte) error) error {
	next := int64(0)
	take := func(_ context.Context, p *part) (bool, error) {
		if next >= size {
			return false, nil
		}
		if p.b == nil {
			p.b = aligned(pieceSize)
		}
		p.off, p.b = next, p.b[:min(pieceSize, size-next)]
		next += pieceSize
		return true, nil
	}
	read := func(_ context.Context, p *part) error { return readTarget(r, p.b, p.off) }
	return ordered(ctx, make([]part, verifyAhead), readers, take, read, func(p *part) error { return give(p.b) })
}

// locate finds the segments that are wrong. It always returns an error.
func locate(ctx context.Context, ix *Index, r io.ReaderAt) error {
	bad := &MismatchError{Segment: -1}
	s := scout{
		ix: ix, dst: r,
		zero: func(int64, int64) error { return nil },
		found: func(seg int, is finding) error {
			if is == right {
				return nil
			}
			if bad.Count == 0 {
				bad.Segment = seg
				bad.Offset, _ = ix.Segment(seg)
			}
			bad.Count++
			return nil
		},
	}
	if err := s.run(ctx); err != nil {
		return err
	}
	return bad
}
