package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// watchdog is an http.RoundTripper whose response bodies fail with ErrStalled when too little arrives. Only the time that
// is spent waiting inside Read counts, so that a slow disk is no stalled server.
type watchdog struct {
	base   http.RoundTripper
	bytes  int64
	within time.Duration
}

func (w *watchdog) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	resp, err := w.base.RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel(nil)
		return nil, err
	}
	resp.Body = &watchedBody{ctx: ctx, cancel: cancel, body: resp.Body, bytes: w.bytes, within: w.within}
	return resp, nil
}

type watchedBody struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	bytes  int64
	within time.Duration

	got   int64         // bytes of the present window
	spent time.Duration // time waited for them
}

func (b *watchedBody) Read(p []byte) (int, error) {
	timer := time.AfterFunc(b.within-b.spent, func() { b.cancel(ErrStalled) })
	start := time.Now()
	n, err := b.body.Read(p)
	timer.Stop()
	b.spent += time.Since(start)
	b.got += int64(n)
	if b.got >= b.bytes {
		b.got, b.spent = 0, 0
	}
	if err != nil && !errors.Is(err, io.EOF) {
		if cause := context.Cause(b.ctx); cause != nil {
			err = cause
		}
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.cancel(context.Canceled)
	return b.body.Close()
}
