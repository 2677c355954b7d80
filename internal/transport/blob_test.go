package transport

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	mrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// content is a file of some size without repetition.
func content(n int) []byte {
	b := make([]byte, n)
	src := mrand.New(mrand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(src.Uint32())
	}
	return b
}

func fast(o Options, mirrors ...string) Options {
	o.Mirrors, o.MinWait, o.MaxWait, o.Proxy = mirrors, time.Nanosecond, time.Nanosecond, "none"
	return o
}

// breaking serves data, and breaks each connection after a few bytes.
type breaking struct {
	data    []byte
	after   int    // bytes per answer
	etag    string // of the answers
	ignores bool   // knows no ranges
	mu      sync.Mutex
	asked   []string
}

func (b *breaking) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	b.asked = append(b.asked, r.Header.Get("Range")+" "+r.Header.Get("If-Range"))
	b.mu.Unlock()
	if b.ignores {
		r.Header.Del("Range")
	}
	if b.etag != "" {
		w.Header().Set("ETag", b.etag)
	}
	http.ServeContent(&cutWriter{w, b.after}, r, "", time.Time{}, bytes.NewReader(b.data))
}

type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if c.left <= 0 {
		panic(http.ErrAbortHandler)
	}
	n, err := c.ResponseWriter.Write(p[:min(len(p), c.left)])
	c.left -= n
	if f, ok := c.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
	if n < len(p) && err == nil {
		panic(http.ErrAbortHandler)
	}
	return n, err
}

func TestRangeResumes(t *testing.T) {
	data := content(200_000)
	for name, tc := range map[string]struct {
		server *breaking
		off, n int64
		ifs    bool // later requests carry If-Range
	}{
		"breaks often":             {&breaking{data: data, after: 30_000, etag: `"v1"`}, 1000, 150_000, true},
		"no ETag":                  {&breaking{data: data, after: 30_000}, 1000, 150_000, false},
		"weak ETag":                {&breaking{data: data, after: 30_000, etag: `W/"v1"`}, 1000, 150_000, false},
		"knows no ranges":          {&breaking{data: data, after: 1 << 30, ignores: true}, 1000, 150_000, false},
		"breaks, knows no ranges":  {&breaking{data: data, after: 160_000, ignores: true}, 1000, 199_000, false},
		"whole file in one answer": {&breaking{data: data, after: 1 << 30, etag: `"v1"`}, 0, 200_000, false},
		"last byte":                {&breaking{data: data, after: 1 << 30}, 199_999, 1, false},
		"nothing":                  {&breaking{data: data, after: 1 << 30}, 200_000, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(tc.server)
			defer server.Close()
			tr := mustNew(t, fast(Options{}, server.URL))
			b, err := tr.Blob(t.Context(), "p", -1)
			if err != nil || b.Size() != int64(len(data)) {
				t.Fatalf("blob: %v, size %d", err, b.Size())
			}
			r, err := b.Range(t.Context(), tc.off, tc.n)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if name == "breaks, knows no ranges" {
				if err == nil || len(got) < 150_000 {
					t.Errorf("%d bytes, %v: want an error in the end, since no try gets further", len(got), err)
				}
				return
			}
			if err != nil || !bytes.Equal(got, data[tc.off:tc.off+tc.n]) {
				t.Errorf("%d bytes, %v; want the %d from %d", len(got), err, tc.n, tc.off)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			for i, asked := range tc.server.asked {
				if i > 0 && strings.Contains(asked, `"v1"`) != tc.ifs && tc.n > 200 && tc.server.etag == `"v1"` && tc.ifs {
					t.Errorf("request %d: %q", i, asked)
				}
				if !tc.ifs && tc.server.etag != `"v1"` && strings.Contains(asked, `"`) {
					t.Errorf("request %d carries %q", i, asked)
				}
			}
		})
	}
}

func TestRangeRefuses(t *testing.T) {
	tr := mustNew(t, Options{Mirrors: []string{"https://a"}, base: roundTripper(func(*http.Request) (*http.Response, error) {
		t.Error("the network was asked")
		return nil, io.EOF
	})})
	b, err := tr.Blob(t.Context(), "p", 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]int64{{-1, 1}, {0, 101}, {100, 1}, {50, -1}, {1 << 62, 1 << 62}} {
		if _, err := b.Range(t.Context(), r[0], r[1]); err == nil {
			t.Errorf("range %v was given", r)
		}
	}
}

