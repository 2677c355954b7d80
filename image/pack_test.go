package image_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/evenkeel-os/evenkeel/image"
)

// fetch returns what the pack's route puts for segs.
func fetch(t *testing.T, b *built, segs []int) (map[int][]byte, error) {
	t.Helper()
	var mu sync.Mutex
	got := map[int][]byte{}
	err := image.Pack(b.ix, b.pack).Fetch(t.Context(), segs, func(seg int, data []byte) error {
		mu.Lock()
		defer mu.Unlock()
		if _, twice := got[seg]; twice {
			t.Errorf("segment %d was put twice", seg)
		}
		got[seg] = bytes.Clone(data)
		return nil
	})
	if b.pack.open != 0 {
		t.Errorf("%d bodies were not closed", b.pack.open)
	}
	return got, err
}

func seq(from, to int) (s []int) {
	for i := from; i < to; i++ {
		s = append(s, i)
	}
	return s
}

// TestPackJoinsNeighbours: what is near comes in one request; what is far does not.
func TestPackJoinsNeighbours(t *testing.T) {
	letters := "nnnn" + strings.Repeat("0", 40) + "nnnnnnnn"
	for name, c := range map[string]struct {
		frame    int
		segs     []int
		requests int
	}{
		"nothing":                        {seg, nil, 0},
		"one":                            {seg, []int{2}, 1},
		"neighbours":                     {seg, []int{0, 1, 2, 3}, 1},
		"zeros between":                  {seg, []int{3, 44, 45}, 1},
		"a frame of 64 KiB between":      {seg, []int{0, 2}, 2},
		"two frames between":             {seg, []int{0, 3}, 2},
		"all":                            {seg, seq(0, 52), 1},
		"two of one frame":               {4 * seg, []int{0, 3}, 1},
		"one of a frame":                 {4 * seg, []int{2}, 1},
		"across frames":                  {4 * seg, []int{3, 44}, 1},
		"last two of a frame, and first": {4 * seg, []int{46, 47, 48}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := build(t, picture(1, letters, seg, 0), quick(seg, c.frame))
			got, err := fetch(t, b, c.segs)
			if err != nil || len(got) != len(c.segs) {
				t.Fatalf("got %d segments of %d: %v", len(got), len(c.segs), err)
			}
			for _, s := range c.segs {
				if !bytes.Equal(got[s], b.segment(s)) {
					t.Errorf("segment %d is wrong", s)
				}
			}
			if len(b.pack.ranges) != c.requests {
				t.Errorf("it took the requests %v, want %d", b.pack.ranges, c.requests)
			}
		})
	}
}

// TestPackBoundsRequests: one request asks for 128 MiB at most. The pack is made of frames that are never read.
func TestPackBoundsRequests(t *testing.T) {
	b := build(t, picture(1, strings.Repeat("n", 4), seg, 0), quick())
	big := hugeIndex(t, 300, 1<<20)
	huge := &built{ix: big, pack: &blob{fail: errors.New("stop")}}
	huge.pack.data = make([]byte, big.PackSize())
	if _, err := fetch(t, huge, seq(0, 300)); err == nil {
		t.Fatal("there was no error")
	}
	if n := huge.pack.ranges[0][1]; n > 128<<20 || n < 127<<20 {
		t.Errorf("it asked for %d bytes at once", n)
	}
	if _, err := fetch(t, b, seq(0, 4)); err != nil {
		t.Error(err)
	}
}

// hugeIndex returns an index of n segments of size bytes whose pack is as long as it may be.
func hugeIndex(t testing.TB, n, size int) *image.Index {
	le := binary.LittleEndian
	b := append([]byte("EVKINDEX"), 1, 0, 0, 0)
	b = le.AppendUint32(b, uint32(size))
	b = le.AppendUint32(b, uint32(size))
	b = le.AppendUint32(b, 0)
	b = le.AppendUint64(b, uint64(n)*uint64(size))
	b = append(b, make([]byte, 32)...)
	b = append(b, bytes.Repeat([]byte{1}, 40*n)...)
	for range n {
		b = le.AppendUint32(b, uint32(image.MaxFrame(int64(size))))
	}
	ix, err := image.ParseIndex(b)
	if err != nil {
		t.Fatal(err)
	}
	return ix
}

