package health_test

import (
	"bytes"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel-os/evenkeel/health"
)

// site answers as the checks below expect it to.
func site() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "status: ready\n") })
	mux.HandleFunc("/created", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) })
	mux.HandleFunc("/busy", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "busy", http.StatusServiceUnavailable) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) })
	mux.HandleFunc("/secret", func(w http.ResponseWriter, r *http.Request) {
		if u, p, ok := r.BasicAuth(); !ok || u != "me" || p != "hunter2" || r.URL.RawQuery != "token=hunter2" {
			http.Error(w, "who are you", http.StatusUnauthorized)
		}
	})
	mux.HandleFunc("/late", func(w http.ResponseWriter, _ *http.Request) {
		w.Write(bytes.Repeat([]byte{'.'}, 1<<20))
		io.WriteString(w, "ready")
	})
	mux.HandleFunc("/short", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, "half of it, not yet there")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	mux.HandleFunc("/agent", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.UserAgent()) })
	return mux
}

func server(t *testing.T, start func(*httptest.Server)) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(site())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	start(s)
	t.Cleanup(s.Close)
	return s
}

func TestHTTP(t *testing.T) {
	s := server(t, (*httptest.Server).Start)
	tests := []struct {
		path     string
		status   int
		contains string
		want     string // "": it passes
	}{
		{"/ok", 0, "", ""},
		{"/created", 0, "", ""},
		{"/ok", 200, "ready", ""},
		{"/created", 200, "", "it answered 201 Created, want 200"},
		{"/busy", 0, "", "it answered 503 Service Unavailable, want 200 to 299"},
		{"/busy", 503, "busy", ""},
		{"/missing", 404, "", ""},
		{"/moved", 0, "", "it answered 302 Found, want 200 to 299"},
		{"/moved", 302, "", ""},
		{"/ok", 0, "steady", `its answer, 14 bytes, does not contain "steady"`},
		{"/late", 0, "ready", `its answer, 1048576 bytes, does not contain "ready"`},
		{"/short", 0, "ready", "its answer broke off after 25 bytes: unexpected EOF"},
		{"/agent", 0, "evenkeel-health", ""},
	}
	for _, tt := range tests {
		c := only(t, probe(t, health.Config{HTTP: []health.HTTPCheck{{URL: s.URL + tt.path, Status: tt.status, Contains: tt.contains}}}))
		if c.OK != (tt.want == "") || c.Output != tt.want {
			t.Errorf("%s, status %d, contains %q: %+v, want %q", tt.path, tt.status, tt.contains, c, tt.want)
		}
		if want := strings.TrimPrefix(s.URL, "http://") + tt.path; c.Name != want {
			t.Errorf("name = %q, want %q", c.Name, want)
		}
	}
}

// TestHTTPUsesNoProxy: there is nobody at this address (RFC 5737), and nobody at the proxy's of TestMain.
func TestHTTPUsesNoProxy(t *testing.T) {
	c := only(t, probe(t, health.Config{HTTP: []health.HTTPCheck{{URL: "http://192.0.2.1/ok"}}, Timeout: 200 * time.Millisecond}))
	if c.OK || strings.Contains(c.Output, "127.0.0.1") {
		t.Errorf("check = %+v: it went to the proxy", c)
	}
}

// TestSecretsInURLs are used and not told.
func TestSecretsInURLs(t *testing.T) {
	s := server(t, (*httptest.Server).Start)
	u, _ := url.Parse(s.URL + "/secret?token=hunter2")
	u.User = url.UserPassword("me", "hunter2")
	c := only(t, probe(t, health.Config{HTTP: []health.HTTPCheck{{URL: u.String()}}}))
	if !c.OK || strings.Contains(c.Name, "hunter2") {
		t.Errorf("check = %+v", c)
	}
	s.Close()
	c = only(t, probe(t, health.Config{HTTP: []health.HTTPCheck{{URL: u.String()}}}))
	if c.OK || strings.Contains(c.Name+c.Output, "hunter2") || !strings.Contains(c.Output, "connection refused") {
		t.Errorf("check = %+v, want a refused connection without the secret", c)
	}
}

