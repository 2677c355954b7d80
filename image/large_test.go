package image_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/evenkeel-os/evenkeel/image"
)

// large is an image of any size that takes no memory: n times the same segment.
type large struct {
	segment []byte
	ix      *image.Index
	frame   []byte
	there   atomic.Bool // the target holds the image
}

// newLarge makes an index of n segments of size bytes, each with the same digest and frame.
func newLarge(t testing.TB, n, size int) *large {
	l := &large{segment: prose(size)}
	one := build(t, l.segment, image.BuildOptions{SegmentSize: size, FrameSize: size, Level: 3})
	l.frame = one.pack.data
	whole := sha256.New()
	for range n {
		whole.Write(l.segment)
	}
	b := one.ix.Bytes()
	index := whole.Sum(b[:32:32])
	binary.LittleEndian.PutUint64(index[24:], uint64(n)*uint64(size))
	index = append(index, bytes.Repeat(b[64:64+40], n)...)
	index = append(index, bytes.Repeat(b[64+40:], n)...)
	var err error
	if l.ix, err = image.ParseIndex(index); err != nil {
		t.Fatal(err)
	}
	return l
}

// prose returns bytes that compress about as well as programs do.
func prose(n int) []byte {
	b := picture(3, "n", n, 0)
	for i := range b {
		if i%512 > 150 {
			b[i] = b[i-i%64]
		}
	}
	return b
}

// The pack.

func (l *large) Range(_ context.Context, off, n int64) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(repeated(l.frame), off, n)), nil
}

type pack struct{ *large }

func (p pack) Size() int64 { return p.ix.PackSize() }

// The target.

type target struct{ *large }

func (l target) Size() int64 { return l.ix.Size() }

func (l target) ReadAt(p []byte, off int64) (int, error) {
	if !l.there.Load() {
		clear(p)
		return len(p), nil
	}
	return repeated(l.segment).ReadAt(p, off)
}

func (l target) WriteAt(p []byte, off int64) (int, error) { return len(p), nil }
func (l target) Zero(off, n int64) error                  { return nil }
func (l target) Sync() error                              { l.there.Store(true); return nil }
func (l target) Reread() (io.ReaderAt, error)             { return l, nil }
func (l *large) routes() []image.Route                    { return []image.Route{image.Pack(l.ix, pack{l})} }

func (l *large) fill(ctx context.Context) (image.Stats, error) {
	return image.Fill(ctx, l.ix, target{l}, l.routes(), image.Limits{}, nil)
}

// repeated is an endless row of the same bytes.
type repeated []byte

func (r repeated) ReadAt(p []byte, off int64) (n int, _ error) {
	for n < len(p) {
		n += copy(p[n:], r[(off+int64(n))%int64(len(r)):])
	}
	return n, nil
}

// allocated returns how many bytes do allocates.
func allocated(t *testing.T, do func() error) uint64 {
	t.Helper()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	if err := do(); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestMemoryIsBounded: all that Fill ever allocates, collected or not, is bounded, and hardly more for an image of 256 MiB
// than for one of 64 MiB.
func TestMemoryIsBounded(t *testing.T) {
	for _, size := range []int{256 << 10, 1 << 20, 4 << 20} {
		t.Run(fmt.Sprintf("segments of %d KiB", size>>10), func(t *testing.T) {
			run := func(total int) uint64 {
				l := newLarge(t, total/size, size)
				return allocated(t, func() error { _, err := l.fill(t.Context()); return err })
			}
			small, big := run(64<<20), run(256<<20)
			t.Logf("64 MiB: %d KiB, 256 MiB: %d KiB", small>>10, big>>10)
			if limit := uint64(36 << 20); big > limit {
				t.Errorf("it allocates %d bytes, more than %d", big, limit)
			}
			if big > small+4<<20 {
				t.Errorf("it allocates %d bytes for 64 MiB, %d for 256 MiB", small, big)
			}
		})
	}
}

// TestMemoryOfLookingIsBounded: to see that a segment is not in the base leaves nothing behind.
func TestMemoryOfLookingIsBounded(t *testing.T) {
	l := newLarge(t, 4096, image.MinSize)
	routes := append(l.routes(), image.Copy(l.ix, repeated("other")))
	got := allocated(t, func() error { _, err := image.Plan(t.Context(), l.ix, nil, routes); return err })
	if t.Logf("%d KiB", got>>10); got > 8<<20 { // under the race detector, a pool keeps no more than three in four
		t.Errorf("it allocates %d bytes for %d segments", got, l.ix.Segments())
	}
}

// TestMemoryOfCopyingIsBounded: one copy after the other uses the same memory.
func TestMemoryOfCopyingIsBounded(t *testing.T) {
	l := newLarge(t, 64, 1<<20)
	route := image.Copy(l.ix, repeated(l.segment))
	got := allocated(t, func() (err error) {
		for seg := 0; seg < l.ix.Segments() && err == nil; seg++ {
			err = route.Fetch(t.Context(), []int{seg}, func(int, []byte) error { return nil })
		}
		return err
	})
	if t.Logf("%d KiB", got>>10); got > 8<<20 {
		t.Errorf("it allocates %d bytes for %d copies", got, l.ix.Segments())
	}
}

func TestMemoryOfBuildIsBounded(t *testing.T) {
	run := func(total int64) uint64 {
		src := io.NewSectionReader(repeated(prose(1<<20)), 0, total)
		return allocated(t, func() error {
			_, err := image.Build(t.Context(), src, io.Discard, image.BuildOptions{Level: 1})
			return err
		})
	}
	small, big := run(8<<20), run(32<<20)
	if t.Logf("8 MiB: %d KiB, 32 MiB: %d KiB", small>>10, big>>10); big > small+4<<20 {
		t.Errorf("it allocates %d bytes for 8 MiB, %d for 32 MiB", small, big)
	}
}

const benchmarked = 256 << 20

func BenchmarkFill(b *testing.B) {
	for _, size := range []int{64 << 10, 256 << 10, 1 << 20, 4 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			l := newLarge(b, benchmarked/size, size)
			b.SetBytes(benchmarked)
			b.ReportAllocs()
			for b.Loop() {
				l.there.Store(false)
				if st, err := l.fill(b.Context()); err != nil || st.Written != benchmarked {
					b.Fatal(st, err)
				}
			}
		})
	}
}

// BenchmarkResume fills what is right already.
func BenchmarkResume(b *testing.B) {
	l := newLarge(b, benchmarked>>20, 1<<20)
	l.there.Store(true)
	b.SetBytes(benchmarked)
	b.ReportAllocs()
	for b.Loop() {
		if st, err := l.fill(b.Context()); err != nil || st.Reused != benchmarked {
			b.Fatal(st, err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	l := newLarge(b, benchmarked>>20, 1<<20)
	l.there.Store(true)
	b.SetBytes(benchmarked)
	b.ReportAllocs()
	for b.Loop() {
		if err := image.Verify(b.Context(), l.ix, target{l}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	block := prose(1 << 20)
	for _, level := range []int{1, 3, 7, 22} {
		b.Run(fmt.Sprintf("level%d", level), func(b *testing.B) {
			b.SetBytes(16 << 20)
			for b.Loop() {
				src := io.NewSectionReader(repeated(block), 0, 16<<20)
				if _, err := image.Build(b.Context(), src, io.Discard, image.BuildOptions{Level: level}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
