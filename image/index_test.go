package image_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/evenkeel-os/evenkeel/image"
)

// goldenImage is the output of picture in testdata/make.sh.
func goldenImage() []byte {
	b := []byte(strings.Repeat("Evenkeel: a golden image.\n", 4000)[:100000])
	b = append(b, make([]byte, 100000)...)
	return append(b, strings.Repeat("The end of the golden image.\n", 2500)[:70001]...)
}

func golden(t testing.TB) *built {
	t.Helper()
	read := func(name string) []byte {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	ix, err := image.ParseIndex(read("golden.index"))
	if err != nil {
		t.Fatal(err)
	}
	return &built{bytes: goldenImage(), ix: ix, pack: &blob{data: read("golden.pack")}}
}

// TestGoldenIndex reads what testdata/make.sh made with coreutils, xxd and zstd.
func TestGoldenIndex(t *testing.T) {
	g := golden(t)
	ix := g.ix
	if ix.Size() != 270001 || ix.SHA256() != sha256.Sum256(g.bytes) || ix.SegmentSize() != 64<<10 || ix.FrameSize() != 128<<10 {
		t.Errorf("size %d, SHA-256 %x, segments of %d, frames of %d", ix.Size(), ix.SHA256(), ix.SegmentSize(), ix.FrameSize())
	}
	if ix.Segments() != 5 || ix.Frames() != 3 || ix.PackSize() != g.pack.Size() {
		t.Errorf("%d segments, %d frames, pack of %d bytes; want 5, 3, %d", ix.Segments(), ix.Frames(), ix.PackSize(), g.pack.Size())
	}
	for i := range ix.Segments() {
		if got, want := ix.Zero(i), i == 2; got != want {
			t.Errorf("segment %d zero: %v, want %v", i, got, want)
		}
	}
	if off, n := ix.Segment(4); off != 4*64<<10 || n != 270001-4*64<<10 {
		t.Errorf("the last segment is at %d with %d bytes", off, n)
	}
	if err := image.CheckPack(t.Context(), ix, g.pack); err != nil {
		t.Error(err)
	}
	fill(t, g, newMemory(300000), g.route())
}

// TestBuildMakesTheGoldenIndex compares everything but the lengths of frames, which depend on the compressor.
func TestBuildMakesTheGoldenIndex(t *testing.T) {
	g := golden(t)
	b := build(t, g.bytes, quick(64<<10, 128<<10))
	lengths := 4 * g.ix.Frames()
	got, want := b.ix.Bytes(), g.ix.Bytes()
	if !bytes.Equal(got[:len(got)-lengths], want[:len(want)-lengths]) {
		t.Errorf("got\n%x\nwant\n%x", got, want)
	}
}

func TestParseIndexRefuses(t *testing.T) {
	put32 := func(off int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[off:], v); return b }
	}
	put64 := func(off int, v uint64) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint64(b[off:], v); return b }
	}
	const frames = 64 + 5*40
	for name, c := range map[string]struct {
		change func([]byte) []byte
		want   string
	}{
		"nothing":             {func([]byte) []byte { return nil }, "it is no index"},
		"half a header":       {func(b []byte) []byte { return b[:63] }, "it is no index"},
		"magic":               {put32(0, 0x28b52ffd), "it is no index"},
		"version 0":           {put32(8, 0), "version 0, this program reads version 1"},
		"next version":        {put32(8, 2), "version 2, this program reads version 1"},
		"no segments":         {put32(12, 0), "segment size of 0 bytes"},
		"small segments":      {put32(12, 32<<10), "segment size of 32768 bytes"},
		"large segments":      {put32(12, 8<<20), "segment size of 8388608 bytes"},
		"odd segments":        {put32(12, 96<<10), "segment size of 98304 bytes is not possible: use a power of two"},
		"small frames":        {put32(16, 4096), "frame size of 4096 bytes"},
		"large frames":        {put32(16, 1<<31), "frame size of 2147483648 bytes"},
		"odd frames":          {put32(16, 1<<20+1), "frame size"},
		"reserved":            {put32(20, 1), "bytes 20 to 23 are 0x1"},
		"empty image":         {put64(24, 0), "an image of 0 bytes"},
		"image too large":     {put64(24, 1<<48+1), "an image of"},
		"negative size":       {put64(24, 1<<63), "an image of"},
		"one segment more":    {put64(24, 6*64<<10), "it has 276 bytes, but an image of 393216 bytes takes"},
		"bytes left over":     {func(b []byte) []byte { return append(b, 0) }, "it has 277 bytes"},
		"cut":                 {func(b []byte) []byte { return b[:len(b)-1] }, "it has 275 bytes"},
		"zeros with a hint":   {put32(64+2*40+32, 1), "segment 2 is marked as zeros, but has a hint"},
		"empty frame":         {put32(frames, 0), "frame 0 has 0 bytes"},
		"long frame":          {put32(frames+4, 128<<10+512+65), "frame 1 has 131649 bytes in the pack: 1 to 131648"},
		"long last frame":     {put32(frames+8, 7857+30+65), "frame 2 has 7952 bytes in the pack: 1 to 7951"},
		"larger than allowed": {func(b []byte) []byte { return append(b, make([]byte, image.MaxIndexSize)...) }, "more than the"},
	} {
		t.Run(name, func(t *testing.T) {
			ix, err := image.ParseIndex(c.change(golden(t).ix.Bytes()))
			if err == nil || !strings.HasPrefix(err.Error(), "cannot read image index: ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want it to say %q", err, c.want)
			}
			if ix != nil {
				t.Error("there is an index all the same")
			}
		})
	}
}

