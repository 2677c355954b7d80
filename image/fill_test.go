package image_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/image"
)

// States that a segment of the target can be in before Fill.
const (
	isRight   = "right"
	isOther   = "other"
	isZero    = "zero"
	isHalf    = "torn: the first half is right"
	isButLast = "all but the last byte is right"
)

// mixed returns a target whose segments are in the given states.
func mixed(b *built, states []string) *memory {
	m := newMemory(len(b.bytes))
	r := rand.New(rand.NewPCG(99, 99))
	for i, state := range states {
		off, n := b.ix.Segment(i)
		s, right := m.b[off:][:n], b.segment(i)
		for i := range s {
			s[i] = byte(r.Uint32())
		}
		switch state {
		case isRight:
			copy(s, right)
		case isZero:
			clear(s)
		case isHalf:
			copy(s, right[:n/2])
		case isButLast:
			copy(s, right)
			s[n-1] ^= 1
		}
	}
	return m
}

// TestFillWritesOnlyWhatIsWrong: whatever is in the target, it ends right, and only what was wrong is touched.
func TestFillWritesOnlyWhatIsWrong(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		letters := rapid.StringOfN(rapid.SampledFrom([]rune{text, noise, zeros, lastByte, zeroFirst}), 1, 12, -1).Draw(rt, "image")
		tail := rapid.SampledFrom([]int{0, 1, 4095, 4096, 4097, seg - 1}).Draw(rt, "tail")
		frame := rapid.SampledFrom([]int{seg, 2 * seg, 4 * seg}).Draw(rt, "frame")
		size := rapid.SampledFrom([]int{seg, 2 * seg}).Draw(rt, "segment")
		b := build(t, picture(1, letters, seg, tail), quick(size, frame))
		states := make([]string, b.ix.Segments())
		for i := range states {
			states[i] = rapid.SampledFrom([]string{isRight, isOther, isZero, isHalf, isButLast}).Draw(rt, "state")
		}
		dst := mixed(b, states)
		var want image.Stats
		var written, zeroed []int
		for i := range states {
			off, n := b.ix.Segment(i)
			switch {
			case bytes.Equal(dst.b[off:][:n], b.segment(i)):
				want.Reused += n
			case len(bytes.Trim(b.segment(i), "\x00")) == 0:
				want.Zeroed += n
				zeroed = append(zeroed, i)
			default:
				want.Written += n
				written = append(written, i)
			}
		}
		want.Total = int64(len(b.bytes))
		plan, err := image.Plan(t.Context(), b.ix, dst, b.route())
		if err != nil || len(dst.writes)+len(dst.zeroes)+len(b.pack.ranges) > 0 {
			rt.Fatalf("Plan: %v, %d writes, %d zeroes, %d requests", err, len(dst.writes), len(dst.zeroes), len(b.pack.ranges))
		}
		got := fill(t, b, dst, b.route())
		plan.Fetched, want.Fetched = got.Fetched, got.Fetched
		if got != want || plan != want {
			rt.Errorf("got  %+v\nplan %+v\nwant %+v", got, plan, want)
		}
		if w, z := dst.touched(size); !slices.Equal(w, written) || !slices.Equal(z, zeroed) {
			rt.Errorf("wrote %v and zeroed %v, want %v and %v", w, z, written, zeroed)
		}
	})
}

// TestFillFetchesOnlyWhatIsMissing: what is right is not asked for, and what is asked for is counted to the byte.
func TestFillFetchesOnlyWhatIsMissing(t *testing.T) {
	b := build(t, picture(1, "nnnnnnnn", seg, 0), quick())
	dst := mixed(b, []string{isRight, isOther, isRight, isRight, isOther, isHalf, isRight, isRight})
	st := fill(t, b, dst, b.route())
	asked := int64(0)
	for _, r := range b.pack.ranges {
		asked += r[1]
	}
	_, one := b.ix.Frame(1)
	if st.Fetched != asked || asked != 3*one {
		t.Errorf("it fetched %d and asked for %d, want %d", st.Fetched, asked, 3*one)
	}
}

// TestFramesAreFetchedOnce: segments that share a frame come together, however the work is cut.
func TestFramesAreFetchedOnce(t *testing.T) {
	b := build(t, picture(1, strings.Repeat("ntnn", 16), seg, 0), quick(seg, 4*seg))
	for range 10 {
		if st := fill(t, b, newMemory(len(b.bytes)), b.route()); st.Fetched != b.ix.PackSize() {
			t.Fatalf("it fetched %d bytes of a pack of %d", st.Fetched, b.ix.PackSize())
		}
	}
}

// TestProbingIsCheap: a target that holds something else is read a few KiB at a time.
func TestProbingIsCheap(t *testing.T) {
	b := build(t, picture(1, "tttttttttttttttt", seg, 0), quick())
	dst := newMemory(len(b.bytes))
	if _, err := image.Plan(t.Context(), b.ix, dst, b.route()); err != nil || dst.reads != 16*4096 {
		t.Errorf("it read %d bytes: %v", dst.reads, err)
	}
}

