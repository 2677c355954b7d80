package image

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Fill makes dst hold the image: what is right stays, zeros are zeroed, the rest comes on the cheapest of at most 64
// routes and is written once its SHA-256 is right. A route that fails is left for the next cheapest. Then dst is synced,
// read back past every cache, and compared. Only a nil error says that dst holds the image.
//
// on is told of progress, never twice at the same time; it must not block for long. It may be nil. A cancelled ctx ends
// Fill within a segment; what was written stays, and the next Fill goes on from there.
//
// Errors: ErrLimit, FetchError (try again later), CorruptError (this pack will never do), TargetError (the disk failed),
// MismatchError (the disk does not hold what was written), and the cause of ctx.
func Fill(ctx context.Context, ix *Index, dst Target, routes []Route, lim Limits, on func(Progress)) (Stats, error) {
	f := &filler{ix: ix, dst: dst, tally: newTally(ix, on)}
	f.routes = f.meter(routes, lim)
	err := f.fits(ctx, lim)
	if err == nil {
		err = f.write(ctx)
	}
	if err == nil {
		err = f.check(ctx)
	}
	return f.tally.stats(), err
}

type filler struct {
	ix     *Index
	dst    Target
	routes []Route
	tally  *tally
}

// meter lets every route that can count its bytes as they come do so.
func (f *filler) meter(routes []Route, lim Limits) []Route {
	m := &meter{lim: lim, counted: func(n int64) { f.tally.add(Stats{Fetched: n}) }}
	counted := make([]Route, len(routes))
	for i, r := range routes {
		counted[i] = r
		if r, ok := r.(interface{ metered(*meter) Route }); ok {
			counted[i] = r.metered(m)
		}
	}
	return counted
}

// fits finds out before the first byte what cannot end well.
func (f *filler) fits(ctx context.Context, lim Limits) error {
	if len(f.routes) > 64 {
		return fmt.Errorf("cannot use %d routes: at most 64", len(f.routes))
	}
	if have, need := f.dst.Size(), f.ix.Size(); have < need {
		return &TargetError{Op: "size", Offset: have, Err: fmt.Errorf("it has %d bytes, the image has %d", have, need)}
	}
	if lim.MaxFetch <= 0 {
		return nil
	}
	plan, err := Plan(ctx, f.ix, f.dst, f.routes)
	if err == nil && plan.Fetched > lim.MaxFetch {
		err = fmt.Errorf("%w: %d bytes must be fetched, at most %d may be", ErrLimit, plan.Fetched, lim.MaxFetch)
	}
	return err
}

// write brings every segment into place. A scout looks at the target and hands what is missing to the fetcher, which works
// side by side with it.
func (f *filler) write(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	batches := make(chan *batch)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		defer close(batches)
		if err := f.scout(ctx, batches); err != nil {
			cancel(err)
		}
	})
	for b := range batches {
		if err := f.fetch(ctx, b); err != nil {
			cancel(err)
		}
	}
	return context.Cause(ctx)
}

// scout sends batches of what is missing. A batch grows for as long as the fetcher is busy, so that it never waits for
// long, and yet neighbours come in one request.
func (f *filler) scout(ctx context.Context, batches chan<- *batch) error {
	q := &queue{ctx: ctx, out: batches, routes: f.routes, perChunk: int(f.ix.chunk() / f.ix.segment)}
	s := scout{ix: f.ix, dst: f.dst, zero: f.zero, found: func(seg int, is finding) error {
		_, n := f.ix.Segment(seg)
		q.offer(seg)
		switch {
		case is == right:
			f.tally.add(Stats{Reused: n})
			return nil
		case f.ix.Zero(seg):
			f.tally.add(Stats{Zeroed: n})
			return nil
		}
		return q.add(seg)
	}}
	if err := s.run(ctx); err != nil {
		return err
	}
	return q.flush()
}

func (f *filler) zero(off, n int64) error {
	if err := f.dst.Zero(off, n); err != nil {
		return &TargetError{Op: "zero", Offset: off, Err: err}
	}
	return nil
}

// fetch brings the segments of b into place, if need be on other routes than the one it names.
func (f *filler) fetch(ctx context.Context, b *batch) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	var mu sync.Mutex
	err := f.routes[b.route].Fetch(ctx, b.segs, func(seg int, data []byte) error {
		if !f.ix.right(seg, data) {
			return &wrongBytes{seg}
		}
		mu.Lock()
		cost, wanted := b.costs[seg]
		delete(b.costs, seg)
		mu.Unlock()
		if !wanted {
			return fmt.Errorf("route %d brought segment %d, which nobody asked for", b.route, seg)
		}
		return f.put(seg, data, cost)
	})
	if err == nil && len(b.costs) > 0 {
		err = fmt.Errorf("route %d ended without %d segments", b.route, len(b.costs))
	}
	if err == nil || final(ctx, err) {
		return err
	}
	return f.detour(ctx, b, err)
}

func (f *filler) put(seg int, data []byte, cost Cost) error {
	off, _ := f.ix.Segment(seg)
	if _, err := f.dst.WriteAt(data, off); err != nil {
		return &TargetError{Op: "write", Offset: off, Err: err}
	}
	f.tally.add(Stats{Written: int64(len(data)), Copied: cost.Read})
	return nil
}

// final reports that no other route can mend err.
func final(ctx context.Context, err error) bool {
	var disk *TargetError
	return ctx.Err() != nil || errors.As(err, &disk)
}

// detour fetches what is left of b on the other routes. Where there is none, the error of the route that failed stands.
func (f *filler) detour(ctx context.Context, b *batch, failed error) error {
	but := b.tried.with(b.route)
	var next *batch
	for _, seg := range b.segs {
		if _, missing := b.costs[seg]; !missing {
			continue
		}
		route, cost, err := cheapest(f.routes, seg, but)
		if err != nil {
			return asCorrupt(failed)
		}
		if next != nil && next.route != route {
			if err := f.fetch(ctx, next); err != nil {
				return err
			}
			next = nil
		}
		if next == nil {
			next = newBatch(route, but)
		}
		next.add(seg, cost)
	}
	if next == nil {
		return nil // it failed after the last segment
	}
	return f.fetch(ctx, next)
}

// asCorrupt names the segment where a route did not.
func asCorrupt(err error) error {
	var known *CorruptError
	var wrong *wrongBytes
	if errors.As(err, &wrong) && !errors.As(err, &known) {
		return &CorruptError{Segment: wrong.seg, Offset: -1, Err: err}
	}
	return err
}

// check reads everything back.
func (f *filler) check(ctx context.Context) error {
	if err := f.dst.Sync(); err != nil {
		return &TargetError{Op: "sync", Err: err}
	}
	r, err := f.dst.Reread()
	if err != nil {
		return &TargetError{Op: "reread", Err: err}
	}
	return verify(ctx, f.ix, r, f.tally.verified)
}
