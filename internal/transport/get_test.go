package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// roundTripper plays the network without sockets, so that synctest's clock can run.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answer is a response with a body.
func answer(code int, body string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: code, Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
}

func mustNew(t *testing.T, o Options) *Transport {
	t.Helper()
	tr, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// lines collects what is logged.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) log(s string) { l.mu.Lock(); l.all = append(l.all, s); l.mu.Unlock() }

func (l *lines) String() string { l.mu.Lock(); defer l.mu.Unlock(); return strings.Join(l.all, "\n") }

func TestGetStatus(t *testing.T) {
	for _, tc := range []struct {
		code     int
		tries    int
		notFound bool
		temp     bool
	}{
		{200, 1, false, false},
		{404, 1, true, false},
		{403, 1, true, false},
		{410, 1, true, false},
		{400, 1, false, false},
		{401, 1, false, false},
		{416, 1, false, false},
		{501, 1, false, false},
		{408, 3, false, true},
		{429, 3, false, true},
		{500, 3, false, true},
		{502, 3, false, true},
		{503, 3, false, true},
	} {
		t.Run(fmt.Sprint(tc.code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				tr := mustNew(t, Options{Mirrors: []string{"https://a.example/repo"}, Tries: 3, base: roundTripper(func(*http.Request) (*http.Response, error) {
					tries++
					return answer(tc.code, "hello"), nil
				})})
				data, err := tr.Get(t.Context(), "metadata/x.json", 100, nil)
				if tries != tc.tries {
					t.Errorf("%d tries, want %d", tries, tc.tries)
				}
				if tc.code == 200 {
					if err != nil || string(data) != "hello" {
						t.Errorf("got %q, %v", data, err)
					}
					return
				}
				var e *Error
				if !errors.As(err, &e) || e.Temporary() != tc.temp || errors.Is(err, ErrNotFound) != tc.notFound {
					t.Errorf("error = %v (temporary %v)", err, e.Temporary())
				}
				if !strings.Contains(err.Error(), "https://a.example/repo/metadata/x.json") {
					t.Errorf("error %q does not name the URL", err)
				}
			})
		})
	}
}

// TestBackoff: waits double, are jittered below their bound, and obey Retry-After up to the cap.
func TestBackoff(t *testing.T) {
	for name, tc := range map[string]struct {
		retryAfter string
		rand       float64
		want       time.Duration // of four waits
	}{
		"no jitter left": {"", 0.9999999, 1 + 2 + 4 + 5},
		"all jitter":     {"", 0, 0},
		"Retry-After":    {"3", 0, 4 * 3},
		"a year":         {"31536000", 0, 4 * 5},
		"8760 hours as a date": {
			time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC).Format(http.TimeFormat), 0, 4 * 5,
		},
		"a date in the past": {"Mon, 01 Jan 1990 00:00:00 GMT", 0, 0},
		"nonsense":           {"soon", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := mustNew(t, Options{
					Mirrors: []string{"https://a.example"}, Tries: 5, MinWait: time.Second, MaxWait: 5 * time.Second,
					rand: func() float64 { return tc.rand },
					base: roundTripper(func(*http.Request) (*http.Response, error) {
						return answer(503, "", "Retry-After", tc.retryAfter), nil
					}),
				})
				begin := time.Now()
				_, err := tr.Get(t.Context(), "x", 100, nil)
				if err == nil {
					t.Fatal("no error")
				}
				if got := time.Since(begin).Round(time.Second); got != tc.want*time.Second {
					t.Errorf("waited %v, want %v", got, tc.want*time.Second)
				}
			})
		})
	}
}

func TestGetEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("the operator cancelled")
		ctx, cancel := context.WithCancelCause(t.Context())
		tr := mustNew(t, Options{Mirrors: []string{"https://a.example"}, MaxWait: time.Hour, base: roundTripper(func(*http.Request) (*http.Response, error) {
			return answer(503, "", "Retry-After", "3000"), nil
		})})
		time.AfterFunc(10*time.Second, func() { cancel(cause) })
		begin := time.Now()
		if _, err := tr.Get(ctx, "x", 100, nil); !errors.Is(err, cause) {
			t.Errorf("error = %v", err)
		}
		if d := time.Since(begin); d != 10*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

// stalled is a body that sends n bytes every interval and never ends, until its request is cancelled.
type stalled struct {
	ctx      context.Context
	n        int
	interval time.Duration
}

func (s stalled) Read(p []byte) (int, error) {
	timer := time.NewTimer(s.interval)
	defer timer.Stop()
	select {
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	case <-timer.C:
		return copy(p, bytes.Repeat([]byte("x"), s.n)), nil
	}
}

func (s stalled) Close() error { return nil }

