package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/evenkeel-os/evenkeel/image"
)

// Blob returns a file that is read in ranges. path is as for Get. If size is negative the servers are asked for it once;
// else a file of another size is refused with ErrChanged when it is read.
func (t *Transport) Blob(ctx context.Context, path string, size int64) (image.Blob, error) {
	b := &blob{t: t, path: path, size: size, tags: map[*mirror]string{}}
	if size >= 0 {
		return b, nil
	}
	resp, _, err := t.do(ctx, path, setRange("bytes=0-0"), func(m *mirror, resp *http.Response) error {
		total, err := totalSize(resp)
		if err == nil {
			b.size = total
			b.remember(m, resp)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return b, resp.Body.Close()
}

func setRange(value string) func(*mirror, http.Header) {
	return func(_ *mirror, h http.Header) { h.Set("Range", value) }
}

// totalSize returns the size of the whole file that an answer to a range request tells.
func totalSize(resp *http.Response) (int64, error) {
	if resp.StatusCode == http.StatusPartialContent {
		_, _, total, err := contentRange(resp.Header.Get("Content-Range"))
		if err == nil && total < 0 {
			err = errors.New("the server does not say how large the file is")
		}
		return total, err
	}
	if resp.ContentLength < 0 {
		return 0, errors.New("the server does not say how large the file is")
	}
	return resp.ContentLength, nil
}

type blob struct {
	t    *Transport
	path string
	size int64

	mu   sync.Mutex
	tags map[*mirror]string // strong ETags, by which a changed file is noticed
}

func (b *blob) Size() int64 { return b.size }

// Range implements image.Blob. Reading goes on over broken connections and mirrors that fail; an error of Read is final.
func (b *blob) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if off < 0 || n < 0 || off > b.size-n {
		return nil, fmt.Errorf("cannot fetch bytes %d to %d of %s: it has %d bytes", off, off+n, b.path, b.size)
	}
	r := &rangeReader{b: b, ctx: ctx, pos: off, end: off + n}
	if n == 0 {
		return r, nil
	}
	return r, r.open()
}

func (b *blob) remember(m *mirror, resp *http.Response) {
	tag := resp.Header.Get("ETag")
	if !strings.HasPrefix(tag, `"`) {
		return // weak tags may stay the same when the bytes do not
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tags[m] = tag
}

func (b *blob) tag(m *mirror) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tags[m]
}

// rangeReader reads the bytes from pos to end, opening connections as it needs them.
type rangeReader struct {
	b        *blob
	ctx      context.Context
	pos, end int64

	body     io.ReadCloser
	from     *mirror
	failures int   // in a row, without progress
	lastFail int64 // pos at the last failure
}

// open asks for what is missing.
func (r *rangeReader) open() error {
	header := func(m *mirror, h http.Header) {
		h.Set("Range", fmt.Sprintf("bytes=%d-%d", r.pos, r.end-1))
		if tag := r.b.tag(m); tag != "" {
			h.Set("If-Range", tag)
		}
	}
	resp, m, err := r.b.t.do(r.ctx, r.b.path, header, r.accept)
	if err != nil {
		return err
	}
	r.body, r.from = resp.Body, m
	return nil
}

// accept checks that an answer holds the bytes from pos on, and skips those before it if the server sent the whole file.
func (r *rangeReader) accept(m *mirror, resp *http.Response) error {
	total, err := totalSize(resp)
	if err != nil {
		return err
	}
	if total != r.b.size {
		return fmt.Errorf("%w: it has %d bytes, not %d", ErrChanged, total, r.b.size)
	}
	switch resp.StatusCode {
	case http.StatusPartialContent:
		first, last, _, err := contentRange(resp.Header.Get("Content-Range"))
		if err != nil {
			return err
		}
		if first != r.pos || last < first || last >= r.end {
			return fmt.Errorf("the server sent bytes %d to %d instead of %d to %d", first, last, r.pos, r.end-1)
		}
	default:
		// The server cannot do ranges, or If-Range says that the file changed. Every segment is verified later, so it is
		// enough that the size is right; what was read already is read again.
		if r.pos > 0 {
			r.b.t.o.Log(fmt.Sprintf("%s does not serve ranges: skipping %d bytes", redacted(m.at(r.b.path)), r.pos))
			if _, err := io.CopyN(io.Discard, resp.Body, r.pos); err != nil {
				return err
			}
		}
	}
	r.b.remember(m, resp)
	return nil
}

func (r *rangeReader) Read(p []byte) (int, error) {
	for {
		if r.pos >= r.end {
			return 0, io.EOF
		}
		if r.body == nil {
			if err := r.open(); err != nil {
				return 0, err
			}
		}
		n, err := r.body.Read(p[:min(int64(len(p)), r.end-r.pos)])
		r.pos += int64(n)
		if err != nil && r.pos < r.end {
			if err := r.broke(err); err != nil {
				return n, err
			}
		}
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
}

// broke ends a connection that broke, and waits before the next one if the last ones brought nothing either.
func (r *rangeReader) broke(err error) error {
	_ = r.body.Close()
	r.body = nil
	if cause := context.Cause(r.ctx); cause != nil {
		return cause
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	t := r.b.t
	if r.pos-r.lastFail >= t.o.StallBytes {
		r.failures = 0
	}
	r.lastFail = r.pos
	r.failures++
	r.from.failed()
	url := redacted(r.from.at(r.b.path))
	if r.failures > t.o.Tries {
		return &Error{URL: url, Tries: r.failures, Err: err, temp: true}
	}
	t.o.Log(fmt.Sprintf("the connection to %s broke at byte %d: %v: resuming", url, r.pos, err))
	return sleep(r.ctx, t.backoff(r.failures-1))
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

func (r *rangeReader) Close() error {
	r.end = r.pos
	if r.body == nil {
		return nil
	}
	err := r.body.Close()
	r.body = nil
	return err
}

// contentRange parses "bytes 0-99/1000"; total is -1 for "*".
func contentRange(s string) (first, last, total int64, err error) {
	bad := fmt.Errorf("the server sent a Content-Range of %.60q, want \"bytes FIRST-LAST/TOTAL\"", s)
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, size, ok2 := strings.Cut(rest, "/")
	a, z, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, 0, bad
	}
	if first, err = parseSize(a); err != nil {
		return 0, 0, 0, bad
	}
	if last, err = parseSize(z); err != nil || last < first {
		return 0, 0, 0, bad
	}
	if size == "*" {
		return first, last, -1, nil
	}
	if total, err = parseSize(size); err != nil || last >= total {
		return 0, 0, 0, bad
	}
	return first, last, total, nil
}

// parseSize accepts digits alone: no sign, no space.
func parseSize(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}
