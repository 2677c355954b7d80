package image_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/image"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seg is the segment size of most tests: the smallest, so that they are quick.
const seg = image.MinSize

// Content is what a segment of a test image holds.
const (
	text      = 't' // compresses well
	noise     = 'n' // does not compress
	zeros     = '0'
	lastByte  = 'l' // zeros but for the last byte
	zeroFirst = 'z' // begins with 4 KiB of zeros
)

// picture returns an image of one segment per letter; the last one is cut to tail bytes if that is not 0.
func picture(seed uint64, letters string, size, tail int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	var b []byte
	for _, c := range letters {
		s := make([]byte, size)
		switch c {
		case noise, zeroFirst:
			for i := range s {
				s[i] = byte(r.Uint32())
			}
		case text:
			for i := range s {
				s[i] = "evenkeel"[r.IntN(8)]
			}
		case lastByte:
			s[size-1] = byte(1 + r.IntN(255))
		}
		if c == zeroFirst {
			clear(s[:4096])
		}
		b = append(b, s...)
	}
	if tail > 0 {
		b = b[:len(b)-size+tail]
	}
	return b
}

// built is an image with its index and pack.
type built struct {
	bytes []byte
	ix    *image.Index
	pack  *blob
}

// quick are options that build fast; sizes are those of segments.
func quick(sizes ...int) image.BuildOptions {
	sizes = append(sizes, seg, seg)
	return image.BuildOptions{SegmentSize: sizes[0], FrameSize: sizes[1], Level: 1}
}

func build(t testing.TB, b []byte, o image.BuildOptions) *built {
	t.Helper()
	var pack bytes.Buffer
	ix, err := image.Build(t.Context(), bytes.NewReader(b), &pack, o)
	if err != nil {
		t.Fatal(err)
	}
	return &built{bytes: b, ix: ix, pack: &blob{data: pack.Bytes()}}
}

func (b *built) route() []image.Route { return []image.Route{image.Pack(b.ix, b.pack)} }

// segment returns the bytes of segment i.
func (b *built) segment(i int) []byte {
	off, n := b.ix.Segment(i)
	return b.bytes[off:][:n]
}

// blob is a pack in memory that notes what was asked for.
type blob struct {
	data []byte
	fail error // of every Range
	cut  int64 // bodies end before this byte without an error; 0: never

	mu     sync.Mutex
	ranges [][2]int64 // offset, length
	open   int        // bodies that were not closed
}

func (b *blob) Size() int64 { return int64(len(b.data)) }

func (b *blob) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ranges = append(b.ranges, [2]int64{off, n})
	if b.fail != nil {
		return nil, b.fail
	}
	if off < 0 || n <= 0 || off+n > b.Size() {
		return nil, fmt.Errorf("range %d+%d is not in the blob of %d bytes", off, n, b.Size())
	}
	end := off + n
	if b.cut > 0 {
		end = max(off, min(end, b.cut))
	}
	b.open++
	return &body{bytes.NewReader(b.data[off:end]), ctx, b}, nil
}

func (b *blob) with(data []byte) *blob { return &blob{data: data} }

type body struct {
	r   io.Reader
	ctx context.Context
	b   *blob
}

func (b *body) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.r.Read(p)
}

func (b *body) Close() error {
	b.b.mu.Lock()
	defer b.b.mu.Unlock()
	b.b.open--
	return nil
}

// memory is a target in memory that notes which segments were written and zeroed.
type memory struct {
	mu     sync.Mutex
	b      []byte
	writes []int64 // offsets
	zeroes []int64
	reads  int64 // bytes
	syncs  int
	fail   map[string]error // by operation
	reread func([]byte)     // changes what reading back sees
}

func newMemory(size int) *memory { return &memory{b: make([]byte, size), fail: map[string]error{}} }

func holding(b []byte) *memory {
	m := newMemory(len(b))
	copy(m.b, b)
	return m
}

func (m *memory) Size() int64 { return int64(len(m.b)) }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fail["read"]; err != nil {
		return 0, err
	}
	n := copy(p, m.b[min(off, m.Size()):])
	m.reads += int64(n)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes = append(m.writes, off)
	if err := m.fail["write"]; err != nil {
		return 0, err
	}
	return copy(m.b[off:], p), nil
}

func (m *memory) Zero(off, n int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.zeroes = append(m.zeroes, off)
	clear(m.b[off:][:n])
	return m.fail["zero"]
}

func (m *memory) Sync() error {
	m.syncs++
	return m.fail["sync"]
}

func (m *memory) Reread() (io.ReaderAt, error) {
	if m.syncs == 0 {
		return nil, errors.New("nobody synced")
	}
	if m.reread != nil {
		m.reread(m.b)
	}
	return m, m.fail["reread"]
}

// touched returns the numbers of the segments that were written or zeroed, each as often as it was.
func (m *memory) touched(size int) (written, zeroed []int) {
	number := func(offs []int64) (n []int) {
		for _, off := range offs {
			n = append(n, int(off)/size)
		}
		slices.Sort(n)
		return n
	}
	return number(m.writes), number(m.zeroes)
}

// fill fills dst and wants it to end well.
func fill(t testing.TB, b *built, dst image.Target, routes []image.Route) image.Stats {
	t.Helper()
	st, err := image.Fill(t.Context(), b.ix, dst, routes, image.Limits{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantHeld(t, dst, b.bytes)
	return st
}

func wantHeld(t testing.TB, r io.ReaderAt, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := r.ReadAt(got, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if sha256.Sum256(got) != sha256.Sum256(want) {
		t.Fatal("the target does not hold the image")
	}
}

func newDisk(b *built) *fixtures.Disk {
	size := (int64(len(b.bytes)) + seg - 1) / seg * seg
	return fixtures.NewDisk(size, 4096)
}
