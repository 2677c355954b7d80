package image_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/evenkeel-os/evenkeel/image"
)

// TestBuildAndBack builds images of every shape and gets them back on both ways: with Fill, and with the zstd program.
func TestBuildAndBack(t *testing.T) {
	sizes := [][2]int{{seg, seg}, {seg, 4 * seg}, {4 * seg, seg}}
	for name, b := range map[string][]byte{
		"one byte":              {7},
		"one zero":              {0},
		"255 bytes":             picture(1, "t", 255, 0),
		"less than a hint":      picture(2, "n", 4095, 0),
		"a hint":                picture(3, "n", 4096, 0),
		"one more than a hint":  picture(3, "n", 4097, 0),
		"a segment less a byte": picture(4, "t", seg-1, 0),
		"a segment":             picture(5, "n", seg, 0),
		"a segment and a byte":  picture(6, "tn", seg, 1),
		"all zeros":             picture(7, "00000", seg, 100),
		"every content":         picture(8, "tn0lz00tnnlz0t0n", seg, 12345),
		"zeros at both ends":    picture(9, "0000tttt0000", seg, 0),
		"a last zero byte":      append(picture(10, "tttt", seg, 0), 0),
	} {
		for _, s := range sizes {
			t.Run(fmt.Sprintf("%s, %d in %d", name, s[0]>>10, s[1]>>10), func(t *testing.T) {
				made := build(t, b, quick(s[0], s[1]))
				if made.ix.Size() != int64(len(b)) || made.ix.SHA256() != sha256.Sum256(b) || made.ix.PackSize() != made.pack.Size() {
					t.Fatalf("size %d, SHA-256 %x, pack %d", made.ix.Size(), made.ix.SHA256(), made.ix.PackSize())
				}
				fill(t, made, newMemory(len(b)), made.route())
				if err := image.CheckPack(t.Context(), made.ix, made.pack); err != nil {
					t.Error(err)
				}
				wantZstd(t, made)
			})
		}
	}
}

// wantZstd wants the zstd program to unpack the pack to the image, zero segments included.
func wantZstd(t *testing.T, b *built) {
	if _, err := exec.LookPath("zstd"); err != nil {
		t.Skip("the zstd program is not installed")
	}
	cmd := exec.Command("zstd", "-dc")
	cmd.Stdin = bytes.NewReader(b.pack.data)
	got, err := cmd.Output()
	if err != nil || !bytes.Equal(got, b.bytes) {
		t.Errorf("zstd -dc: %v, %d bytes; want %d", err, len(got), len(b.bytes))
	}
}

// TestBuildIsDeterministic: neither the number of workers nor how the bytes come changes the result.
func TestBuildIsDeterministic(t *testing.T) {
	b := picture(1, "tn0lztntt0", seg, 777)
	for _, level := range []int{1, 3, 7, 22} {
		var first, firstPack []byte
		for _, workers := range []int{1, 1, 2, 4} {
			o := image.BuildOptions{SegmentSize: seg, FrameSize: 2 * seg, Level: level, Workers: workers}
			var pack bytes.Buffer
			ix, err := image.Build(t.Context(), iotest.HalfReader(bytes.NewReader(b)), &pack, o)
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first, firstPack = ix.Bytes(), pack.Bytes()
			}
			if !bytes.Equal(first, ix.Bytes()) || !bytes.Equal(firstPack, pack.Bytes()) {
				t.Errorf("level %d: %d workers make another index or pack", level, workers)
			}
		}
	}
}

func TestBuildCompressesMoreAtHigherLevels(t *testing.T) {
	b := []byte(fmt.Sprint(picture(1, "t", 3*seg, 0)))
	size := func(level int) int64 {
		return build(t, b, image.BuildOptions{Level: level}).ix.PackSize()
	}
	fast, best, unsaid := size(1), size(22), size(0)
	if best >= fast || unsaid != best {
		t.Errorf("level 1: %d, level 22: %d, not said: %d", fast, best, unsaid)
	}
}

func TestZeroSegmentsCostNextToNothing(t *testing.T) {
	b := build(t, make([]byte, 64<<20), image.BuildOptions{})
	if b.pack.Size() > 64*64 {
		t.Errorf("64 MiB of zeros take %d bytes", b.pack.Size())
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestBuildRefuses(t *testing.T) {
	broken := errors.New("broken")
	some := func() io.Reader { return bytes.NewReader(picture(1, "ttt", seg, 0)) }
	for name, c := range map[string]struct {
		src  io.Reader
		pack io.Writer
		o    image.BuildOptions
		want string
	}{
		"an empty image":     {strings.NewReader(""), io.Discard, quick(), "it is empty"},
		"a source that ends": {io.MultiReader(some(), iotest.ErrReader(broken)), io.Discard, quick(), "broken"},
		"a full disk":        {some(), failingWriter{broken}, quick(), "broken"},
		"odd segments":       {some(), io.Discard, quick(100_000, seg), "a segment size of 100000 bytes is not possible"},
		"small frames":       {some(), io.Discard, quick(seg, 4096), "a frame size of 4096 bytes is not possible"},
		"no such level":      {some(), io.Discard, image.BuildOptions{Level: 23}, "compression level 23 is not possible: use 1 to 22"},
		"a negative level":   {some(), io.Discard, image.BuildOptions{Level: -1}, "compression level -1"},
		"negative workers":   {some(), io.Discard, image.BuildOptions{Workers: -1}, "-1 workers"},
	} {
		t.Run(name, func(t *testing.T) {
			ix, err := image.Build(t.Context(), c.src, c.pack, c.o)
			if ix != nil || err == nil || !strings.HasPrefix(err.Error(), "cannot build image: ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want it to say %q", err, c.want)
			}
		})
	}
}

func TestBuildStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	endless := readerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil })
	if _, err := image.Build(ctx, endless, io.Discard, quick()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
