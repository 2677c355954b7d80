// Package transport fetches files of a repository: over HTTP from one or several mirrors, or from a directory.
//
// Nothing that it returns is trusted. What it promises is about the network alone:
//
//   - It ends. Every wait is bounded: connecting, response headers, a body that stalls or trickles, retries and
//     Retry-After. A file that does not exist (404, 403, 410) is not asked for again.
//   - It is bounded. Get never holds more than the caller's limit; a Blob holds nothing.
//   - It goes on. Mirrors are tried in order, those that failed lately last; a body that breaks is resumed where it broke
//     by Range with If-Range, and checked by Content-Range.
//   - It keeps secrets. Queries, passwords and tokens appear in no error and no log line.
//
// Retries are go-retryablehttp's; its back-off, its policy and its logger are replaced, because it sleeps as long as a
// server's Retry-After says and logs queries.
package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options says where from and how files are fetched. The zero value of each field but Mirrors is a good default.
type Options struct {
	// Mirrors are the places of the repository, best first: http://, https:// and file:// URLs, or absolute paths of
	// directories. A query is kept and sent with every request (SAS tokens), and never shown.
	Mirrors []string
	// UserAgent is sent with every request.
	UserAgent string
	// Proxy is the URL of the proxy. Empty: HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the environment; "none": no proxy.
	Proxy string
	// CAFile holds the only certificate authorities (PEM) that are accepted. Empty: those of the system.
	CAFile string
	// CertFile and KeyFile are the client's certificate and key (PEM). They are read at every handshake, so that a
	// renewed certificate needs no restart.
	CertFile, KeyFile string
	// TokenFile holds a bearer token, read at every request. It is sent over https, and over http to loopback, alone.
	TokenFile string
	// ConnectTimeout bounds connecting and the TLS handshake, each. HeaderTimeout bounds the wait for an answer.
	ConnectTimeout, HeaderTimeout time.Duration
	// StallBytes must arrive within every StallTimeout that is spent waiting for a body, else it has stalled.
	StallBytes   int64
	StallTimeout time.Duration
	// Tries is how often each mirror is asked before giving up. MinWait doubles with every round of tries up to MaxWait,
	// which also caps Retry-After; the waits are jittered.
	Tries            int
	MinWait, MaxWait time.Duration
	// Log receives lines about retries and failovers. Nil: none.
	Log func(line string)

	base http.RoundTripper // tests replace the network
	rand func() float64    // in [0,1); tests replace it
}

func (o Options) withDefaults() Options {
	o.UserAgent = or(o.UserAgent, "evenkeel")
	o.ConnectTimeout = or(o.ConnectTimeout, 15*time.Second)
	o.HeaderTimeout = or(o.HeaderTimeout, 30*time.Second)
	o.StallBytes = or(o.StallBytes, 8<<10)
	o.StallTimeout = or(o.StallTimeout, 30*time.Second)
	o.Tries = or(o.Tries, 5)
	o.MinWait = or(o.MinWait, time.Second)
	o.MaxWait = or(o.MaxWait, time.Minute)
	if o.Log == nil {
		o.Log = func(string) {}
	}
	if o.rand == nil {
		o.rand = rand.Float64
	}
	return o
}

