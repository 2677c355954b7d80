package transport

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
)

// Errors to be inspected with errors.Is.
var (
	// ErrNotFound: every mirror that answered says that there is no such file, or hides it (404, 403, 410).
	ErrNotFound = errors.New("there is no such file")
	// ErrTooLarge: the file is larger than the caller's limit.
	ErrTooLarge = errors.New("it is larger than it may be")
	// ErrStalled: too few bytes arrived in too long a time.
	ErrStalled = errors.New("the server stopped sending")
	// ErrChanged: the file is not the one that was asked for at first.
	ErrChanged = errors.New("the file on the server changed")
)

// Error says what could not be fetched, after all tries on all mirrors.
type Error struct {
	URL   string // of the last try, without query and password
	Tries int
	Err   error
	temp  bool
}

func (e *Error) Error() string {
	tries := ""
	if e.Tries > 1 {
		tries = fmt.Sprintf(" (%d tries)", e.Tries)
	}
	return fmt.Sprintf("cannot fetch %s: %v%s", e.URL, e.Err, tries)
}

func (e *Error) Unwrap() error { return e.Err }

// Temporary reports whether waiting may help: the network or the server failed, rather than the file being missing.
func (e *Error) Temporary() bool { return e.temp }

// StatusError is an answer that is neither the file nor its absence.
type StatusError struct{ Code int }

func (e *StatusError) Error() string {
	return fmt.Sprintf("the server answered %d %s", e.Code, http.StatusText(e.Code))
}

// statusErr returns nil for an answer that carries the file.
func statusErr(code int) error {
	switch code {
	case http.StatusOK, http.StatusPartialContent:
		return nil
	case http.StatusNotFound, http.StatusForbidden, http.StatusGone:
		return fmt.Errorf("%w: %w", ErrNotFound, &StatusError{code})
	case http.StatusRequestedRangeNotSatisfiable:
		return fmt.Errorf("%w: it is shorter than it should be", ErrChanged)
	}
	return &StatusError{code}
}

// permanent reports whether the same mirror would only say the same again.
func permanent(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		switch status.Code {
		case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
			return false
		}
		return status.Code < 500 || status.Code == http.StatusNotImplemented
	}
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var rejected *rejectedError
	return errors.Is(err, ErrTooLarge) || errors.Is(err, ErrChanged) || errors.As(err, &rejected) ||
		errors.As(err, &unknown) || errors.As(err, &invalid) || errors.As(err, &host)
}

// rejectedError is what the caller's check said of the bytes.
type rejectedError struct{ err error }

func (e *rejectedError) Error() string { return e.err.Error() }
func (e *rejectedError) Unwrap() error { return e.err }

// unwrapURL removes net/http's wrapping, which would show the whole URL with its query.
func unwrapURL(err error) error {
	var u *url.Error
	for errors.As(err, &u) {
		err = u.Err
	}
	return err
}

func redacted(u *url.URL) string {
	if u.Scheme == "file" {
		return u.Path
	}
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	return shown.String()
}

func readPool(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read certificate authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("cannot read certificate authorities: %s holds no PEM certificate", file)
	}
	return pool, nil
}
