package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
)

const (
	// scouts is how many segments of the target are looked at at a time.
	scouts = 2
	// pieceSize is how much of a device is read at a time, in bytes.
	pieceSize = 512 << 10
)

// finding is what a look at a segment of the target found.
type finding int8

const (
	wrong finding = iota
	right
)

// scout looks at the target, segment by segment, and says what has to be done.
type scout struct {
	ix  *Index
	dst io.ReaderAt // nil: nothing is there
	// zero makes a segment zeros. It is called by several goroutines.
	zero func(off, n int64) error
	// found gets every segment, in order.
	found func(seg int, is finding) error
}

// look is the memory of one look.
type look struct {
	seg   int
	is    finding
	piece []byte
	hash  hash.Hash
}

func (s *scout) run(ctx context.Context) error {
	next := 0
	take := func(_ context.Context, l *look) (bool, error) {
		l.seg = next
		next++
		return l.seg < s.ix.Segments(), nil
	}
	return ordered(ctx, make([]look, scouts), scouts, take, s.look, func(l *look) error { return s.found(l.seg, l.is) })
}

// look finds out what is there. What should be zeros and is not, is zeroed at once, since that takes nothing from elsewhere.
func (s *scout) look(ctx context.Context, l *look) (err error) {
	l.is = wrong
	if s.dst != nil {
		if l.is, err = s.compare(ctx, l); err != nil {
			return err
		}
	}
	if l.is == wrong && s.ix.Zero(l.seg) {
		off, n := s.ix.Segment(l.seg)
		return s.zero(off, n)
	}
	return nil
}

// compare reads the segment as far as it takes to know.
func (s *scout) compare(ctx context.Context, l *look) (finding, error) {
	if l.piece == nil {
		l.piece, l.hash = aligned(pieceSize), sha256.New()
	}
	off, n := s.ix.Segment(l.seg)
	head := l.piece[:min(n, hintSpan)]
	if err := readTarget(s.dst, head, off); err != nil || !s.ix.mayBeRight(l.seg, head) {
		return wrong, err
	}
	l.hash.Reset()
	zero := s.ix.Zero(l.seg)
	for end := off + n; off < end; off += pieceSize {
		if err := context.Cause(ctx); err != nil {
			return wrong, err
		}
		b := l.piece[:min(pieceSize, end-off)]
		if err := readTarget(s.dst, b, off); err != nil {
			return wrong, err
		}
		if zero && !allZero(b) {
			return wrong, nil
		}
		if !zero {
			l.hash.Write(b)
		}
	}
	if zero || digest(l.hash.Sum(nil)) == s.ix.segments[l.seg].sum {
		return right, nil
	}
	return wrong, nil
}

func readTarget(r io.ReaderAt, b []byte, off int64) error {
	n, err := readFull(r, b, off)
	if err != nil {
		return &TargetError{Op: "read", Offset: off + int64(n), Err: err}
	}
	return nil
}

// errNoRoute is for callers that gave no Pack.
var errNoRoute = errors.New("no route has it")