func TestStalledAndTricklingBodies(t *testing.T) {
	for name, tc := range map[string]struct {
		n        int
		interval time.Duration
		want     error
		within   time.Duration
	}{
		"nothing at all":       {0, 24 * time.Hour, ErrStalled, 30 * time.Second},
		"a byte a second":      {1, time.Second, ErrStalled, 30 * time.Second},
		"slow, but it arrives": {500, 5 * time.Second, ErrTooLarge, 110 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := mustNew(t, Options{
					Mirrors: []string{"https://a.example"}, Tries: 1, StallBytes: 1000, StallTimeout: 30 * time.Second,
					base: roundTripper(func(r *http.Request) (*http.Response, error) {
						resp := answer(200, "")
						resp.ContentLength, resp.Body = -1, stalled{r.Context(), tc.n, tc.interval}
						return resp, nil
					}),
				})
				begin := time.Now()
				_, err := tr.Get(t.Context(), "x", 10000, nil)
				if !errors.Is(err, tc.want) {
					t.Errorf("error = %v, want %v", err, tc.want)
				}
				if d := time.Since(begin); d > tc.within {
					t.Errorf("it took %v, want at most %v", d, tc.within)
				}
			})
		})
	}
}

func TestLimits(t *testing.T) {
	for name, tc := range map[string]struct {
		body   string
		length int64
		want   error
	}{
		"at the limit":             {"12345", 5, nil},
		"one more, told":           {"123456", 6, ErrTooLarge},
		"one more, not told":       {"123456", -1, ErrTooLarge},
		"huge, told before a byte": {"", 1 << 40, ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			tr := mustNew(t, Options{Mirrors: []string{"https://a.example"}, base: roundTripper(func(*http.Request) (*http.Response, error) {
				resp := answer(200, tc.body)
				resp.ContentLength = tc.length
				return resp, nil
			})})
			data, err := tr.Get(t.Context(), "x", 5, nil)
			if !errors.Is(err, tc.want) || err == nil && string(data) != tc.body {
				t.Errorf("got %q, %v", data, err)
			}
		})
	}
}

// mirrors answers for several hosts.
func mirrors(hosts map[string]func() (*http.Response, error)) (roundTripper, func() string) {
	var asked []string
	rt := func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.URL.Host)
		return hosts[r.URL.Host]()
	}
	return rt, func() string { s := strings.Join(asked, " "); asked = nil; return s }
}

func TestFailover(t *testing.T) {
	ok := func() (*http.Response, error) { return answer(200, "good"), nil }
	down := func() (*http.Response, error) { return nil, errors.New("connection refused") }
	none := func() (*http.Response, error) { return answer(404, ""), nil }
	bad := func() (*http.Response, error) { return answer(200, "evil"), nil }
	sick := func() (*http.Response, error) { return answer(500, ""), nil }
	evil := errors.New("evil bytes")
	for name, tc := range map[string]struct {
		a, b  func() (*http.Response, error)
		asked string
		want  error
		temp  bool
	}{
		"first works":         {ok, down, "a", nil, false},
		"first is down":       {down, ok, "a b", nil, false},
		"first lacks it":      {none, ok, "a b", nil, false},
		"first lies":          {bad, ok, "a b", nil, false},
		"none has it":         {none, none, "a b", ErrNotFound, false},
		"one down, none has":  {down, none, "a b", ErrNotFound, false},
		"none has, one down":  {none, down, "a b", ErrNotFound, false},
		"both lie":            {bad, bad, "a b", evil, false},
		"one lies, one lacks": {bad, none, "a b", evil, false},
		"both down":           {down, sick, "a b a b", nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rt, asked := mirrors(map[string]func() (*http.Response, error){"a": tc.a, "b": tc.b})
				tr := mustNew(t, Options{Mirrors: []string{"https://a/x", "https://b/y"}, Tries: 2, base: rt})
				data, err := tr.Get(t.Context(), "f", 100, func(b []byte) error {
					if string(b) == "evil" {
						return evil
					}
					return nil
				})
				if got := asked(); got != tc.asked {
					t.Errorf("asked %s, want %s", got, tc.asked)
				}
				var e *Error
				switch {
				case tc.want != nil && !errors.Is(err, tc.want):
					t.Errorf("error = %v, want %v", err, tc.want)
				case tc.temp && (!errors.As(err, &e) || !e.Temporary()):
					t.Errorf("error = %v, want a temporary one", err)
				case tc.want == nil && !tc.temp && (err != nil || string(data) != "good"):
					t.Errorf("got %q, %v", data, err)
				}
			})
		})
	}
}