func TestPackCosts(t *testing.T) {
	b := build(t, picture(1, "tn0ttttn", seg, 100), quick(seg, 2*seg))
	total := int64(0)
	for i := range b.ix.Segments() {
		c, ok := image.Pack(b.ix, b.pack).Cost(i)
		if !ok || c.Fetch <= 0 || c.Read != 0 {
			t.Errorf("segment %d costs %+v, %v", i, c, ok)
		}
		total += c.Fetch
	}
	if d := total - b.ix.PackSize(); d < 0 || d > int64(b.ix.Segments()) {
		t.Errorf("all segments cost %d, the pack has %d", total, b.ix.PackSize())
	}
}

// frame returns b as one frame in the way that o says.
func frame(t testing.TB, b []byte, o ...zstd.EOption) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil, o...)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	return enc.EncodeAll(b, nil)
}

// swapped returns b with frames instead of its own, and an index that has the lengths of these: what a publisher's key
// would have to sign, so that nothing but the content is wrong.
func swapped(t testing.TB, b *built, frames ...[]byte) *built {
	t.Helper()
	data := b.ix.Bytes()
	lengths := data[len(data)-4*b.ix.Frames():]
	for i, f := range frames {
		binary.LittleEndian.PutUint32(lengths[4*i:], uint32(len(f)))
	}
	ix, err := image.ParseIndex(data)
	if err != nil {
		t.Fatal(err)
	}
	return &built{bytes: b.bytes, ix: ix, pack: &blob{data: slices.Concat(frames...)}}
}

// frames returns the frames of the pack of b.
func frames(b *built) (fs [][]byte) {
	for i := range b.ix.Frames() {
		off, n := b.ix.Frame(i)
		fs = append(fs, b.pack.data[off:][:n])
	}
	return fs
}