// ca writes the certificate that s shows, which signs itself.
func ca(t *testing.T, s *httptest.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// otherCA is a certificate of somebody else's (httptest has only one): made with
// openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=other -days 36500
const otherCA = `-----BEGIN CERTIFICATE-----
MIIBdjCCAR2gAwIBAgIUKIXSKTBoa98DZ1wmHRLfUsZikekwCgYIKoZIzj0EAwIw
EDEOMAwGA1UEAwwFb3RoZXIwIBcNMjYxMTI1MjE1NTIzWhgPMjEyNjExMDEyMTU1
MjNaMBAxDjAMBgNVBAMMBW90aGVyMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
PoFhZcB4UCCs4zOFijHpBbtOgrgRRfzHUfGqar3eBIpf+Hro/xNCKke5cNq2ew/Z
EJHJfodtGQHsI+4tydNKwKNTMFEwHQYDVR0OBBYEFFfc8v4L4n4CmQkVOz+3bkQX
+QByMB8GA1UdIwQYMBaAFFfc8v4L4n4CmQkVOz+3bkQX+QByMA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoZIzj0EAwIDRwAwRAIgENpvkDDFJkel6/wVbMSRHzS2hMoYoo/Z
pLU6y4sJ/AsCIH9roGEv3RCHKM8KOw9AXa0N2VVELfh0P+thB4EXXjm0
-----END CERTIFICATE-----
`

func TestTLS(t *testing.T) {
	s := server(t, (*httptest.Server).StartTLS)
	other, empty := filepath.Join(t.TempDir(), "other.pem"), filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(other, []byte(otherCA), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(empty, []byte("no certificate\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		tls  health.TLS
		want string
	}{
		{"its authority", health.TLS{CA: ca(t, s)}, ""},
		{"its authority, another of its names", health.TLS{CA: ca(t, s), ServerName: "example.com"}, ""},
		{"its authority, not its name", health.TLS{CA: ca(t, s), ServerName: "bank.example"}, "not bank.example"},
		{"the system's authorities", health.TLS{}, "unknown authority"},
		{"another authority", health.TLS{CA: other}, "unknown authority"},
		{"anybody", health.TLS{SkipVerify: true}, ""},
		{"missing file", health.TLS{CA: other + "x"}, "cannot read the certificate authorities: open"},
		{"no certificate", health.TLS{CA: empty}, "empty.pem holds no certificate in PEM"},
	}
	for _, tt := range tests {
		c := only(t, probe(t, health.Config{HTTP: []health.HTTPCheck{{URL: s.URL + "/ok", Contains: "ready", TLS: tt.tls}}}))
		if c.OK != (tt.want == "") || !strings.Contains(c.Output, tt.want) {
			t.Errorf("%s: %+v, want %q", tt.name, c, tt.want)
		}
	}
	c := only(t, probe(t, health.Config{HTTP: []health.HTTPCheck{{URL: strings.Replace(s.URL, "https", "http", 1) + "/ok"}}}))
	if c.OK || !strings.Contains(c.Output, "400 Bad Request") {
		t.Errorf("http to an https port: %+v", c)
	}
}

// mute returns an address that accepts connections and says nothing.
func mute(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func TestHTTPServerThatSaysNothing(t *testing.T) {
	c := only(t, probe(t, health.Config{HTTP: []health.HTTPCheck{{URL: "http://" + mute(t)}}, Timeout: 100 * time.Millisecond}))
	if c.OK || c.Output != "it did not end within 100ms" {
		t.Errorf("check = %+v", c)
	}
}

func TestTCP(t *testing.T) {
	address := mute(t)
	c := only(t, probe(t, health.Config{TCP: []health.TCPCheck{{Address: address}}}))
	if !c.OK || c.Name != address || c.Output != "" {
		t.Errorf("check = %+v", c)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	c = only(t, probe(t, health.Config{TCP: []health.TCPCheck{{Rule: health.Rule{Name: "db"}, Address: closed}}}))
	if c.OK || c.Name != "db" || !strings.Contains(c.Output, "connection refused") {
		t.Errorf("check = %+v", c)
	}
}
