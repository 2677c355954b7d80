package health

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
)

// TCPCheck passes when a connection is accepted.
type TCPCheck struct {
	Rule           // Name "" is the address
	Address string // HOST:PORT
}

func (t TCPCheck) check() check {
	c := check{Rule: t.Rule}
	if c.Name == "" {
		c.Name = t.Address
	}
	if _, port, err := net.SplitHostPort(t.Address); err != nil || port == "" {
		c.wrong = fmt.Errorf("%q is no HOST:PORT", t.Address)
	}
	c.run = func(ctx context.Context, _ *output) error {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", t.Address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	return c
}

// HTTPCheck passes when a URL answers as it should. Redirects are answers: they are not followed. No proxy is used.
type HTTPCheck struct {
	Rule            // Name "" is the URL's host and path
	URL      string // http or https
	Status   int    // the only status that is well; 0 is 200 to 299
	Contains string // must be in the first MiB of the body; "": it is not looked at
	TLS      TLS
}

// TLS says whom an https URL is believed.
type TLS struct {
	CA         string // file with the only certificate authorities to accept (PEM); "": the system's
	ServerName string // "": the URL's host
	SkipVerify bool   // believe anybody: for a certificate of the machine's own making
}

const maxBody = 1 << 20

func (h HTTPCheck) check() check {
	c := check{Rule: h.Rule}
	u, err := url.Parse(h.URL)
	switch {
	case err != nil:
		c.wrong = errors.New("its url is none") // and may hold a password
		c.Name = cmp.Or(c.Name, "http")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		plain := url.URL{Scheme: u.Scheme, Opaque: u.Opaque, Host: u.Host, Path: u.Path}
		c.wrong = fmt.Errorf("its url must begin with http:// or https:// and a host, not %q", plain.String())
		c.Name = cmp.Or(c.Name, "http")
	case c.Name == "":
		c.Name = u.Host + u.Path
	}
	c.run = h.run
	return c
}

func (h HTTPCheck) run(ctx context.Context, _ *output) error {
	conf, err := h.TLS.config()
	if err != nil {
		return err
	}
	tr := &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true, ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "evenkeel-health")
	res, err := client.Do(req)
	if err != nil {
		return withoutURL(err)
	}
	defer res.Body.Close()
	if h.Status == 0 && (res.StatusCode < 200 || res.StatusCode > 299) || h.Status != 0 && res.StatusCode != h.Status {
		return fmt.Errorf("it answered %s, want %s", res.Status, h.want())
	}
	return h.read(res.Body)
}

func (h HTTPCheck) want() string {
	if h.Status == 0 {
		return "200 to 299"
	}
	return fmt.Sprint(h.Status)
}

func (h HTTPCheck) read(body io.Reader) error {
	if h.Contains == "" {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(body, maxBody))
	if err != nil {
		return fmt.Errorf("its answer broke off after %d bytes: %w", len(b), err)
	}
	if !bytes.Contains(b, []byte(h.Contains)) {
		return fmt.Errorf("its answer, %d bytes, does not contain %q", len(b), h.Contains)
	}
	return nil
}

// withoutURL: the URL may hold a password or a token, and the report goes far.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func (t TLS) config() (*tls.Config, error) {
	c := &tls.Config{ServerName: t.ServerName, InsecureSkipVerify: t.SkipVerify}
	if t.CA == "" {
		return c, nil
	}
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, fmt.Errorf("cannot read the certificate authorities: %w", err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("cannot read the certificate authorities: %s holds no certificate in PEM", t.CA)
	}
	return c, nil
}
