package image

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// meter counts what comes over the network, and keeps it below limits.
type meter struct {
	lim     Limits
	counted func(n int64) // told of every byte that came

	mu    sync.Mutex
	bytes int64
	free  time.Time // when the bytes so far are paid for
}

// tick is how far apart the reads of a limited download are.
const tick = 100 * time.Millisecond

// portion is how many bytes may be read at once, at most n.
func (m *meter) portion(n int) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lim.MaxFetch > 0 {
		left := m.lim.MaxFetch - m.bytes
		if left <= 0 {
			return 0, fmt.Errorf("%w: %d bytes were fetched, which is all that may be", ErrLimit, m.bytes)
		}
		n = int(min(int64(n), left))
	}
	if rate := m.lim.BytesPerSecond; rate > 0 {
		n = int(min(int64(n), max(1, rate*int64(tick)/int64(time.Second))))
	}
	return n, nil
}

// pay counts n bytes, and waits until they are paid for.
func (m *meter) pay(ctx context.Context, n int) error {
	wait := m.count(n)
	m.counted(int64(n))
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

func (m *meter) count(n int) (wait time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bytes += int64(n)
	if m.lim.BytesPerSecond <= 0 {
		return 0
	}
	now := time.Now()
	if m.free.Before(now) {
		m.free = now
	}
	m.free = m.free.Add(time.Duration(float64(n) / float64(m.lim.BytesPerSecond) * float64(time.Second)))
	return m.free.Sub(now)
}

// meteredBlob is a Blob whose bytes are counted.
type meteredBlob struct {
	Blob
	m *meter
}

// Range implements Blob.
func (b meteredBlob) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	body, err := b.Blob.Range(ctx, off, n)
	if err != nil {
		return nil, err
	}
	return &meteredBody{body, ctx, b.m}, nil
}

type meteredBody struct {
	io.ReadCloser
	ctx context.Context
	m   *meter
}

func (b *meteredBody) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return b.ReadCloser.Read(p)
	}
	n, err := b.m.portion(len(p))
	if err != nil {
		return 0, err
	}
	n, err = b.ReadCloser.Read(p[:n])
	if paid := b.m.pay(b.ctx, n); paid != nil {
		return n, paid
	}
	return n, err
}
