package image

import "context"

// maxBatch is how many segments are asked of a route at once, or a few more where they share a frame.
const maxBatch = 512

// batch is what is fetched at once: segments on one route, in ascending order.
type batch struct {
	route int
	segs  []int
	costs map[int]Cost // of the segments that were not put yet
	tried tried        // routes that failed before
}

func newBatch(route int, but tried) *batch {
	return &batch{route: route, costs: map[int]Cost{}, tried: but}
}

func (b *batch) add(seg int, c Cost) {
	b.segs = append(b.segs, seg)
	b.costs[seg] = c
}

func (b *batch) last() int { return b.segs[len(b.segs)-1] }

// queue gathers segments to batches. Segments that share a frame stay together, so that it is fetched once.
type queue struct {
	ctx      context.Context
	out      chan<- *batch
	routes   []Route
	perChunk int
	pending  *batch
}

// offer hands the pending batch over if the fetcher has nothing to do. seg comes next.
func (q *queue) offer(seg int) {
	if q.pending == nil || q.pending.last()/q.perChunk == seg/q.perChunk {
		return
	}
	select {
	case q.out <- q.pending:
		q.pending = nil
	default:
	}
}

func (q *queue) add(seg int) error {
	route, cost, err := cheapest(q.routes, seg, 0)
	if err != nil {
		return err
	}
	if b := q.pending; b != nil && (b.route != route || len(b.segs) >= maxBatch && b.last()/q.perChunk != seg/q.perChunk) {
		if err := q.flush(); err != nil {
			return err
		}
	}
	if q.pending == nil {
		q.pending = newBatch(route, 0)
	}
	q.pending.add(seg, cost)
	return nil
}

func (q *queue) flush() error {
	if q.pending == nil {
		return nil
	}
	select {
	case q.out <- q.pending:
		q.pending = nil
		return nil
	case <-q.ctx.Done():
		return context.Cause(q.ctx)
	}
}
