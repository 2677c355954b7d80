package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

const (
	// maxGap is pack.gap where bytes are not limited.
	maxGap = 64 << 10
	// maxRequest is how many bytes one request asks for at most.
	maxRequest = 128 << 20
	// decodeMemory bounds the chunks that are decoded at a time, in bytes of the image.
	decodeMemory = 8 << 20
)

// Pack returns the route that every segment has: frames of the pack, fetched in ranges. Frames that are neighbours, or
// nearly so, come in one request.
func Pack(ix *Index, blob Blob) Route { return newPack(ix, blob) }

type pack struct {
	ix      *Index
	blob    Blob
	gap     int64 // how many unwanted bytes are read to save a request
	largest int64 // chunk of the pack, in bytes
	workers int
	spare   chan *bench // for the next Fetch: memory that is left behind stays until it is collected
}

// bench is the memory of one Fetch.
type bench struct {
	units []unit
	dec   *zstd.Decoder
}

// unit is a chunk of the image on its way through Fetch.
type unit struct {
	want
	packed, raw []byte
	plain       []byte // what the frames hold, in raw
}

// want is what is wanted of one chunk of the image.
type want struct {
	segs        []int // ascending, all of one chunk
	frame, last int   // the frames that hold them, last included
	off, n      int64 // of these frames in the pack
}

func newPack(ix *Index, blob Blob) *pack {
	workers := int(max(2, min(4, decodeMemory/ix.chunk())))
	return &pack{ix: ix, blob: blob, gap: maxGap, largest: ix.largestChunk(), workers: workers, spare: make(chan *bench, 1)}
}

// largestChunk is the most bytes that the frames of one chunk have in the pack. Buffers have that size from the start: those
// that grew with what comes would leave memory behind at each step.
func (ix *Index) largestChunk() (largest int64) {
	perChunk := int(ix.chunk() / ix.frame)
	for i := 0; i < ix.Frames(); i += perChunk {
		largest = max(largest, ix.frames[min(i+perChunk, ix.Frames())]-ix.frames[i])
	}
	return largest
}

// metered returns the same route with every byte counted. Where bytes are limited, none is fetched in vain.
func (p *pack) metered(m *meter) Route {
	q := *p
	q.blob = meteredBlob{p.blob, m}
	if m.lim.MaxFetch > 0 {
		q.gap = 0
	}
	return &q
}

// Cost implements Route. Of a frame that holds several segments, each bears its share.
func (p *pack) Cost(seg int) (Cost, bool) {
	off, n := p.ix.Segment(seg)
	w := p.ix.want([]int{seg})
	_, last := span(w.last, p.ix.frame, p.ix.size)
	plain := int64(w.last-w.frame)*p.ix.frame + last
	return Cost{Fetch: (w.n*n + plain - 1) / plain}, off < p.ix.size
}

// want returns what is to be fetched for segs, all of one chunk.
func (ix *Index) want(segs []int) want {
	first, _ := ix.Segment(segs[0])
	off, n := ix.Segment(segs[len(segs)-1])
	w := want{segs: segs, frame: int(first / ix.frame), last: int((off + n - 1) / ix.frame)}
	w.off = ix.frames[w.frame]
	w.n = ix.frames[w.last+1] - w.off
	return w
}

// wants sorts segs by chunk.
func (ix *Index) wants(segs []int) []want {
	var ws []want
	perChunk := int(ix.chunk() / ix.segment)
	for len(segs) > 0 {
		n := 1
		for n < len(segs) && segs[n]/perChunk == segs[0]/perChunk {
			n++
		}
		ws = append(ws, ix.want(segs[:n]))
		segs = segs[n:]
	}
	return ws
}

// Fetch implements Route. Its errors are FetchError, CorruptError, and what put and ctx say.
func (p *pack) Fetch(ctx context.Context, segs []int, put func(seg int, b []byte) error) error {
	return p.fetch(ctx, segs, put, func(*unit) error { return nil })
}

// fetch is Fetch; done is handed one unit after the other, in order, when its segments were put.
func (p *pack) fetch(ctx context.Context, segs []int, put func(int, []byte) error, done func(*unit) error) error {
	if len(segs) == 0 {
		return nil
	}
	if got, want := p.blob.Size(), p.ix.PackSize(); got != want {
		return p.corrupt(segs[0], fmt.Errorf("it has %d bytes, its index says %d", got, want))
	}
	b, err := p.bench()
	if err != nil {
		return err
	}
	defer p.keep(b)
	s := &stream{blob: p.blob, gap: p.gap, largest: p.largest, wants: p.ix.wants(segs)}
	defer s.close()
	unpack := func(_ context.Context, u *unit) error { return p.unpack(b.dec, u, put) }
	return ordered(ctx, b.units, p.workers, s.next, unpack, done)
}

