package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// call is one file being fetched: which mirrors were asked, and what they said.
type call struct {
	t      *Transport
	ctx    context.Context
	path   string
	header func(*mirror, http.Header) // adds to the request's header; may be nil
	handle func(*mirror, *http.Response) error

	order    []*mirror
	at       int              // index of the mirror of the present try
	done     map[*mirror]bool // would only say the same again
	tries    int
	answered error // a definite answer: not found, too large, rejected
	missing  bool  // at least one mirror says that there is no such file
	last     error
}

// do runs the call until a mirror's answer satisfies handle. The body is open then, and the caller's.
func (t *Transport) do(ctx context.Context, path string, header func(*mirror, http.Header), handle func(*mirror, *http.Response) error) (*http.Response, *mirror, error) {
	c := &call{t: t, ctx: ctx, path: path, header: header, handle: handle, order: t.order(), done: map[*mirror]bool{}}
	if name, err := url.PathUnescape(path); err != nil || !filepath.IsLocal(name) {
		return nil, nil, fmt.Errorf("cannot fetch %.200q: it is no path below a repository", path)
	}
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, redacted(c.order[0].base), nil)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot fetch %s: %w", path, unwrapURL(err))
	}
	if err := c.prepare(req.Request); err != nil {
		return nil, nil, err
	}
	req.SetResponseHandler(c.respond)
	client := &retryablehttp.Client{
		HTTPClient: t.http, RetryMax: 1 << 30,
		CheckRetry: c.check, Backoff: c.wait, PrepareRetry: c.prepare, ErrorHandler: c.giveUp,
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, c.err(err)
	}
	m := c.order[c.at]
	m.worked()
	return resp, m, nil
}

// prepare points the next try at the present mirror.
func (c *call) prepare(req *http.Request) error {
	m := c.order[c.at]
	req.URL, req.Host = m.at(c.path), m.base.Host
	req.Header = http.Header{"User-Agent": {c.t.o.UserAgent}, "Accept-Encoding": {"identity"}}
	if u := m.base.User; u != nil {
		password, _ := u.Password()
		req.URL.User = nil
		req.SetBasicAuth(u.Username(), password)
	}
	if m.base.Scheme != "file" {
		token, err := c.t.token()
		if err != nil {
			return err
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
	}
	if c.header != nil {
		c.header(m, req.Header)
	}
	return nil
}

// respond judges an answer, and lets the caller's handler read it.
func (c *call) respond(resp *http.Response) error {
	if err := statusErr(resp.StatusCode); err != nil {
		return err
	}
	return c.handle(c.order[c.at], resp)
}

// check is the retry policy: it moves on to the mirror to be asked next, or ends the call. It is asked before respond, which
// turns an answer without the file into an error, and after it.
func (c *call) check(_ context.Context, _ *http.Response, err error) (bool, error) {
	if err == nil {
		return false, nil
	}
	c.tries++
	if cause := context.Cause(c.ctx); cause != nil {
		return false, cause
	}
	c.note(unwrapURL(err))
	if !c.next() {
		return false, c.last
	}
	return true, nil
}

// note keeps what the present mirror said.
func (c *call) note(err error) {
	m := c.order[c.at]
	c.last = err
	if permanent(err) {
		c.done[m] = true
		c.answered = prefer(c.answered, err)
	}
	if errors.Is(err, ErrNotFound) {
		c.missing = true
	} else {
		m.failed()
		c.t.o.Log(fmt.Sprintf("cannot fetch %s: %v", redacted(m.at(c.path)), err))
	}
}

// prefer keeps the answer that says most: bytes that were rejected say more than a missing file.
func prefer(a, b error) error {
	if a == nil || errors.Is(a, ErrNotFound) {
		return b
	}
	return a
}

// next chooses the mirror of the next try. Once a mirror gave a definite answer the others are asked once at most: a
// mirror that is down must not delay what another one knows.
func (c *call) next() bool {
	rounds := c.t.o.Tries
	if c.answered != nil {
		rounds = 1
	}
	for c.tries < len(c.order)*rounds {
		c.at = c.tries % len(c.order)
		if !c.done[c.order[c.at]] {
			return true
		}
		c.tries++
	}
	return false
}

// wait is the back-off before the next try: none before every mirror was asked once, then full jitter under a doubling
// bound. Retry-After is obeyed up to the cap.
func (c *call) wait(_, _ time.Duration, _ int, resp *http.Response) time.Duration {
	round := c.tries / len(c.order)
	if round == 0 {
		return 0
	}
	wait := c.t.backoff(round - 1)
	if resp != nil {
		wait += min(retryAfter(resp.Header.Get("Retry-After")), c.t.o.MaxWait)
	}
	return wait
}

// backoff returns a random wait below MinWait * 2^round, capped.
func (t *Transport) backoff(round int) time.Duration {
	bound := min(t.o.MinWait<<min(round, 20), t.o.MaxWait)
	return time.Duration(t.o.rand() * float64(bound))
}

func retryAfter(header string) time.Duration {
	if s, err := strconv.ParseInt(header, 10, 32); err == nil && s > 0 {
		return time.Duration(s) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// giveUp replaces go-retryablehttp's last words, which would hold the URL with its query.
func (c *call) giveUp(resp *http.Response, err error, _ int) (*http.Response, error) {
	if resp != nil {
		_ = resp.Body.Close()
	}
	if err == nil {
		err = c.last
	}
	return nil, err
}

// err describes the failure of the whole call.
func (c *call) err(err error) error {
	if cause := context.Cause(c.ctx); cause != nil {
		return cause
	}
	temp := c.answered == nil
	if c.answered != nil {
		err = c.answered
	}
	var rejected *rejectedError
	if errors.As(err, &rejected) {
		if c.missing {
			return fmt.Errorf("%w (and of another mirror: %w)", rejected.err, ErrNotFound)
		}
		return rejected.err
	}
	return &Error{URL: redacted(c.order[c.at].at(c.path)), Tries: c.tries, Err: unwrapURL(err), temp: temp}
}

// Get returns a whole file of at most limit bytes. path is slash-separated, percent-encoded, and relative to the
// repository. check, which may be nil, looks at the bytes: where it returns an error the next mirror is asked, and if none
// satisfies it that error is returned as it is, or, if another mirror lacks the file, together with ErrNotFound. All other errors are *Error, or the cause of ctx's end.
func (t *Transport) Get(ctx context.Context, path string, limit int64, check func([]byte) error) ([]byte, error) {
	var data []byte
	resp, _, err := t.do(ctx, path, nil, func(_ *mirror, resp *http.Response) error {
		if resp.StatusCode != http.StatusOK {
			return &StatusError{resp.StatusCode}
		}
		if resp.ContentLength > limit {
			return fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, resp.ContentLength, limit)
		}
		got, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
		if err != nil {
			return err
		}
		if int64(len(got)) > limit {
			return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
		}
		if check != nil {
			if err := check(got); err != nil {
				return &rejectedError{err}
			}
		}
		data = got
		return nil
	})
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close()
	return data, nil
}