// TestWrongAnswers: a server that answers a range with something else.
func TestWrongAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		resp *http.Response
		want string
	}{
		"other first byte":   {answer(206, "0123456789", "Content-Range", "bytes 11-20/100"), "instead of"},
		"more than asked":    {answer(206, "0123456789x", "Content-Range", "bytes 10-20/100"), "instead of"},
		"other size":         {answer(206, "0123456789", "Content-Range", "bytes 10-19/101"), "changed"},
		"no size":            {answer(206, "0123456789", "Content-Range", "bytes 10-19/*"), "how large"},
		"no Content-Range":   {answer(206, "0123456789"), "Content-Range"},
		"multipart":          {answer(206, "x", "Content-Type", "multipart/byteranges"), "Content-Range"},
		"several units":      {answer(206, "x", "Content-Range", "lines 10-19/100"), "Content-Range"},
		"last before first":  {answer(206, "x", "Content-Range", "bytes 10-9/100"), "Content-Range"},
		"negative":           {answer(206, "x", "Content-Range", "bytes -10-19/100"), "Content-Range"},
		"whole, other size":  {answer(200, "short"), "changed"},
		"unsatisfiable":      {answer(416, "", "Content-Range", "bytes */5"), "shorter than it should be"},
		"not found":          {answer(404, ""), "no such file"},
		"whole, cut at once": {&http.Response{StatusCode: 200, ContentLength: 100, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("012"))}, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := mustNew(t, Options{Mirrors: []string{"https://a"}, Tries: 1, base: roundTripper(func(*http.Request) (*http.Response, error) {
					r := *tc.resp
					return &r, nil
				})})
				b, err := tr.Blob(t.Context(), "p", 100)
				if err != nil {
					t.Fatal(err)
				}
				_, err = b.Range(t.Context(), 10, 10)
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("error = %v, want %q", err, tc.want)
				}
			})
		})
	}
}

// TestRangeFailsOver: one mirror breaks in the middle and is gone, the other goes on at that byte.
func TestRangeFailsOver(t *testing.T) {
	data := content(100_000)
	a := httptest.NewServer(&breaking{data: data, after: 40_000, etag: `"a"`})
	b := httptest.NewServer(&breaking{data: data, after: 1 << 30, etag: `"b"`})
	defer a.Close()
	defer b.Close()
	var l lines
	tr := mustNew(t, fast(Options{Log: l.log}, a.URL, b.URL))
	blob, err := tr.Blob(t.Context(), "p", int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	r, err := blob.Range(t.Context(), 0, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if !strings.Contains(l.String(), "broke at byte 40000") {
		t.Errorf("log = %s", l.String())
	}
}

// TestRangeGivesUp: a server that sends a little and breaks, for ever, is left in the end; with an error that says that
// waiting may help.
func TestRangeGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		tr := mustNew(t, Options{Mirrors: []string{"https://a"}, Tries: 3, base: roundTripper(func(r *http.Request) (*http.Response, error) {
			asked++
			var first, last int64
			_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last)
			resp := answer(206, "x", "Content-Range", fmt.Sprintf("bytes %d-%d/100000", first, last))
			return resp, nil
		})})
		b, _ := tr.Blob(t.Context(), "p", 100_000)
		r, err := b.Range(t.Context(), 0, 100_000)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		var e *Error
		if !errors.As(err, &e) || !e.Temporary() || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("error = %v, want a temporary one", err)
		}
		if asked != 4 || len(got) != 4 {
			t.Errorf("%d requests for %d bytes, want 4 for 4", asked, len(got))
		}
	})
}

// TestSlowDiskIsNoStall: only the time spent waiting for the server counts.
func TestSlowDiskIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := content(10_000)
		tr := mustNew(t, Options{Mirrors: []string{"https://a"}, StallTimeout: time.Second, StallBytes: 5_000, base: roundTripper(func(*http.Request) (*http.Response, error) {
			return answer(206, string(data), "Content-Range", "bytes 0-9999/10000"), nil
		})})
		b, _ := tr.Blob(t.Context(), "p", 10_000)
		r, err := b.Range(t.Context(), 0, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1000)
		for range 10 {
			if _, err := io.ReadFull(r, buf); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
	})
}

func TestRangeEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("cancelled")
		ctx, cancel := context.WithCancelCause(t.Context())
		tr := mustNew(t, Options{Mirrors: []string{"https://a"}, StallTimeout: time.Hour, base: roundTripper(func(r *http.Request) (*http.Response, error) {
			resp := answer(206, "", "Content-Range", "bytes 0-99/100")
			resp.Body = stalled{r.Context(), 0, time.Hour}
			return resp, nil
		})})
		b, _ := tr.Blob(t.Context(), "p", 100)
		r, err := b.Range(ctx, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, func() { cancel(cause) })
		if _, err := io.ReadAll(r); !errors.Is(err, cause) {
			t.Errorf("error = %v", err)
		}
	})
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-0/1", "bytes 0-99/*", "bytes */5", "bytes 1-2/9223372036854775807", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, last, total, err := contentRange(s)
		if err == nil && (first < 0 || last < first || total >= 0 && last >= total || total < -1) {
			t.Errorf("%q: %d-%d/%d", s, first, last, total)
		}
	})
}

// pki is a certificate authority with files for a server and a client.
type pki struct {
	dir    string
	ca     *x509.Certificate
	caKey  *ecdsa.PrivateKey
	server tls.Certificate
}

func newPKI(t *testing.T) *pki {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	p := &pki{dir: t.TempDir(), ca: ca, caKey: key}
	p.write(t, "ca.pem", "CERTIFICATE", der)
	p.issue(t, "server", 2)
	if p.server, err = tls.LoadX509KeyPair(p.path("server.pem"), p.path("server.key")); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *pki) path(name string) string { return filepath.Join(p.dir, name) }

func (p *pki) write(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(p.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// issue writes NAME.pem and NAME.key.
func (p *pki) issue(t *testing.T, name string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, p.ca, key.Public(), p.caKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, name+".pem", "CERTIFICATE", der)
	p.write(t, name+".key", "EC PRIVATE KEY", keyDER)
}

// TestTLS: an authority of one's own, and a client certificate that is renewed while the agent runs.
func TestTLS(t *testing.T) {
	p := newPKI(t)
	pool := x509.NewCertPool()
	pool.AddCert(p.ca)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		_, _ = fmt.Fprint(w, r.TLS.PeerCertificates[0].SerialNumber)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{p.server}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"http/1.1"}}
	server.StartTLS()
	defer server.Close()
	u, _ := url.Parse(server.URL)
	mirror := "https://localhost:" + u.Port()

	p.issue(t, "client", 7)
	tr := mustNew(t, fast(Options{Tries: 1, CAFile: p.path("ca.pem"), CertFile: p.path("client.pem"), KeyFile: p.path("client.key")}, mirror))
	get := func(want string) {
		t.Helper()
		if data, err := tr.Get(t.Context(), "f", 100, nil); err != nil || string(data) != want {
			t.Errorf("the server saw certificate %q, %v; want %s", data, err, want)
		}
	}
	get("7")
	p.issue(t, "client", 8)
	get("8")

	for name, o := range map[string]Options{
		"no client certificate": {CAFile: p.path("ca.pem")},
		"system authorities":    {CertFile: p.path("client.pem"), KeyFile: p.path("client.key")},
	} {
		o.Tries = 3
		_, err := mustNew(t, fast(o, mirror)).Get(t.Context(), "f", 100, nil)
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		var e *Error
		if name == "system authorities" && (!errors.As(err, &e) || e.Tries != 1 || e.Temporary()) {
			t.Errorf("%s: %v: want one try", name, err)
		}
	}
}

func TestProxy(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, "proxied "+r.URL.String())
	}))
	defer proxy.Close()
	tr := mustNew(t, Options{Mirrors: []string{"http://repo.example/r"}, Tries: 1, Proxy: proxy.URL})
	data, err := tr.Get(t.Context(), "f", 100, nil)
	if err != nil || string(data) != "proxied http://repo.example/r/f" {
		t.Errorf("got %q, %v", data, err)
	}
}
