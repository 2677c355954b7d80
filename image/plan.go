package image

import (
	"context"
	"fmt"
	"io"
)

// Plan says what Fill would do, and writes and fetches nothing. It reads the target, as far as it takes; nil: a target that
// holds nothing. Fetched may be a little less than Fill will fetch, because Fill reads over small gaps to save requests.
func Plan(ctx context.Context, ix *Index, dst io.ReaderAt, routes []Route) (Stats, error) {
	st := Stats{Total: ix.Size()}
	s := scout{
		ix: ix, dst: dst,
		zero: func(int64, int64) error { return nil },
		found: func(seg int, is finding) error {
			_, n := ix.Segment(seg)
			if is == right {
				st.Reused += n
				return nil
			}
			if ix.Zero(seg) {
				st.Zeroed += n
				return nil
			}
			_, cost, err := cheapest(routes, seg, 0)
			st.Written += n
			st.Fetched += cost.Fetch
			st.Copied += cost.Read
			return err
		},
	}
	return st, s.run(ctx)
}

// tried is a set of routes, by their place in a slice.
type tried uint64

func (t tried) has(route int) bool   { return t&(1<<route) != 0 }
func (t tried) with(route int) tried { return t | 1<<route }

// cheapest returns the cheapest route for seg that was not tried. Of equals it is the first.
func cheapest(routes []Route, seg int, but tried) (route int, cost Cost, err error) {
	route = -1
	for i, r := range routes {
		if but.has(i) {
			continue
		}
		if c, ok := r.Cost(seg); ok && (route < 0 || c.less(cost)) {
			route, cost = i, c
		}
	}
	if route < 0 {
		err = fmt.Errorf("cannot get segment %d: %w", seg, errNoRoute)
	}
	return route, cost, err
}