// TestPowerCuts cuts the power at every write, zero and sync, with every kind of loss. Filling again must end well, and
// touch only what was lost.
func TestPowerCuts(t *testing.T) {
	b := build(t, picture(1, "tn0ltz0n", seg, 8192), quick())
	dirty := func() *fixtures.Disk {
		d := newDisk(b)
		_, _ = d.WriteAt(bytes.Repeat([]byte{0xa5}, int(d.Size())), 0)
		_ = d.Sync()
		return d
	}
	cuts := 0
	for _, loss := range fixtures.Losses() {
		for n := 1; ; n++ {
			d := dirty()
			d.CutAt(n, loss, uint64(n))
			_, err := image.Fill(t.Context(), b.ix, d, b.route(), image.Limits{}, nil)
			if err == nil {
				wantHeld(t, bytes.NewReader(d.Stable()), b.bytes)
				break
			}
			var failed *image.TargetError
			if !errors.As(err, &failed) || !errors.Is(err, fixtures.ErrPower) {
				t.Fatalf("cut %d: %v", n, err)
			}
			d.Restart()
			resume(t, b, d, fmt.Sprintf("%s, cut %d", loss, n))
			cuts++
		}
	}
	if want := len(fixtures.Losses()) * 9; cuts != want {
		t.Errorf("%d cuts, want %d: 6 writes, 2 zeroes and a sync, with every loss", cuts, want)
	}
}

// resume fills d again and wants no more work than was lost.
func resume(t *testing.T, b *built, d *fixtures.Disk, when string) {
	t.Helper()
	stable, missing := d.Stable(), 0
	for i := range b.ix.Segments() {
		off, n := b.ix.Segment(i)
		if !bytes.Equal(stable[off:][:n], b.segment(i)) {
			missing++
		}
	}
	before := d.Stats()
	fill(t, b, d, b.route())
	after := d.Stats()
	if got := after.Writes - before.Writes + after.Zeroes - before.Zeroes; got != missing {
		t.Errorf("%s: %d segments were written again, %d were missing", when, got, missing)
	}
	wantHeld(t, bytes.NewReader(d.Stable()), b.bytes)
}

// TestLyingTargets: a device that takes a write and holds something else is found out by reading back.
func TestLyingTargets(t *testing.T) {
	b := build(t, picture(1, "tn0tnt", seg, 12288), quick())
	for name, c := range map[string]struct {
		off, n int64
		want   image.MismatchError
	}{
		"the first sector":         {0, 1, image.MismatchError{Segment: 0, Offset: 0, Count: 1}},
		"zeros":                    {2*seg + 5000, 1, image.MismatchError{Segment: 2, Offset: 2 * seg, Count: 1}},
		"the last sector":          {5*seg + 12287, 1, image.MismatchError{Segment: 5, Offset: 5 * seg, Count: 1}},
		"two neighbouring sectors": {4*seg - 10, 20, image.MismatchError{Segment: 3, Offset: 3 * seg, Count: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDisk(b)
			d.Corrupt(c.off, c.n)
			_, err := image.Fill(t.Context(), b.ix, d, b.route(), image.Limits{}, nil)
			var wrong *image.MismatchError
			if !errors.As(err, &wrong) || *wrong != c.want {
				t.Errorf("got %v, want %v", err, &c.want)
			}
		})
	}
}

// TestFickleTargets: a device that gives other bytes at every reading has no wrong segment to name.
func TestFickleTargets(t *testing.T) {
	b := build(t, picture(1, "tt", seg, 0), quick())
	r := &fickle{data: b.bytes}
	var wrong *image.MismatchError
	if err := image.Verify(t.Context(), b.ix, r); !errors.As(err, &wrong) || wrong.Segment != -1 {
		t.Errorf("got %v", err)
	}
}

// fickle is wrong at the first reading of byte 0.
type fickle struct {
	data []byte
	once bool
}

func (f *fickle) ReadAt(p []byte, off int64) (int, error) {
	n, err := bytes.NewReader(f.data).ReadAt(p, off)
	if off == 0 && !f.once {
		f.once = true
		p[0] ^= 1
	}
	return n, err
}

