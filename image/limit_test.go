package image_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel-os/evenkeel/image"
)

// TestBandwidth: the average is kept to a tenth of a second, and nothing is slower than it must be.
func TestBandwidth(t *testing.T) {
	b := build(t, picture(1, "nnnnnnnnnnnnnnnn", seg, 0), quick())
	for _, rate := range []int64{10_000, 64 << 10, 1 << 20, 1 << 40} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			dst := newMemory(len(b.bytes))
			st, err := image.Fill(t.Context(), b.ix, dst, b.route(), image.Limits{BytesPerSecond: rate}, func(p image.Progress) {
				took := time.Since(start) + time.Second/5
				if allowed := float64(rate) * took.Seconds(); float64(p.Fetched) > allowed {
					t.Errorf("rate %d: %d bytes in %s", rate, p.Fetched, took)
				}
			})
			want := time.Duration(float64(st.Fetched) / float64(rate) * float64(time.Second))
			if took := time.Since(start); err != nil || took < want-time.Millisecond || took > want+time.Second {
				t.Errorf("rate %d: %d bytes took %s, want %s: %v", rate, st.Fetched, took, want, err)
			}
		})
	}
}

// TestCancelWhileWaiting: who waits for bandwidth hears a cancel at once.
func TestCancelWhileWaiting(t *testing.T) {
	b := build(t, picture(1, "nnnn", seg, 0), quick())
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		_, err := image.Fill(ctx, b.ix, newMemory(len(b.bytes)), b.route(), image.Limits{BytesPerSecond: 1}, nil)
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took > 10*time.Second {
			t.Errorf("after %s: %v", took, err)
		}
	})
}

// TestMaxFetch: a cap that cannot be kept is noticed before the first byte.
func TestMaxFetch(t *testing.T) {
	b := build(t, picture(1, "nnnn", seg, 0), quick())
	for _, c := range []struct {
		max int64
		ok  bool
	}{{1, false}, {b.ix.PackSize() - 1, false}, {b.ix.PackSize(), true}, {1 << 40, true}} {
		b.pack.ranges = nil
		dst := newMemory(len(b.bytes))
		st, err := image.Fill(t.Context(), b.ix, dst, b.route(), image.Limits{MaxFetch: c.max}, nil)
		switch {
		case c.ok && err != nil:
			t.Errorf("cap %d: %v", c.max, err)
		case !c.ok && (!errors.Is(err, image.ErrLimit) || len(b.pack.ranges) > 0 || st.Fetched > 0):
			t.Errorf("cap %d: got %v after %d requests", c.max, err, len(b.pack.ranges))
		}
		if want := "262200 bytes must be fetched, at most "; !c.ok && !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

// TestMaxFetchCountsWhatReallyComes: bytes that the plan could not foresee stop at the cap too.
func TestMaxFetchCountsWhatReallyComes(t *testing.T) {
	b := build(t, picture(1, "nnnnnnnn", seg, 0), quick())
	base := mixed(b, []string{isHalf, isHalf, isHalf, isHalf, isHalf, isHalf, isHalf, isHalf})
	limit := b.ix.PackSize() / 2
	dst := newMemory(len(b.bytes))
	routes := append(b.route(), image.Copy(b.ix, base))
	st, err := image.Fill(t.Context(), b.ix, dst, routes, image.Limits{MaxFetch: limit}, nil)
	if !errors.Is(err, image.ErrLimit) || st.Fetched > limit || st.Fetched < limit-seg {
		t.Errorf("fetched %d, at most %d: %v", st.Fetched, limit, err)
	}
}

// TestMaxFetchIsExact: what the plan says is enough, even where gaps would be read over without a cap.
func TestMaxFetchIsExact(t *testing.T) {
	b := build(t, picture(1, "nnn000nn0nn", seg, 0), quick())
	plan, err := image.Plan(t.Context(), b.ix, nil, b.route())
	if err != nil {
		t.Fatal(err)
	}
	st, err := image.Fill(t.Context(), b.ix, newMemory(len(b.bytes)), b.route(), image.Limits{MaxFetch: plan.Fetched}, nil)
	if err != nil || st.Fetched != plan.Fetched {
		t.Errorf("fetched %d, planned %d: %v", st.Fetched, plan.Fetched, err)
	}
}