// TestHealthMemory: a mirror that failed is asked last, until its penalty is over.
func TestHealthMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := false
		rt, asked := mirrors(map[string]func() (*http.Response, error){
			"a": func() (*http.Response, error) {
				if !up {
					return nil, errors.New("no route to host")
				}
				return answer(200, "a"), nil
			},
			"b": func() (*http.Response, error) { return answer(200, "b"), nil },
		})
		tr := mustNew(t, Options{Mirrors: []string{"https://a", "https://b"}, base: rt})
		get := func(want string) {
			t.Helper()
			if _, err := tr.Get(t.Context(), "f", 100, nil); err != nil {
				t.Fatal(err)
			}
			if got := asked(); got != want {
				t.Errorf("asked %s, want %s", got, want)
			}
		}
		get("a b")
		get("b")
		time.Sleep(minPenalty + time.Second)
		get("a b")
		time.Sleep(minPenalty + time.Second)
		get("b") // twice as long the second time
		up = true
		time.Sleep(2 * minPenalty)
		get("a")
		get("a")
	})
}

// TestNoSecretsAreShown: tokens, queries and passwords go to the server and nowhere else.
func TestNoSecretsAreShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(token, []byte("s3cret-token\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		var l lines
		var sent []string
		tr := mustNew(t, Options{
			Mirrors:   []string{"https://a.example/r?sig=s3cret-query", "https://bob:s3cret-password@b.example/r"},
			TokenFile: token, Tries: 2, Log: l.log,
			base: roundTripper(func(r *http.Request) (*http.Response, error) {
				sent = append(sent, r.URL.String()+" "+r.Header.Get("Authorization"))
				return nil, fmt.Errorf("dial %s: connection refused", r.URL.Host)
			}),
		})
		_, err := tr.Get(t.Context(), "f", 100, nil)
		shown := fmt.Sprint(err, l.String(), tr.URL("f"))
		if strings.Contains(shown, "s3cret") || err == nil || len(l.all) == 0 {
			t.Errorf("shown: %s", shown)
		}
		if !strings.Contains(sent[0], "sig=s3cret-query") || !strings.Contains(sent[0], "Bearer s3cret-token") {
			t.Errorf("sent: %q", sent[0])
		}
		if strings.Contains(sent[1], "sig=") || strings.Contains(sent[1], "s3cret-password@") {
			t.Errorf("sent to the other mirror: %q", sent[1])
		}
	})
}

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	one := []string{"https://a.example"}
	for name, tc := range map[string]struct {
		o    Options
		want string
	}{
		"no mirrors":             {Options{}, "no repository"},
		"ftp":                    {Options{Mirrors: []string{"ftp://a/b?key=s3cret"}}, "ftp://a/b: want http"},
		"relative":               {Options{Mirrors: []string{"repo"}}, "want http"},
		"no host":                {Options{Mirrors: []string{"https:///x"}}, "want http"},
		"not a URL":              {Options{Mirrors: []string{"https://a b\x00"}}, "cannot read repository URL"},
		"token in the clear":     {Options{Mirrors: []string{"http://a.example"}, TokenFile: empty}, "use https"},
		"certificate, no key":    {Options{Mirrors: one, CertFile: empty}, "without its key"},
		"certificate is none":    {Options{Mirrors: one, CertFile: empty, KeyFile: empty}, "client certificate"},
		"authorities missing":    {Options{Mirrors: one, CAFile: filepath.Join(dir, "no")}, "certificate authorities"},
		"authorities are none":   {Options{Mirrors: one, CAFile: empty}, "no PEM"},
		"proxy without a scheme": {Options{Mirrors: one, Proxy: "proxy"}, "proxy"},
	} {
		if _, err := New(tc.o); err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	if _, err := New(Options{Mirrors: []string{"http://127.0.0.1:8080"}, TokenFile: empty}); err != nil {
		t.Errorf("token to loopback: %v", err)
	}
}

func TestPaths(t *testing.T) {
	var got string
	tr := mustNew(t, Options{Mirrors: []string{"https://a.example/base/?x=1"}, base: roundTripper(func(r *http.Request) (*http.Response, error) {
		got = r.URL.String()
		return answer(200, ""), nil
	})})
	for path, want := range map[string]string{
		"metadata/1.root.json":       "https://a.example/base/metadata/1.root.json?x=1",
		"metadata/1.%3F.json":        "https://a.example/base/metadata/1.%3F.json?x=1",
		"metadata/1.%2Fx.json":       "https://a.example/base/metadata/1.%2Fx.json?x=1",
		"metadata/1...%2Fx.json":     "https://a.example/base/metadata/1...%2Fx.json?x=1",
		"targets/a/b%20c":            "https://a.example/base/targets/a/b%20c?x=1",
		"../etc/passwd":              "",
		"targets/..%2F..%2F../x":     "",
		"/etc/passwd":                "",
		"targets/%zz":                "",
		"":                           "",
		"metadata/../../etc/passwd":  "",
		"metadata/%2e%2e/%2e%2e/etc": "",
	} {
		got = ""
		_, err := tr.Get(t.Context(), path, 10, nil)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q asked for %q (%v), want %q", path, got, err, want)
		}
	}
}
