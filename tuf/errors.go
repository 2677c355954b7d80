package tuf

import (
	"errors"
	"fmt"
	"time"
)

// ErrTrust is what every error of this package is (errors.Is) that means: the bytes came, and they are not to be trusted.
// Errors of the network are not among them.
var ErrTrust = errors.New("not trusted")

// Blame says what has to be looked at first.
type Blame string

const (
	// BlameRepository: what the repository serves is wrong: damaged, incomplete, out of date, or somebody's attack.
	BlameRepository Blame = "repository"
	// BlameClock: the metadata is probably good, and the host's clock wrong.
	BlameClock Blame = "clock"
	// BlameEither: expired by the system clock, and nothing that is verified says who is right.
	BlameEither Blame = "repository or clock"
	// BlameHost: the host's own store or the root in its image.
	BlameHost Blame = "host"
)

// Error is why something is not trusted.
type Error struct {
	Role  string // of the metadata, or the name of the target
	URL   string // where it came from; empty: from the host
	Blame Blame
	Hint  string // what to do, for a person
	Err   error
}

func (e *Error) Error() string {
	s := "cannot trust " + e.Role
	if e.URL != "" {
		s += " from " + e.URL
	}
	s += ": " + e.Err.Error()
	if e.Hint != "" {
		s += ": " + e.Hint
	}
	return s
}

// Unwrap makes errors.Is(err, ErrTrust) true.
func (e *Error) Unwrap() []error { return []error{ErrTrust, e.Err} }

// Temporary is false: the same bytes will not be trusted later.
func (e *Error) Temporary() bool { return false }

// expiredError says that metadata expired, by which clock, and whom to ask.
func expiredError(role, url string, expires time.Time, clock Clock) *Error {
	e := &Error{
		Role: role, URL: url, Blame: BlameEither,
		Err: fmt.Errorf("it expired at %s, and it is %s by %s", utc(expires), utc(clock.Now), clock.Source),
	}
	switch {
	case !clock.Floor.Before(expires):
		e.Blame = BlameRepository
		e.Hint = "the clock is not to blame: the repository needs a refresh, or the network serves old files"
	case clock.Now.Sub(expires) > 5*365*24*time.Hour:
		e.Blame = BlameClock
		e.Hint = "the clock is probably wrong: set it"
	default:
		e.Hint = "if that is the right time, the repository needs a refresh or the network serves old files; else set the clock"
	}
	return e
}

func utc(t time.Time) string { return t.UTC().Format(time.RFC3339) }
