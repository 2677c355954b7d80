// Package health asks a system that has just booted whether it is well: the checks after a trial boot.
//
// # Checks
//
// A check is a function of the agent (Builtin), a systemd unit that must be active, the whole system that must have
// started without failures, a TCP port, a URL, or an executable. Executables follow the contract of greenboot: those in
// required.d must exit with 0, those in wanted.d should; they run one after the other, in lexical order. All other checks
// run side by side, a few at a time.
//
// A system that has just booted is still starting. So a check that fails is repeated until it passes or the settling time
// is over, which begins with the probe; only its last failure counts. A try that does not end in time is ended: an
// executable is killed, with everything that it started in its process group. What left that group lives on, and is not
// waited for.
//
// # What counts
//
//	required    it must pass
//	wanted      it is reported, and does not count
//	as before   it must pass if it passed in the slot that was left
//
// "As before" is for what lies outside the machine. That a server cannot be reached does not speak against a release if the
// old one could not reach it either; but if it could, it does. Baseline notes, in the old slot before it is left, which of
// these checks pass there: in baseline.json on the state partition,
//
//	{"slot":"a","boot":"...","passed":{"repository":true,"vpn":false}}
//
// A check that the note does not name, and every one where there is no note, must pass.
//
// # Output
//
// The last lines of what a check printed are kept, valid UTF-8 without control characters: 4 KiB of a check at most, and
// 32 KiB of all of them, for a report goes into the history.
package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/evenkeel-os/evenkeel/internal/durable"
	"github.com/evenkeel-os/evenkeel/internal/systemd"
	"github.com/evenkeel-os/evenkeel/updater"
)

// Level says what a failure means.
type Level string

const (
	Required Level = "required"
	Wanted   Level = "wanted"
	AsBefore Level = "as before"
)

// Rule is what every check has.
type Rule struct {
	Name    string        // unique, for people and for the baseline
	Level   Level         // "" is Required
	Timeout time.Duration // of one try; 0 is Config.Timeout
	Settle  time.Duration // how long into the probe it is repeated; 0 is Config.Settle, less than 0 is never
}

// Builtin is a check that the agent brings along. Func returns nil if all is well; its error is what people read.
type Builtin struct {
	Rule
	Func func(context.Context) error
}

func (b Builtin) check() check {
	c := check{Rule: b.Rule, run: func(ctx context.Context, _ *output) error { return b.Func(ctx) }}
	if b.Func == nil {
		c.wrong = errors.New("it has no function")
	}
	return c
}

// Config says what is checked. The zero value checks nothing, so everything is well.
type Config struct {
	Builtins []Builtin
	System   *SystemCheck
	Units    []UnitCheck
	TCP      []TCPCheck
	HTTP     []HTTPCheck
	// Dirs hold executables in required.d and wanted.d. An executable replaces one of the same name in an earlier
	// directory; a link to /dev/null there takes it away.
	Dirs []string
	Env  []string // for executables, as KEY=VALUE, besides PATH and LANG

	Systemd  *systemd.Manager // nil: this host's
	Timeout  time.Duration    // of one try; 0 is 30 seconds
	Settle   time.Duration    // how long a failing check is repeated, from the begin of the probe
	Every    time.Duration    // pause before it is repeated; 0 is 2 seconds
	Parallel int              // checks that run at a time; 0 is 4
	// Limit is the longest that a probe takes; what has not ended by then has failed. 0 is no limit.
	Limit time.Duration
	// Left is the time until a trial has to have its answer; it lowers Limit for Probe while it is more than 0. May be nil.
	Left func() time.Duration

	FS       durable.FS      // that Baseline is on; nil: the real one
	Baseline string          // path of baseline.json; "": there is none
	Who      func() Baseline // what to write into it as Slot and Boot; may be nil
}

// Prober runs the checks. It implements updater.Prober.
type Prober struct{ c Config }

var _ updater.Prober = (*Prober)(nil)

// New returns a prober, or says what is wrong with its checks. It touches nothing.
func New(c Config) (*Prober, error) {
	if c.FS == nil {
		c.FS = durable.OS{}
	}
	if c.Systemd == nil {
		c.Systemd = systemd.New("/")
	}
	if c.Timeout <= 0 {
		c.Timeout = 30 * time.Second
	}
	if c.Every <= 0 {
		c.Every = 2 * time.Second
	}
	if c.Parallel <= 0 {
		c.Parallel = 4
	}
	p := &Prober{c: c}
	if err := validate(p.fixed()); err != nil {
		return nil, err
	}
	return p, nil
}

