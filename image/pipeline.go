package image

import (
	"context"
	"sync"
)

// ordered lets take, work and give run side by side on a fixed set of items, which bounds the memory: take fills one item
// after the other until it returns false, up to workers goroutines work on them, and give gets them back in the order in
// which they were taken. Items are used again after give. The first error ends it all and is returned.
//
// take runs in a goroutine of its own; give in the caller's. Nothing runs any more when ordered returns.
func ordered[T any](ctx context.Context, items []T, workers int,
	take func(context.Context, *T) (bool, error), work func(context.Context, *T) error, give func(*T) error,
) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := newLine[T](items)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		defer close(l.todo)
		defer close(l.order)
		if err := l.feed(ctx, take); err != nil {
			cancel(err)
		}
	})
	for range workers {
		wg.Go(func() {
			for s := range l.todo {
				if err := s.run(ctx, work); err != nil {
					cancel(err)
				}
				close(s.done)
			}
		})
	}
	l.drain(ctx, cancel, give)
	wg.Wait()
	return context.Cause(ctx)
}

// line is the channels of ordered. Each has room for every item, so only waiting for a free item ever blocks.
type line[T any] struct {
	free, todo, order chan *slot[T]
}

// slot is one item; done is closed when it was worked on.
type slot[T any] struct {
	item *T
	done chan struct{}
}

func newLine[T any](items []T) *line[T] {
	n := len(items)
	l := &line[T]{free: make(chan *slot[T], n), todo: make(chan *slot[T], n), order: make(chan *slot[T], n)}
	for i := range items {
		l.free <- &slot[T]{item: &items[i]}
	}
	return l
}

func (l *line[T]) feed(ctx context.Context, take func(context.Context, *T) (bool, error)) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case s := <-l.free:
			if more, err := take(ctx, s.item); err != nil || !more {
				return err
			}
			s.done = make(chan struct{})
			l.todo <- s
			l.order <- s
		}
	}
}

func (s *slot[T]) run(ctx context.Context, work func(context.Context, *T) error) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return work(ctx, s.item)
}

func (l *line[T]) drain(ctx context.Context, cancel context.CancelCauseFunc, give func(*T) error) {
	for s := range l.order {
		<-s.done
		if context.Cause(ctx) == nil {
			if err := give(s.item); err != nil {
				cancel(err)
			}
		}
		l.free <- s
	}
}