func or[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// Transport fetches files from mirrors. It is safe for concurrent use.
type Transport struct {
	o       Options
	http    *http.Client
	mirrors []*mirror
}

// mirror is one place of the repository, and how well it did lately.
type mirror struct {
	base *url.URL

	mu       sync.Mutex
	failures int
	badUntil time.Time
}

// New checks o and returns a Transport. It does not touch the network.
func New(o Options) (*Transport, error) {
	o = o.withDefaults()
	t := &Transport{o: o}
	if len(o.Mirrors) == 0 {
		return nil, errors.New("cannot fetch anything: no repository is configured")
	}
	for _, m := range o.Mirrors {
		u, err := parseMirror(m)
		if err != nil {
			return nil, err
		}
		if o.TokenFile != "" && u.Scheme == "http" && !loopback(u.Hostname()) {
			return nil, fmt.Errorf("cannot use repository %s: a bearer token must not be sent in the clear: use https", redacted(u))
		}
		t.mirrors = append(t.mirrors, &mirror{base: u})
	}
	base := o.base
	if base == nil {
		ht, err := newHTTPTransport(o)
		if err != nil {
			return nil, err
		}
		base = ht
	}
	t.http = &http.Client{Transport: &watchdog{base: base, bytes: o.StallBytes, within: o.StallTimeout}, CheckRedirect: checkRedirect}
	return t, nil
}

func parseMirror(s string) (*url.URL, error) {
	if filepath.IsAbs(s) {
		return &url.URL{Scheme: "file", Path: s}, nil
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("cannot read repository URL: %w", unwrapURL(err))
	}
	switch {
	case u.Scheme == "file" && (u.Host == "" || u.Host == "localhost") && u.Path != "":
		u.Host = ""
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
	default:
		return nil, fmt.Errorf("cannot use repository URL %s: want http://, https:// or file://, or the absolute path of a directory", redacted(u))
	}
	u.Fragment = ""
	return u, nil
}

func newHTTPTransport(o Options) (*http.Transport, error) {
	tlsConfig, err := newTLSConfig(o)
	if err != nil {
		return nil, err
	}
	proxy := http.ProxyFromEnvironment
	if o.Proxy == "none" {
		proxy = nil
	} else if o.Proxy != "" {
		u, err := url.Parse(o.Proxy)
		if err != nil || u.Host == "" {
			return nil, errors.New("cannot read the proxy's URL: want for example http://proxy.example:3128")
		}
		proxy = http.ProxyURL(u)
	}
	t := &http.Transport{
		Proxy:                  proxy,
		DialContext:            (&net.Dialer{Timeout: o.ConnectTimeout}).DialContext,
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    o.ConnectTimeout,
		ResponseHeaderTimeout:  o.HeaderTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConnsPerHost:    4,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
	}
	// The very code that reads from the network reads directories, so that a USB stick is no second path.
	t.RegisterProtocol("file", http.NewFileTransport(http.Dir("/")))
	return t, nil
}

func newTLSConfig(o Options) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pool, err := readPool(o.CAFile)
		if err != nil {
			return nil, err
		}
		c.RootCAs = pool
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, errors.New("cannot use a client certificate without its key, or a key without its certificate: name both files or none")
	}
	if o.CertFile != "" {
		if _, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile); err != nil {
			return nil, fmt.Errorf("cannot read the client certificate: %w", err)
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
			return &cert, err
		}
	}
	return c, nil
}

// URL shows where path is on the preferred mirror, for messages to people: without query and password.
func (t *Transport) URL(path string) string { return redacted(t.order()[0].at(path)) }

// order returns the mirrors, those that failed lately last.
func (t *Transport) order() []*mirror {
	now := time.Now()
	type rank struct {
		m     *mirror
		until time.Time
	}
	ranks := make([]rank, len(t.mirrors))
	for i, m := range t.mirrors {
		m.mu.Lock()
		ranks[i] = rank{m: m}
		if m.badUntil.After(now) {
			ranks[i].until = m.badUntil
		}
		m.mu.Unlock()
	}
	slices.SortStableFunc(ranks, func(a, b rank) int { return a.until.Compare(b.until) })
	sorted := make([]*mirror, len(ranks))
	for i, r := range ranks {
		sorted[i] = r.m
	}
	return sorted
}

// at returns the URL of path, which is slash-separated and percent-encoded, on m.
func (m *mirror) at(path string) *url.URL {
	u := m.base.JoinPath()
	u.RawPath = strings.TrimSuffix(u.EscapedPath(), "/") + "/" + path
	if p, err := url.PathUnescape(u.RawPath); err == nil {
		u.Path = p
	} else {
		u.Path, u.RawPath = u.RawPath, ""
	}
	u.RawQuery = m.base.RawQuery
	return u
}

// Penalties of a mirror that failed: they double with each failure in a row.
const (
	minPenalty = 30 * time.Second
	maxPenalty = time.Hour
)

func (m *mirror) failed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	penalty := min(minPenalty<<min(m.failures, 10), maxPenalty)
	m.failures++
	m.badUntil = time.Now().Add(penalty)
}

func (m *mirror) worked() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failures, m.badUntil = 0, time.Time{}
}

func (t *Transport) token() (string, error) {
	if t.o.TokenFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(t.o.TokenFile)
	if err != nil {
		return "", fmt.Errorf("cannot read the repository's token: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 5 {
		return errors.New("it redirects in circles")
	}
	if via[0].URL.Scheme != req.URL.Scheme && req.URL.Scheme != "https" {
		return errors.New("it redirects from https to something less safe")
	}
	return nil
}