func (p *pack) bench() (*bench, error) {
	select {
	case b := <-p.spare:
		return b, nil
	default:
		dec, err := newDecoder(p.workers)
		return &bench{units: make([]unit, p.workers+1), dec: dec}, err
	}
}

func (p *pack) keep(b *bench) {
	select {
	case p.spare <- b:
	default:
		b.dec.Close()
	}
}

func (p *pack) corrupt(seg int, err error) error {
	w := p.ix.want([]int{seg})
	return &CorruptError{Segment: seg, Offset: w.off, Err: err}
}

// unpack decodes the frames of u and puts the segments that are wanted.
func (p *pack) unpack(dec *zstd.Decoder, u *unit, put func(seg int, b []byte) error) error {
	if err := p.decode(dec, u); err != nil {
		return err
	}
	base := int64(u.frame) * p.ix.frame
	for _, seg := range u.segs {
		off, n := p.ix.Segment(seg)
		err := put(seg, u.plain[off-base:][:n])
		if wrong := (*wrongBytes)(nil); errors.As(err, &wrong) {
			return p.corrupt(seg, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *pack) decode(dec *zstd.Decoder, u *unit) error {
	if u.raw == nil {
		u.raw = aligned(p.ix.chunk())
	}
	end := int64(0)
	for i := u.frame; i <= u.last; i++ {
		at, packed := p.ix.Frame(i)
		off, n := span(i, p.ix.frame, p.ix.size)
		// What the decoder writes behind the frame is overwritten by the next one.
		if err := decodeFrame(dec, u.packed[at-u.off:][:packed], u.raw[end:][:n]); err != nil {
			return p.corrupt(max(u.segs[0], int(off/p.ix.segment)), fmt.Errorf("frame %d: %w", i, err))
		}
		end += n
	}
	u.plain = u.raw[:end]
	return nil
}

// stream reads the packed bytes of one want after the other, in as few requests as possible.
type stream struct {
	blob     Blob
	gap      int64
	largest  int64 // want
	wants    []want
	body     io.ReadCloser
	pos, end int64 // of body, in the pack
}

// next reads the next want into u.
func (s *stream) next(ctx context.Context, u *unit) (bool, error) {
	if len(s.wants) == 0 {
		return false, nil
	}
	u.want = s.wants[0]
	if u.packed == nil {
		u.packed = make([]byte, s.largest)
	}
	err := s.read(ctx, u.packed[:u.n], u.off)
	s.wants = s.wants[1:]
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case errors.Is(err, ErrLimit):
		return false, err
	}
	return false, &FetchError{Offset: u.off, Err: err}
}

func (s *stream) read(ctx context.Context, b []byte, off int64) error {
	if off+int64(len(b)) > s.end {
		if err := s.open(ctx); err != nil {
			return err
		}
	}
	if gap := off - s.pos; gap > 0 {
		if _, err := io.CopyN(io.Discard, s.body, gap); err != nil {
			return unexpected(err)
		}
	}
	n, err := io.ReadFull(s.body, b)
	s.pos = off + int64(n)
	return unexpected(err)
}

// unexpected: a body that ends too early is no end.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// open asks for the first want and for those that follow it closely.
func (s *stream) open(ctx context.Context) error {
	s.close()
	first := s.wants[0]
	end := first.off + first.n
	for _, w := range s.wants[1:] {
		if w.off-end > s.gap || w.off+w.n-first.off > maxRequest {
			break
		}
		end = w.off + w.n
	}
	body, err := s.blob.Range(ctx, first.off, end-first.off)
	if err != nil {
		return err
	}
	s.body, s.pos, s.end = body, first.off, end
	return nil
}

func (s *stream) close() {
	if s.body != nil {
		s.body.Close()
		s.body = nil
	}
}

// CheckPack verifies that blob is the pack of ix, every frame of it, and that ix does not contradict itself. Its errors are
// those of Fill.
func CheckPack(ctx context.Context, ix *Index, blob Blob) error {
	all := make([]int, ix.Segments())
	for i := range all {
		all[i] = i
	}
	check := func(seg int, b []byte) error {
		if !ix.right(seg, b) {
			return &wrongBytes{seg}
		}
		return nil
	}
	whole := sha256.New()
	err := newPack(ix, blob).fetch(ctx, all, check, func(u *unit) error {
		whole.Write(u.plain)
		return nil
	})
	if err == nil && digest(whole.Sum(nil)) != ix.sum {
		err = &MismatchError{Segment: -1}
	}
	return err
}