// TestHostilePacks: whatever is in a pack, nothing of it is written, and the error says where it is.
func TestHostilePacks(t *testing.T) {
	good := build(t, picture(1, "ttnt", seg, 0), quick())
	fs := frames(good)
	replace := func(i int, f []byte) *built {
		all := slices.Clone(fs)
		all[i] = f
		return swapped(t, good, all...)
	}
	streamed := func() []byte {
		var b bytes.Buffer
		w, _ := zstd.NewWriter(&b)
		_, _ = w.Write(good.segment(1)[:100])
		_ = w.Flush() // from now on the size cannot be told in front
		_, _ = w.Write(good.segment(1)[100:])
		_ = w.Close()
		return b.Bytes()
	}
	skippable := append([]byte{0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0}, 1, 2, 3, 4)
	window := slices.Clone(frame(t, good.segment(1), zstd.WithSingleSegment(false)))
	window[5] = 0xff
	flipped := slices.Clone(fs[1])
	flipped[len(flipped)/2] ^= 4
	for name, c := range map[string]struct {
		b    *built
		want string
	}{
		"garbage":                    {replace(1, bytes.Repeat([]byte("x"), 100)), "does not begin with a zstd frame"},
		"a byte":                     {replace(1, []byte{0x28}), "does not begin with a zstd frame"},
		"a skippable frame":          {replace(1, skippable), "it is a skippable frame"},
		"a skippable frame in front": {replace(1, append(slices.Clone(skippable), fs[1]...)), "it is a skippable frame"},
		"no size":                    {replace(1, streamed()), "declares 0 bytes, not 65536"},
		"a bomb":                     {replace(1, frame(t, make([]byte, 256<<20))), "declares 268435456 bytes, not 65536"},
		"one byte more":              {replace(1, frame(t, make([]byte, seg+1))), "declares 65537 bytes, not 65536"},
		"one byte less":              {replace(1, frame(t, make([]byte, seg-1))), "declares 65535 bytes, not 65536"},
		"a frame behind":             {replace(1, append(frame(t, good.segment(1)), frame(t, good.segment(1))...)), "cannot decompress"},
		"a lying size":               {replace(1, lying(t, 1<<20)), "cannot decompress"},
		"a dictionary":               {replace(1, frame(t, good.segment(1), zstd.WithEncoderDictRaw(7, good.segment(1)))), "needs dictionary 7"},
		"a huge window":              {replace(1, window), "needs a window of"},
		"half a frame":               {replace(1, fs[1][:len(fs[1])/2]), "cannot decompress"},
		"a flipped bit":              {replace(1, flipped), "segment 1"},
		"other content":              {replace(1, frame(t, good.segment(0))), "segment 1 does not have the SHA-256"},
		"zeros":                      {replace(1, frame(t, make([]byte, seg))), "segment 1 does not have the SHA-256"},
	} {
		t.Run(name, func(t *testing.T) {
			dst := newMemory(len(good.bytes))
			_, err := image.Fill(t.Context(), c.b.ix, dst, c.b.route(), image.Limits{}, nil)
			var corrupt *image.CorruptError
			if !errors.As(err, &corrupt) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want a CorruptError that says %q", err, c.want)
			}
			if off, _ := c.b.ix.Frame(1); corrupt.Segment != 1 || corrupt.Offset != off {
				t.Errorf("it names segment %d at %d, not 1 at %d", corrupt.Segment, corrupt.Offset, off)
			}
			if w, _ := dst.touched(seg); slices.Contains(w, 1) {
				t.Error("unverified bytes were written")
			}
			if err := image.CheckPack(t.Context(), c.b.ix, c.b.pack); !errors.As(err, &corrupt) {
				t.Errorf("CheckPack says %v", err)
			}
		})
	}
}

// TestFramesBehindFrames: what stands behind a frame is not taken for the next one, though there is room for it.
func TestFramesBehindFrames(t *testing.T) {
	good := build(t, picture(1, "tttt", seg, 0), quick(4*seg, seg))
	for _, extra := range []int{1, 10, 17, seg} {
		fs := frames(good)
		fs[1] = append(slices.Clone(fs[1]), frame(t, make([]byte, extra), zstd.WithSingleSegment(true))...)
		bad := swapped(t, good, fs...)
		err := image.CheckPack(t.Context(), bad.ix, bad.pack)
		if corrupt := (*image.CorruptError)(nil); !errors.As(err, &corrupt) || !strings.Contains(err.Error(), "decompress") {
			t.Errorf("%d bytes more: got %v", extra, err)
		}
	}
}

// lying returns a frame of n zeros that declares 65536 bytes.
func lying(t testing.TB, n int) []byte {
	f := frame(t, make([]byte, n), zstd.WithSingleSegment(true), zstd.WithEncoderCRC(false))
	// A content size of 4 bytes follows the magic and the descriptor.
	binary.LittleEndian.PutUint32(f[5:], seg)
	return f
}

func TestReorderedAndForeignPacks(t *testing.T) {
	good := build(t, picture(1, "nnnn", seg, 0), quick())
	fs := frames(good)
	other := build(t, picture(2, "nnnn", seg, 0), quick())
	for name, c := range map[string]struct {
		pack    []byte
		segment int
		want    string
	}{
		"reordered":  {slices.Concat(fs[0], fs[1], fs[3], fs[2]), 2, "does not have the SHA-256"},
		"foreign":    {other.pack.data, 0, "does not have the SHA-256"},
		"cut":        {good.pack.data[:len(good.pack.data)-1], 0, "it has 262199 bytes, its index says 262200"},
		"longer":     {append(slices.Clone(good.pack.data), 0), 0, "it has 262201 bytes"},
		"empty":      {nil, 0, "it has 0 bytes"},
		"no frame 3": {slices.Concat(fs[0], fs[1], fs[2], make([]byte, len(fs[3]))), 3, "does not begin with a zstd frame"},
	} {
		t.Run(name, func(t *testing.T) {
			dst := newMemory(len(good.bytes))
			bad := &built{ix: good.ix, pack: good.pack.with(c.pack)}
			_, err := image.Fill(t.Context(), bad.ix, dst, bad.route(), image.Limits{}, nil)
			var corrupt *image.CorruptError
			// Frames are decoded side by side: any of the wrong ones may be noticed first.
			if !errors.As(err, &corrupt) || corrupt.Segment < c.segment || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want segment %d and %q", err, c.segment, c.want)
			}
		})
	}
}

