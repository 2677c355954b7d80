package health_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/evenkeel-os/evenkeel/health"
	"github.com/evenkeel-os/evenkeel/internal/durable"
	"github.com/evenkeel-os/evenkeel/updater"
)

func TestMain(m *testing.M) {
	// It is read once in a process, and never used for addresses of this host.
	os.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	goleak.VerifyTestMain(m)
}

var errSick = errors.New("no answer")

// prober fills in what a test does not care about, so that nothing of this host is looked at.
func prober(t *testing.T, c health.Config) *health.Prober {
	t.Helper()
	if c.FS == nil {
		c.FS = durable.NewMemory()
	}
	p, err := health.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func probe(t *testing.T, c health.Config) updater.Report {
	t.Helper()
	r, err := prober(t, c).Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// only returns the one check of a report.
func only(t *testing.T, r updater.Report) updater.Check {
	t.Helper()
	if len(r.Checks) != 1 {
		t.Fatalf("%d checks, want one: %+v", len(r.Checks), r.Checks)
	}
	return r.Checks[0]
}

// builtin is a check that answers err.
func builtin(name string, level health.Level, err error) health.Builtin {
	return health.Builtin{Rule: health.Rule{Name: name, Level: level}, Func: func(context.Context) error { return err }}
}

func TestNothingToCheckIsWell(t *testing.T) {
	if r := probe(t, health.Config{}); !r.Healthy || len(r.Checks) != 0 {
		t.Errorf("report = %+v, want a healthy one without checks", r)
	}
}

func TestWhatCounts(t *testing.T) {
	tests := []struct {
		name    string
		checks  []health.Builtin
		healthy bool
	}{
		{"all well", []health.Builtin{builtin("a", "", nil), builtin("b", health.Wanted, nil)}, true},
		{"required by default", []health.Builtin{builtin("a", "", errSick)}, false},
		{"required", []health.Builtin{builtin("a", health.Required, errSick)}, false},
		{"wanted", []health.Builtin{builtin("a", health.Wanted, errSick)}, true},
		{"one of many", []health.Builtin{builtin("a", "", nil), builtin("b", "", errSick), builtin("c", "", nil)}, false},
		{"a wanted one does not excuse", []health.Builtin{builtin("a", "", errSick), builtin("b", health.Wanted, errSick)}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := probe(t, health.Config{Builtins: tt.checks, Settle: -1})
			if r.Healthy != tt.healthy {
				t.Errorf("healthy = %v, want %v: %+v", r.Healthy, tt.healthy, r.Checks)
			}
			for i, c := range r.Checks {
				b := tt.checks[i]
				sick := b.Func(t.Context()) != nil
				if c.Name != b.Name || c.OK == sick || c.Required != (b.Level != health.Wanted) || strings.Contains(c.Output, errSick.Error()) != sick {
					t.Errorf("check %d = %+v", i, c)
				}
			}
		})
	}
}

func TestBadChecksAreRefused(t *testing.T) {
	tests := []struct {
		name string
		c    health.Config
		want string
	}{
		{"no name", health.Config{Builtins: []health.Builtin{builtin("", "", nil)}}, "has no name"},
		{"no function", health.Config{Builtins: []health.Builtin{{Rule: health.Rule{Name: "x"}}}}, `"x": it has no function`},
		{"no such level", health.Config{Builtins: []health.Builtin{builtin("x", "vital", nil)}}, `"x": no such level as "vital": want required, wanted or as before`},
		{"twice", health.Config{Builtins: []health.Builtin{builtin("x", "", nil), builtin("x", "", nil)}}, `two health checks have the name "x"`},
		{
			"twice, of two kinds",
			health.Config{Builtins: []health.Builtin{builtin("db:1", "", nil)}, TCP: []health.TCPCheck{{Address: "db:1"}}},
			`two health checks have the name "db:1"`,
		},
		{"unit", health.Config{Units: []health.UnitCheck{{Unit: "nginx"}}}, `"nginx" is no name of a unit: it has no suffix such as .service`},
		{"address", health.Config{TCP: []health.TCPCheck{{Address: "db"}}}, `"db" is no HOST:PORT`},
		{"no port", health.Config{TCP: []health.TCPCheck{{Address: "db:"}}}, `"db:" is no HOST:PORT`},
		{"scheme", health.Config{HTTP: []health.HTTPCheck{{URL: "ftp://h/x"}}}, `must begin with http:// or https:// and a host, not "ftp://h/x"`},
		{"no host", health.Config{HTTP: []health.HTTPCheck{{URL: "http:///x"}}}, "and a host"},
		{"no url, with a name", health.Config{HTTP: []health.HTTPCheck{{Rule: health.Rule{Name: "api"}, URL: "h:80/x"}}}, `health check "api": its url`},
		{"two that are none", health.Config{HTTP: []health.HTTPCheck{{URL: "a"}, {URL: "b"}}}, `not "a"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := health.New(tt.c)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestSecretsStayOutOfErrors(t *testing.T) {
	for _, u := range []string{"ftp://me:hunter2@h/x?token=hunter2#hunter2", "http://me:hunter2@h:port%zz/"} {
		if _, err := health.New(health.Config{HTTP: []health.HTTPCheck{{URL: u}}}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("error = %v, want one without the secret", err)
		}
	}
}

// attempts counts how often a check is asked that passes once it was asked pass times.
type attempts struct {
	mu   sync.Mutex
	n    int
	pass int
}

func (a *attempts) ask(context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.n++; a.n < a.pass {
		return fmt.Errorf("failure %d", a.n)
	}
	return nil
}

func TestRepeatedUntilItPassesOrSettled(t *testing.T) {
	tests := []struct {
		name          string
		settle, every time.Duration
		own           time.Duration // Rule.Settle
		pass          int           // passes at this try
		tries         int
		ok            bool
	}{
		{"at once", time.Minute, time.Second, 0, 1, 1, true},
		{"later", time.Minute, time.Second, 0, 10, 10, true},
		{"last moment", 10 * time.Second, time.Second, 0, 11, 11, true},
		{"too late", 10 * time.Second, time.Second, 0, 12, 11, false},
		{"every two seconds by default", 10 * time.Second, 0, 0, 99, 6, false},
		{"never", -1, time.Second, 0, 2, 1, false},
		{"no settling time", 0, time.Second, 0, 2, 1, false},
		{"own, shorter", time.Minute, time.Second, 3 * time.Second, 99, 4, false},
		{"own, longer", 3 * time.Second, time.Second, time.Minute, 20, 20, true},
		{"own, never", time.Minute, time.Second, -1, 2, 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &attempts{pass: tt.pass}
				r := probe(t, health.Config{
					Builtins: []health.Builtin{{Rule: health.Rule{Name: "x", Settle: tt.own}, Func: a.ask}},
					Settle:   tt.settle, Every: tt.every,
				})
				c := only(t, r)
				if a.n != tt.tries || c.OK != tt.ok || r.Healthy != tt.ok {
					t.Errorf("asked %d times, %+v, want %d times, ok %v", a.n, c, tt.tries, tt.ok)
				}
				every := max(tt.every, 0)
				if every == 0 {
					every = 2 * time.Second
				}
				if want := time.Duration(tt.tries-1) * every; c.Took != want {
					t.Errorf("took %v, want %v", c.Took, want)
				}
				if want := fmt.Sprintf("failure %d", tt.tries); !tt.ok && c.Output != want {
					t.Errorf("output = %q, want that of the last try, %q", c.Output, want)
				}
			})
		})
	}
}

// hang returns when it is told to, as a well-behaved check does.
func hang(ctx context.Context) error { <-ctx.Done(); return errors.New("was interrupted") }

func TestEachTryEndsInTime(t *testing.T) {
	for _, own := range []time.Duration{0, 7 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			c := only(t, probe(t, health.Config{
				Builtins: []health.Builtin{{Rule: health.Rule{Name: "x", Timeout: own}, Func: hang}}, Timeout: 20 * time.Second,
			}))
			want := 20 * time.Second
			if own > 0 {
				want = own
			}
			if c.OK || c.Took != want || c.Output != fmt.Sprintf("it did not end within %v", want) {
				t.Errorf("check = %+v, want a failure after %v", c, want)
			}
		})
	}
}

// TestDeafCheckIsLeftBehind: a check on a dead disk cannot be ended, and must not hold up the verdict.
func TestDeafCheckIsLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		c := only(t, probe(t, health.Config{
			Builtins: []health.Builtin{{Rule: health.Rule{Name: "x"}, Func: func(context.Context) error { <-release; return nil }}},
			Timeout:  20 * time.Second,
		}))
		close(release)
		if c.OK || c.Took != 25*time.Second || !strings.Contains(c.Output, "it did not end within 20s, and cannot be ended") {
			t.Errorf("check = %+v, want a failure after 25s", c)
		}
	})
}

func TestAllChecksTogetherEndInTime(t *testing.T) {
	tests := []struct {
		name         string
		limit, left  time.Duration
		nobodyCounts bool
		want         time.Duration
	}{
		{"limit", time.Minute, 0, true, time.Minute},
		{"limit, much left", time.Minute, time.Hour, false, time.Minute},
		{"less left", time.Hour, 90 * time.Second, false, 90 * time.Second},
		{"no limit, less left", 0, 90 * time.Second, false, 90 * time.Second},
		{"nothing left", time.Minute, -time.Second, false, time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := health.Config{
					Builtins: []health.Builtin{builtin("well", "", nil), builtin("sick", "", errSick), {Rule: health.Rule{Name: "hangs"}, Func: hang}},
					Limit:    tt.limit, Timeout: 24 * time.Hour, Settle: 24 * time.Hour, Every: time.Second,
				}
				if !tt.nobodyCounts {
					c.Left = func() time.Duration { return tt.left }
				}
				start := time.Now()
				r := probe(t, c)
				if took := time.Since(start); took != tt.want || r.Healthy {
					t.Errorf("healthy %v after %v, want a sick system after %v", r.Healthy, took, tt.want)
				}
				if !r.Checks[0].OK || r.Checks[0].Took != 0 || r.Checks[1].Output != errSick.Error() {
					t.Errorf("checks = %+v", r.Checks)
				}
				if want := "it did not pass in the time that all checks have together"; r.Checks[2].Output != want {
					t.Errorf("output = %q, want %q", r.Checks[2].Output, want)
				}
			})
		})
	}
}

// TestChecksThatNeverHadATurn fail too: nobody knows whether they pass.
func TestChecksThatNeverHadATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := probe(t, health.Config{
			Builtins: []health.Builtin{{Rule: health.Rule{Name: "x"}, Func: hang}, {Rule: health.Rule{Name: "y"}, Func: hang}},
			Parallel: 1, Limit: time.Minute, Timeout: time.Hour,
		})
		for _, c := range r.Checks {
			if c.OK || !strings.Contains(c.Output, "all checks have together") {
				t.Errorf("check = %+v", c)
			}
		}
	})
}

func TestSideBySideAndNoMore(t *testing.T) {
	for parallel, want := range map[int]int{0: 4, 1: 1, 2: 2, 20: 10} {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			now, most := 0, 0
			c := health.Config{Parallel: parallel}
			for i := range 10 {
				c.Builtins = append(c.Builtins, health.Builtin{Rule: health.Rule{Name: fmt.Sprint(i)}, Func: func(context.Context) error {
					mu.Lock()
					now++
					most = max(most, now)
					mu.Unlock()
					time.Sleep(time.Second) // in the bubble: until all that can run wait
					mu.Lock()
					now--
					mu.Unlock()
					return nil
				}})
			}
			r := probe(t, c)
			if !r.Healthy || most != want {
				t.Errorf("parallel %d: %d at a time, healthy %v, want %d", parallel, most, r.Healthy, want)
			}
			for i, c := range r.Checks {
				if c.Name != fmt.Sprint(i) {
					t.Errorf("check %d is %q: not in the order of the configuration", i, c.Name)
				}
			}
		})
	}
}

// TestAnEndedProbeIsNoVerdict: the agent is being stopped; that says nothing about the system.
func TestAnEndedProbeIsNoVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("the agent is stopped")
		ctx, cancel := context.WithCancelCause(t.Context())
		p := prober(t, health.Config{Builtins: []health.Builtin{
			{Rule: health.Rule{Name: "x"}, Func: hang}, builtin("y", "", errSick),
		}, Timeout: time.Hour, Settle: time.Hour})
		time.AfterFunc(time.Minute, func() { cancel(why) })
		r, err := p.Probe(ctx)
		if !errors.Is(err, why) || len(r.Checks) != 0 || r.Healthy {
			t.Errorf("Probe = %+v, %v, want no report and the reason", r, err)
		}
		if err := p.Baseline(ctx); err != nil {
			t.Errorf("Baseline without a file: %v", err)
		}
	})
}