func TestTargetErrors(t *testing.T) {
	broken := errors.New("EIO")
	for op, letters := range map[string]string{"read": "tt", "write": "tt", "zero": "00", "sync": "tt", "reread": "tt"} {
		t.Run(op, func(t *testing.T) {
			b := build(t, picture(1, letters, seg, 0), quick())
			dst := newMemory(len(b.bytes))
			for i := range dst.b {
				dst.b[i] = 1
			}
			dst.fail[op] = broken
			_, err := image.Fill(t.Context(), b.ix, dst, b.route(), image.Limits{}, nil)
			var failed *image.TargetError
			if !errors.As(err, &failed) || failed.Op != op || !errors.Is(err, broken) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestTargetsThatAreTooSmall(t *testing.T) {
	b := build(t, picture(1, "tt", seg, 100), quick())
	dst := newMemory(len(b.bytes) - 1)
	_, err := image.Fill(t.Context(), b.ix, dst, b.route(), image.Limits{}, nil)
	var failed *image.TargetError
	if !errors.As(err, &failed) || failed.Op != "size" || len(dst.writes) > 0 || len(b.pack.ranges) > 0 {
		t.Errorf("got %v after %d writes and %d requests", err, len(dst.writes), len(b.pack.ranges))
	}
	if want := "it has 65635 bytes, the image has 65636"; !strings.Contains(err.Error(), want) {
		t.Errorf("%q does not say %q", err, want)
	}
}

// TestTargetsThatAreLarger: what is behind the image stays.
func TestTargetsThatAreLarger(t *testing.T) {
	b := build(t, picture(1, "t0", seg, 100), quick())
	dst := newMemory(4 * seg)
	for i := range dst.b {
		dst.b[i] = 0xee
	}
	fill(t, b, dst, b.route())
	if len(bytes.Trim(dst.b[len(b.bytes):], "\xee")) > 0 {
		t.Error("what is behind the image was changed")
	}
}

// TestCancel cancels at every write and reading: Fill ends soon, says why, and can go on.
func TestCancel(t *testing.T) {
	b := build(t, picture(1, "tn0tntzltntn", seg, 0), quick())
	why := errors.New("the operator said so")
	for n := 1; n < 60; n++ {
		ctx, cancel := context.WithCancelCause(t.Context())
		dst := newMemory(len(b.bytes))
		calls := 0
		_, err := image.Fill(ctx, b.ix, dst, b.route(), image.Limits{}, func(image.Progress) {
			if calls++; calls == n {
				cancel(why)
			}
		})
		cancel(nil)
		if calls >= n && !errors.Is(err, why) && err != nil || calls < n && err != nil {
			t.Fatalf("cancelled at call %d of %d: %v", n, calls, err)
		}
		if err == nil && calls > n {
			t.Fatalf("cancelled at call %d of %d, and it ended well", n, calls)
		}
		if b.pack.open != 0 {
			t.Fatalf("cancelled at call %d: %d bodies are open", n, b.pack.open)
		}
		fill(t, b, dst, b.route())
	}
}

func TestCancelledBeforeTheStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := build(t, picture(1, "tt", seg, 0), quick())
	dst := newMemory(len(b.bytes))
	if _, err := image.Fill(ctx, b.ix, dst, b.route(), image.Limits{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := image.Plan(ctx, b.ix, dst, b.route()); !errors.Is(err, context.Canceled) {
		t.Errorf("Plan: %v", err)
	}
	if err := image.Verify(ctx, b.ix, dst); !errors.Is(err, context.Canceled) {
		t.Errorf("Verify: %v", err)
	}
	if len(dst.writes)+len(b.pack.ranges) > 0 {
		t.Error("something was done")
	}
}

// TestProgress only ever grows, and ends at everything done and verified.
func TestProgress(t *testing.T) {
	b := build(t, picture(1, "tn0tnt", seg, 77), quick())
	dst := mixed(b, []string{isRight, isOther, isOther, isOther, isZero, isOther})
	var last image.Progress
	st, err := image.Fill(t.Context(), b.ix, dst, b.route(), image.Limits{}, func(p image.Progress) {
		for i, v := range fields(p) {
			if v < fields(last)[i] {
				t.Errorf("field %d went from %d to %d", i, fields(last)[i], v)
			}
		}
		if p.Verified > 0 && p.Done() != p.Total {
			t.Errorf("it verifies before all is done: %+v", p)
		}
		last = p
	})
	if err != nil || last.Stats != st || last.Done() != st.Total || last.Verified != st.Total {
		t.Errorf("got %+v, %v; the last progress is %+v", st, err, last)
	}
}

func fields(p image.Progress) []int64 {
	return []int64{p.Total, p.Reused, p.Zeroed, p.Written, p.Fetched, p.Copied, p.Verified}
}

// TestAlignment: where segments and frames are cut at the same places, direct I/O can use every buffer as it is.
func TestAlignment(t *testing.T) {
	for _, frame := range []int{seg, 4 * seg} {
		b := build(t, picture(1, "ttttnnnnttt", seg, 100), quick(seg, frame))
		dst := &alignedOnly{memory: newMemory(len(b.bytes)), t: t}
		fill(t, b, dst, append(b.route(), image.Copy(b.ix, holding(b.bytes[:2*seg]))))
	}
}

// alignedOnly wants memory at multiples of 4096.
type alignedOnly struct {
	*memory
	t *testing.T
}

func (a *alignedOnly) check(p []byte) {
	if at := reflect.ValueOf(p).Pointer(); at%4096 != 0 {
		a.t.Errorf("a buffer of %d bytes is at %#x", len(p), at)
	}
}

func (a *alignedOnly) WriteAt(p []byte, off int64) (int, error) {
	a.check(p)
	return a.memory.WriteAt(p, off)
}

func (a *alignedOnly) ReadAt(p []byte, off int64) (int, error) {
	a.check(p)
	return a.memory.ReadAt(p, off)
}

func (a *alignedOnly) Reread() (io.ReaderAt, error) {
	_, err := a.memory.Reread()
	return a, err
}