// TestPackThatEndsEarly: a body that ends is the network's fault, and worth another try.
func TestPackThatEndsEarly(t *testing.T) {
	b := build(t, picture(1, "nnnnnnnn", seg, 0), quick())
	b.pack.cut = 3*seg + 100
	_, err := image.Fill(t.Context(), b.ix, newMemory(len(b.bytes)), b.route(), image.Limits{}, nil)
	var failed *image.FetchError
	if !errors.As(err, &failed) || !errors.Is(err, io.ErrUnexpectedEOF) || failed.Offset < 2*seg {
		t.Errorf("got %v", err)
	}
	b.pack.cut, b.pack.fail = 0, errors.New("503")
	_, err = image.Fill(t.Context(), b.ix, newMemory(len(b.bytes)), b.route(), image.Limits{}, nil)
	if !errors.As(err, &failed) || !errors.Is(err, b.pack.fail) {
		t.Errorf("got %v", err)
	}
}

func TestPutErrorEndsFetch(t *testing.T) {
	b := build(t, picture(1, strings.Repeat("n", 64), seg, 0), quick())
	stop := errors.New("stop")
	n := 0
	var mu sync.Mutex
	err := image.Pack(b.ix, b.pack).Fetch(t.Context(), seq(0, 64), func(int, []byte) error {
		mu.Lock()
		defer mu.Unlock()
		n++
		return stop
	})
	if !errors.Is(err, stop) || n > 8 || b.pack.open != 0 {
		t.Errorf("got %v after %d segments; %d bodies open", err, n, b.pack.open)
	}
}

func TestCheckPackWantsTheWholeImageToo(t *testing.T) {
	b := build(t, picture(1, "t0n", seg, 5), quick())
	data := b.ix.Bytes()
	data[32] ^= 1
	ix, err := image.ParseIndex(data)
	if err != nil {
		t.Fatal(err)
	}
	var wrong *image.MismatchError
	if err := image.CheckPack(t.Context(), ix, b.pack); !errors.As(err, &wrong) || wrong.Segment != -1 {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := image.CheckPack(ctx, ix, b.pack); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// FuzzPack fills a target from a pack whose second frame is anything: it never ends well unless the bytes are right, never
// panics, and never writes what is wrong.
func FuzzPack(f *testing.F) {
	good := build(f, picture(1, "ttn", seg, 777), quick())
	fs := frames(good)
	for _, seed := range [][]byte{fs[1], fs[0], fs[1][:20], lying(f, 1<<20), {0x28, 0xb5, 0x2f, 0xfd}} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || int64(len(b)) > image.MaxFrame(seg) {
			return
		}
		bad := swapped(t, good, fs[0], b, fs[2])
		dst := newMemory(len(good.bytes))
		_, err := image.Fill(t.Context(), bad.ix, dst, bad.route(), image.Limits{}, nil)
		if err == nil {
			wantHeld(t, dst, good.bytes)
			return
		}
		if corrupt := (*image.CorruptError)(nil); !errors.As(err, &corrupt) {
			t.Fatalf("got %v", err)
		}
		if got := dst.b[seg : 2*seg]; !bytes.Equal(got, make([]byte, seg)) && !bytes.Equal(got, good.segment(1)) {
			t.Fatal("wrong bytes were written")
		}
	})
}
