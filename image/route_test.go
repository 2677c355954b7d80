package image_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/evenkeel-os/evenkeel/image"
)

// route is a Route that does as it is told.
type route struct {
	cost  image.Cost
	has   func(seg int) bool
	fetch func(segs []int, put func(int, []byte) error) error

	asked [][]int
}

func (r *route) Cost(seg int) (image.Cost, bool) { return r.cost, r.has == nil || r.has(seg) }

func (r *route) Fetch(_ context.Context, segs []int, put func(int, []byte) error) error {
	r.asked = append(r.asked, slices.Clone(segs))
	return r.fetch(segs, put)
}

// TestDetours: where a route fails, the next cheapest is taken, for what is missing alone.
func TestDetours(t *testing.T) {
	b := build(t, picture(1, "tttttttt", seg, 0), quick())
	broken := errors.New("broken")
	right := func(segs []int, put func(int, []byte) error) error {
		for _, s := range segs {
			if err := put(s, b.segment(s)); err != nil {
				return err
			}
		}
		return nil
	}
	for name, c := range map[string]struct {
		fetch  func(segs []int, put func(int, []byte) error) error
		copied int64 // segments that come on the first route
	}{
		"works":       {right, 8},
		"fails":       {func([]int, func(int, []byte) error) error { return broken }, 0},
		"brings none": {func([]int, func(int, []byte) error) error { return nil }, 0},
		"wrong bytes": {func(segs []int, put func(int, []byte) error) error {
			return put(segs[0], bytes.Repeat([]byte("x"), seg))
		}, 0},
		"short bytes": {func(segs []int, put func(int, []byte) error) error { return put(segs[0], b.segment(segs[0])[1:]) }, 0},
		"brings all, and fails": {func(segs []int, put func(int, []byte) error) error {
			return errors.Join(right(segs, put), broken)
		}, 8},
	} {
		t.Run(name, func(t *testing.T) {
			dst := newMemory(len(b.bytes))
			first := &route{cost: image.Cost{Read: 7}, fetch: c.fetch}
			st := fill(t, b, dst, append(b.route(), first))
			if st.Copied != 7*c.copied || st.Written != st.Total || len(dst.writes) != 8 {
				t.Errorf("got %+v with %d writes", st, len(dst.writes))
			}
			if all := slices.Concat(first.asked...); !slices.Equal(all, seq(0, 8)) {
				t.Errorf("it was asked for %v", all)
			}
		})
	}
}

// TestErrorsOfTheLastRoute: when no route is left, the error of the last one stands.
func TestErrorsOfTheLastRoute(t *testing.T) {
	b := build(t, picture(1, "tt", seg, 0), quick())
	b.pack.fail = errors.New("404")
	copies := &route{fetch: func([]int, func(int, []byte) error) error { return errors.New("EIO of the base") }}
	_, err := image.Fill(t.Context(), b.ix, newMemory(len(b.bytes)), append(b.route(), copies), image.Limits{}, nil)
	if failed := (*image.FetchError)(nil); !errors.As(err, &failed) || !errors.Is(err, b.pack.fail) {
		t.Errorf("got %v", err)
	}
	forger := &route{fetch: func(segs []int, put func(int, []byte) error) error { return put(segs[0], make([]byte, seg)) }}
	_, err = image.Fill(t.Context(), b.ix, newMemory(len(b.bytes)), []image.Route{forger}, image.Limits{}, nil)
	if corrupt := (*image.CorruptError)(nil); !errors.As(err, &corrupt) || corrupt.Segment != 0 || corrupt.Offset != -1 {
		t.Errorf("got %v", err)
	}
	nosy := &route{fetch: func(_ []int, put func(int, []byte) error) error {
		return errors.Join(put(0, b.segment(0)), put(0, b.segment(0)))
	}}
	_, err = image.Fill(t.Context(), b.ix, newMemory(len(b.bytes)), []image.Route{nosy}, image.Limits{}, nil)
	if err == nil || !strings.Contains(err.Error(), "which nobody asked for") {
		t.Errorf("got %v", err)
	}
}

func TestNoRoute(t *testing.T) {
	b := build(t, picture(1, "0t0", seg, 0), quick())
	dst := newMemory(len(b.bytes))
	for name, routes := range map[string][]image.Route{
		"none": nil, "none that has it": {&route{has: func(seg int) bool { return seg != 1 }}},
	} {
		_, err := image.Fill(t.Context(), b.ix, dst, routes, image.Limits{}, nil)
		if err == nil || !strings.Contains(err.Error(), "cannot get segment 1: no route has it") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := image.Plan(t.Context(), b.ix, dst, routes); err == nil {
			t.Errorf("%s: Plan has no error", name)
		}
	}
	if _, err := image.Fill(t.Context(), b.ix, dst, make([]image.Route, 65), image.Limits{}, nil); err == nil {
		t.Error("65 routes are accepted")
	}
}

// TestCopies takes from the base what stands there at the same offset, and only that.
func TestCopies(t *testing.T) {
	b := build(t, picture(1, "tntn0tnt", seg, 999), quick())
	base := mixed(b, []string{isRight, isOther, isRight, isHalf, isOther, isZero, isButLast, isRight})
	routes := append(b.route(), image.Copy(b.ix, base))
	dst := newMemory(len(b.bytes))
	for i := range dst.b {
		dst.b[i] = 1
	}
	plan, err := image.Plan(t.Context(), b.ix, dst, routes)
	if err != nil {
		t.Fatal(err)
	}
	st := fill(t, b, dst, routes)
	if want := int64(2*seg + 999); st.Copied != want {
		t.Errorf("copied %d, want %d", st.Copied, want)
	}
	// Segments 3 and 6 begin right and are not: the plan cannot know without reading them whole.
	if want := int64(4*seg + 999); plan.Copied != want {
		t.Errorf("the plan copies %d, want %d", plan.Copied, want)
	}
	if len(base.writes) > 0 {
		t.Error("the base was written")
	}
	base.fail["read"] = errors.New("EIO")
	if st := fill(t, b, newMemory(len(b.bytes)), routes); st.Copied != 0 {
		t.Errorf("copied %d from a base that cannot be read", st.Copied)
	}
	if st := fill(t, b, newMemory(len(b.bytes)), append(b.route(), image.Copy(b.ix, holding(b.bytes[:2*seg+5])))); st.Copied != 2*seg {
		t.Errorf("copied %d from a base that is short", st.Copied)
	}
}
