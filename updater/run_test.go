package updater_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/updater"
)

func TestRunPaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(fixtures.Good)
		h.settings.Auto = false
		var polls []time.Duration
		start := time.Now()
		h.refresh = func() error {
			polls = append(polls, time.Since(start))
			return nil
		}
		h.powerOn()
		ctx, stop := context.WithTimeout(t.Context(), 150*time.Minute)
		defer stop()
		waits := 0
		err := h.agent.Run(ctx, updater.Pace{
			Poll: func() time.Duration { return time.Hour }, Recheck: time.Minute, RetryMin: time.Second, RetryMax: time.Hour,
		}, func(s updater.Step, _ error) {
			if s.Do == updater.DoWait {
				waits++
			}
		})
		want := []time.Duration{0, time.Hour, 2 * time.Hour}
		if !errors.Is(err, context.DeadlineExceeded) || !slices.Equal(polls, want) {
			t.Errorf("it looks for releases after %v, want %v; %v", polls, want, err)
		}
		if waits < 150 || waits > 160 { // once a minute, and around each poll
			t.Errorf("it looked %d times in 150 minutes", waits)
		}
	})
}

func TestRunBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(fixtures.Good)
		var tries []time.Duration
		start := time.Now()
		h.install = func(context.Context) error {
			tries = append(tries, time.Since(start))
			return network{}
		}
		ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
		defer stop()
		_ = h.agent.Run(ctx, updater.Pace{Recheck: time.Minute, RetryMin: time.Second, RetryMax: 4 * time.Second}, func(updater.Step, error) {})
		var pauses []time.Duration
		for i := range tries[1:] {
			pauses = append(pauses, (tries[i+1]-tries[i])/time.Second)
		}
		if want := []time.Duration{0, 2, 4, 4, 4, 4}; !slices.Equal(pauses, want) { // the first poll cuts the first pause short
			t.Errorf("it pauses %d seconds, want %d", pauses, want)
		}
	})
}

// TestRunBacksOffBetweenSteps: the gate is asked again before each try, and that it answers is no progress.
func TestRunBacksOffBetweenSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(fixtures.Good)
		var tries []time.Duration
		start := time.Now()
		h.options = func(o *updater.Options) {
			o.Gate = crowded{h.Devices, func() { tries = append(tries, time.Since(start)) }}
		}
		h.powerOn()
		ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
		defer stop()
		_ = h.agent.Run(ctx, updater.Pace{Recheck: time.Minute, RetryMin: time.Second, RetryMax: 4 * time.Second}, func(updater.Step, error) {})
		var pauses []time.Duration
		for i := range tries[1:] {
			pauses = append(pauses, (tries[i+1]-tries[i])/time.Second)
		}
		if want := []time.Duration{0, 2, 4, 4, 4, 4}; !slices.Equal(pauses, want) { // the first poll cuts the first pause short
			t.Errorf("it pauses %d seconds, want %d", pauses, want)
		}
	})
}

// crowded is a gate whose leases are all taken.
type crowded struct {
	*fixtures.Devices
	asked func()
}

func (c crowded) Enter(context.Context, updater.Txn) (updater.Lease, error) {
	c.asked()
	return updater.Lease{}, network{}
}

func TestRunIsWokenByAnIntent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(fixtures.Good)
		h.settings.Auto = false
		h.powerOn()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go h.agent.Run(ctx, updater.Pace{Recheck: time.Hour, RetryMin: time.Second, RetryMax: time.Hour}, func(updater.Step, error) {}) //nolint:errcheck // it ends with the test
		time.Sleep(30 * time.Minute)
		start := time.Now()
		if ans := <-h.agent.Submit(updater.Intent{Verb: updater.CheckNow}); ans.Refused || time.Since(start) != 0 {
			t.Errorf("it answers %+v after %v", ans, time.Since(start))
		}
	})
}

// TestRunLooksBeforeItActs: what was offered to an earlier run, or before an install of hours, may be withdrawn by now.
// A repository that cannot be reached keeps nobody from an update that was known to be good.
func TestRunLooksBeforeItActs(t *testing.T) {
	for _, c := range []struct {
		name        string
		when        func(h *host, looks int) // is told how often the agent has looked
		installs    int
		runs        int8
		unreachable bool
	}{
		{"withdrawn before the start", func(h *host, looks int) { h.M.Gone[1] = true }, 0, 0, false},
		{"withdrawn during the install", func(h *host, looks int) { h.M.Gone[1] = looks > 1 }, 1, 0, false},
		{"never withdrawn", func(*host, int) {}, 1, 1, false},
		{"an unreachable repository", func(*host, int) {}, 1, 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(fixtures.Good)
				h.unpolled = true
				looks, installs := 0, 0
				h.refresh = func() error {
					looks++
					c.when(h, looks)
					if c.unreachable {
						return network{}
					}
					return nil
				}
				h.install = func(context.Context) error {
					installs++
					time.Sleep(3 * time.Hour)
					return nil
				}
				for range 3 { // boots
					h.powerOn()
					ctx, stop := context.WithTimeout(t.Context(), 10*time.Hour)
					_ = h.agent.Run(ctx, pace(), func(updater.Step, error) {
						if h.M.Mode == fixtures.Off {
							stop()
						}
					})
					stop()
				}
				if installs != c.installs || h.M.Rels[h.M.Run] != c.runs || len(h.Violations) > 0 {
					t.Errorf("%d installs after %d looks, release %d runs; %q", installs, looks, h.M.Rels[h.M.Run], h.Violations)
				}
			})
		})
	}
}

func pace() updater.Pace {
	return updater.Pace{Poll: func() time.Duration { return time.Hour }, Recheck: time.Minute, RetryMin: time.Second, RetryMax: time.Hour}
}
