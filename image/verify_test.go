package image_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/evenkeel-os/evenkeel/image"
)

// TestVerify flips every kind of bit.
func TestVerify(t *testing.T) {
	b := build(t, picture(1, "tn0lzt", seg, 4097), quick())
	if err := image.Verify(t.Context(), b.ix, bytes.NewReader(b.bytes)); err != nil {
		t.Error(err)
	}
	if err := image.Verify(t.Context(), b.ix, bytes.NewReader(append(bytes.Clone(b.bytes), 1, 2, 3))); err != nil {
		t.Errorf("what is behind the image counts: %v", err)
	}
	for _, off := range []int64{0, 1, 4095, 4096, seg - 1, seg, 2 * seg, 3*seg - 1, 5 * seg, int64(len(b.bytes)) - 1} {
		wrong := bytes.Clone(b.bytes)
		wrong[off] ^= 0x80
		err := image.Verify(t.Context(), b.ix, bytes.NewReader(wrong))
		want := image.MismatchError{Segment: int(off / seg), Offset: off / seg * seg, Count: 1}
		var got *image.MismatchError
		if !errors.As(err, &got) || *got != want {
			t.Errorf("byte %d: got %v, want %v", off, err, &want)
		}
	}
}

func TestVerifyReadErrors(t *testing.T) {
	b := build(t, picture(1, "tnt", seg, 0), quick())
	short := bytes.NewReader(b.bytes[:2*seg+10])
	var failed *image.TargetError
	if err := image.Verify(t.Context(), b.ix, short); !errors.As(err, &failed) || !errors.Is(err, io.ErrUnexpectedEOF) || failed.Offset != 2*seg+10 {
		t.Errorf("got %v", err)
	}
	broken := errors.New("EIO")
	if err := image.Verify(t.Context(), b.ix, failingReader{broken}); !errors.As(err, &failed) || failed.Op != "read" || !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if err := image.Verify(t.Context(), b.ix, failingReader{nil}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a reader that reads nothing: %v", err)
	}
}

type failingReader struct{ err error }

func (f failingReader) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func TestErrorsSayWhere(t *testing.T) {
	cause := errors.New("cause")
	for _, c := range []struct {
		err  error
		want string
	}{
		{&image.FetchError{Offset: 7, Err: cause}, "cannot fetch from byte 7 on: cause"},
		{&image.CorruptError{Segment: 3, Offset: 99, Err: cause}, "the pack is corrupt at byte 99, segment 3: cause"},
		{&image.CorruptError{Segment: 3, Offset: -1, Err: cause}, "what was fetched for segment 3 is corrupt: cause"},
		{&image.TargetError{Op: "write", Offset: 4096, Err: cause}, "cannot write the target at byte 4096: cause"},
		{&image.MismatchError{Segment: 2, Offset: 8, Count: 5}, "the device does not hold the image: 5 segments differ, the first is segment 2 at byte 8"},
	} {
		if c.err.Error() != c.want {
			t.Errorf("got  %q\nwant %q", c.err, c.want)
		}
		if _, ok := c.err.(interface{ Unwrap() error }); ok && !errors.Is(c.err, cause) {
			t.Errorf("%q hides its cause", c.err)
		}
	}
}