func validate(checks []check) error {
	seen := map[string]bool{}
	for _, c := range checks {
		switch {
		case c.Name == "":
			return errors.New("a health check has no name")
		case c.wrong != nil:
			return fmt.Errorf("health check %q: %w", c.Name, c.wrong)
		case seen[c.Name]:
			return fmt.Errorf("two health checks have the name %q: give one another", c.Name)
		case !slices.Contains([]Level{"", Required, Wanted, AsBefore}, c.Level):
			return fmt.Errorf("health check %q: no such level as %q: want required, wanted or as before", c.Name, c.Level)
		}
		seen[c.Name] = true
	}
	return nil
}

// check is anything that can be asked.
type check struct {
	Rule
	run   func(context.Context, *output) error
	wrong error // it can never be asked, for this reason
}

// fixed returns the checks that the configuration names, in the order of a report.
func (p *Prober) fixed() (checks []check) {
	for _, b := range p.c.Builtins {
		checks = append(checks, b.check())
	}
	if s := p.c.System; s != nil {
		checks = append(checks, s.check(p.c.Systemd))
	}
	for _, u := range p.c.Units {
		checks = append(checks, u.check(p.c.Systemd))
	}
	for _, t := range p.c.TCP {
		checks = append(checks, t.check())
	}
	for _, h := range p.c.HTTP {
		checks = append(checks, h.check())
	}
	return checks
}

// Probe implements updater.Prober. It returns an error when the checks could not be read, or when ctx ended.
func (p *Prober) Probe(ctx context.Context) (updater.Report, error) {
	scripts, err := p.scripts()
	if err != nil {
		return updater.Report{}, fmt.Errorf("cannot check the system's health: %w", err)
	}
	before := p.before()
	fixed := p.fixed()
	results := p.run(ctx, fixed, scripts, p.limit(), math.MaxInt64)
	if ctx.Err() != nil {
		return updater.Report{}, fmt.Errorf("cannot check the system's health: %w", context.Cause(ctx))
	}
	r := updater.Report{Healthy: true, Checks: results}
	for i, c := range append(fixed, scripts...) {
		before.judge(c.Level, &r.Checks[i])
		r.Healthy = r.Healthy && (r.Checks[i].OK || !r.Checks[i].Required)
	}
	fit(r.Checks)
	return r, nil
}

// run asks all checks and returns their results in the same order: those of side, a few at a time, and beside them those
// of file, one after the other. All together end within limit, if it is more than 0; none is repeated for longer than most.
func (p *Prober) run(ctx context.Context, side, file []check, limit, most time.Duration) []updater.Check {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, errLimit)
		defer cancel()
	}
	results := make([]updater.Check, len(side)+len(file))
	start := time.Now()
	places := make(chan struct{}, p.c.Parallel)
	var all sync.WaitGroup
	for i, c := range side {
		all.Go(func() {
			places <- struct{}{}
			results[i] = p.ask(ctx, c, start, most)
			<-places
		})
	}
	all.Go(func() {
		for i, c := range file {
			results[len(side)+i] = p.ask(ctx, c, start, most)
		}
	})
	all.Wait()
	return results
}

// limit is how long a probe may take now; 0 is no limit.
func (p *Prober) limit() time.Duration {
	limit := max(p.c.Limit, 0)
	if p.c.Left != nil {
		if left := p.c.Left(); left > 0 && (limit == 0 || left < limit) {
			limit = left
		}
	}
	return limit
}

var errLimit = errors.New("it did not pass in the time that all checks have together")

// ask repeats one check until it passes or its settling time is over.
func (p *Prober) ask(ctx context.Context, c check, start time.Time, most time.Duration) updater.Check {
	settle := min(cmp.Or(c.Settle, p.c.Settle), most)
	begin := time.Now()
	r := updater.Check{Name: c.Name}
	for {
		out, err := p.try(ctx, c)
		// A failure says more than that the next try had no time left.
		if err == nil || ctx.Err() == nil || r.Output == "" {
			r.OK, r.Output = err == nil, out.describe(err)
		}
		var last final
		if err == nil || errors.As(err, &last) || time.Since(start)+p.c.Every > settle || !pause(ctx, p.c.Every) {
			r.Took = time.Since(begin)
			return r
		}
	}
}

// try asks a check once. One that does not end when it is told to is left behind.
func (p *Prober) try(ctx context.Context, c check) (*output, error) {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = p.c.Timeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("it did not end within %v", timeout))
	defer cancel()
	out := newOutput()
	if ctx.Err() != nil {
		return out, context.Cause(ctx)
	}
	done := make(chan error, 1)
	go func() { done <- c.run(ctx, out) }()
	select {
	case err := <-done:
		return out, because(ctx, err)
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return out, because(ctx, err)
	case <-time.After(grace):
		return out, fmt.Errorf("%w, and cannot be ended", context.Cause(ctx))
	}
}

// grace is how long a check may take to notice that its time is over.
const grace = 5 * time.Second

// because gives the reason for which a check was ended instead of what that did to it.
func because(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// pause reports whether it could wait for d.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// final is a failure that repeating does not mend.
type final struct{ error }

func (f final) Unwrap() error { return f.error }
