package image

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestOrdered: all are worked on, they come back in order, and never more are under way than there are items.
func TestOrdered(t *testing.T) {
	for _, n := range []int{0, 1, 2, 7, 1000} {
		for _, workers := range []int{1, 2, 5} {
			var busy, most atomic.Int64
			next := 0
			var got []int
			err := ordered(t.Context(), make([]int, 3), workers,
				func(_ context.Context, v *int) (bool, error) {
					*v = next
					next++
					return *v < n, nil
				},
				func(_ context.Context, v *int) error {
					most.Store(max(most.Load(), busy.Add(1)))
					*v *= 10
					busy.Add(-1)
					return nil
				},
				func(v *int) error { got = append(got, *v); return nil })
			want := make([]int, n)
			for i := range want {
				want[i] = 10 * i
			}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%d by %d workers: %v, %v", n, workers, got, err)
			}
			if most.Load() > int64(min(workers, 3)) {
				t.Errorf("%d workers: %d were busy at a time", workers, most.Load())
			}
		}
	}
}

// TestOrderedSideBySide: taking, working and giving overlap, so that all takes as long as the slowest of them.
func TestOrderedSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, n := time.Now(), 0
		sleep := func(context.Context, *int) error { time.Sleep(2 * time.Second); return nil }
		err := ordered(t.Context(), make([]int, 6), 2,
			func(context.Context, *int) (bool, error) {
				time.Sleep(time.Second)
				n++
				return n <= 100, nil
			}, sleep, func(*int) error { time.Sleep(time.Second); return nil })
		if took := time.Since(start); err != nil || took > 110*time.Second {
			t.Errorf("it took %s: %v", took, err)
		}
	})
}

// TestOrderedErrors: the first error of any of the three ends all of them, and nothing runs on.
func TestOrderedErrors(t *testing.T) {
	broken := errors.New("broken")
	for _, where := range []string{"take", "work", "give", "cancel"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		fail := func(here string, n int) error {
			if n != 10 {
				return nil
			}
			if where == "cancel" {
				cancel(broken)
			}
			if here == where {
				return broken
			}
			return nil
		}
		taken := 0
		err := ordered(ctx, make([]int, 4), 2,
			func(_ context.Context, v *int) (bool, error) { taken++; *v = taken; return true, fail("take", taken) },
			func(_ context.Context, v *int) error { return fail("work", *v) },
			func(v *int) error { return fail("give", *v) })
		if !errors.Is(err, broken) || taken > 20 {
			t.Errorf("%s: got %v after %d items", where, err, taken)
		}
		cancel(nil)
	}
}

// TestLargestChunk: the buffers hold whatever is wanted of any chunk, and no more than that.
func TestLargestChunk(t *testing.T) {
	const k = 1 << 10
	for _, c := range []struct {
		segment, frame int64
		lengths        []int64
		want           int64
	}{
		{64 * k, 64 * k, []int64{5, 9, 7}, 9},
		{128 * k, 64 * k, []int64{5, 9, 7, 8}, 15},
		{128 * k, 64 * k, []int64{5, 9, 20}, 20},
		{64 * k, 128 * k, []int64{5, 9}, 9},
	} {
		ix := &Index{segment: c.segment, frame: c.frame, size: int64(len(c.lengths)) * c.frame, frames: []int64{0}}
		for _, n := range c.lengths {
			ix.frames = append(ix.frames, ix.PackSize()+n)
		}
		ix.segments = make([]segment, pieces(ix.size, ix.segment))
		if got := ix.largestChunk(); got != c.want {
			t.Errorf("segments of %d, frames of %d with %v: %d, want %d", c.segment, c.frame, c.lengths, got, c.want)
		}
		all := make([]int, ix.Segments())
		for i := range all {
			all[i] = i
		}
		for _, w := range ix.wants(all) {
			if w.n > c.want {
				t.Errorf("segments of %d, frames of %d with %v: %d bytes are wanted at once", c.segment, c.frame, c.lengths, w.n)
			}
		}
	}
}