func TestParseIndexAcceptsTheBounds(t *testing.T) {
	for _, size := range []int{image.MinSize, 128 << 10, image.MaxSize} {
		b := build(t, picture(1, "tt", 100, 0), image.BuildOptions{SegmentSize: size, FrameSize: image.MaxSize})
		if b.ix.SegmentSize() != size || b.ix.Segments() != 1 {
			t.Errorf("segments of %d: got %d of %d", size, b.ix.Segments(), b.ix.SegmentSize())
		}
	}
	longest := put(golden(t).ix.Bytes(), 64+5*40, uint32(image.MaxFrame(128<<10)))
	if _, err := image.ParseIndex(longest); err != nil {
		t.Error(err)
	}
}

func put(b []byte, off int, v uint32) []byte {
	binary.LittleEndian.PutUint32(b[off:], v)
	return b
}

func TestParseIndexKeepsNothing(t *testing.T) {
	data := golden(t).ix.Bytes()
	ix, err := image.ParseIndex(data)
	if err != nil {
		t.Fatal(err)
	}
	clear(data)
	if !bytes.Equal(ix.Bytes(), golden(t).ix.Bytes()) {
		t.Error("the index changed with the bytes it was read from")
	}
}

func FuzzParseIndex(f *testing.F) {
	g := golden(f).ix.Bytes()
	f.Add(g)
	f.Add(g[:64])
	f.Add(build(f, picture(1, "t0n", seg, 1), quick()).ix.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		ix, err := image.ParseIndex(data)
		if err != nil {
			return
		}
		if !bytes.Equal(ix.Bytes(), data) {
			t.Fatal("what was read is written differently")
		}
		again, err := image.ParseIndex(ix.Bytes())
		if err != nil || !reflect.DeepEqual(again, ix) {
			t.Fatalf("reading again: %v", err)
		}
		walk(t, ix)
	})
}

// walk wants the pieces of ix to cover the image and the pack without gaps.
func walk(t *testing.T, ix *image.Index) {
	end := int64(0)
	for i := range ix.Segments() {
		off, n := ix.Segment(i)
		if off != end || n <= 0 {
			t.Fatalf("segment %d: %d+%d, the one before ends at %d", i, off, n, end)
		}
		end += n
	}
	packed := int64(0)
	for i := range ix.Frames() {
		off, n := ix.Frame(i)
		if off != packed || n <= 0 {
			t.Fatalf("frame %d: %d+%d, the one before ends at %d", i, off, n, packed)
		}
		packed += n
	}
	if end != ix.Size() || packed != ix.PackSize() {
		t.Fatalf("segments end at %d of %d, frames at %d of %d", end, ix.Size(), packed, ix.PackSize())
	}
}
