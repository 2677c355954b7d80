package health_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evenkeel-os/evenkeel/health"
	"github.com/evenkeel-os/evenkeel/internal/systemd"
	"github.com/evenkeel-os/evenkeel/internal/systemd/systemdtest"
)

var (
	up      = systemdtest.Unit{Load: "loaded", Active: "active", Sub: "running", Result: "success"}
	crashed = systemdtest.Unit{Load: "loaded", Active: "failed", Sub: "failed", Result: "exit-code", Status: 3}
)

func TestUnits(t *testing.T) {
	root := t.TempDir()
	fake := systemdtest.Start(t, root)
	fake.SetUnit("up.service", up)
	fake.SetUnit("crashed.service", crashed)
	fake.SetUnit("data.mount", systemdtest.Unit{Load: "loaded", Active: "active", Sub: "mounted"})
	fake.SetUnit("loops.service", systemdtest.Unit{Load: "loaded", Active: "activating", Sub: "auto-restart", Result: "signal", Status: 11})
	fake.SetUnit("masked.service", systemdtest.Unit{Load: "masked", Active: "inactive", Sub: "dead"})
	tests := []struct{ unit, want string }{
		{"up.service", ""},
		{"data.mount", ""},
		{"crashed.service", "crashed.service is failed (failed, exit-code, status 3)"},
		{"loops.service", "loops.service is activating (auto-restart, signal, status 11)"},
		{"masked.service", "masked.service is masked"},
		{"missing.service", "missing.service is not-found"},
	}
	for _, tt := range tests {
		c := only(t, probe(t, health.Config{Units: []health.UnitCheck{{Unit: tt.unit}}, Systemd: systemd.New(root)}))
		if c.OK != (tt.want == "") || c.Output != tt.want || c.Name != tt.unit {
			t.Errorf("%s: %+v, want %q", tt.unit, c, tt.want)
		}
	}
}

// TestUnitsThatAreNotThereAreNotWaitedFor: nothing will bring them, however long it is asked.
func TestUnitsThatAreNotThereAreNotWaitedFor(t *testing.T) {
	root := t.TempDir()
	fake := systemdtest.Start(t, root)
	fake.SetUnit("masked.service", systemdtest.Unit{Load: "masked", Active: "inactive", Sub: "dead"})
	var asked atomic.Int32
	fake.OnCall(func(method string) {
		if method == "LoadUnit" {
			asked.Add(1)
		}
	})
	r := probe(t, health.Config{
		Units:   []health.UnitCheck{{Unit: "missing.service"}, {Unit: "masked.service"}},
		Systemd: systemd.New(root), Settle: 200 * time.Millisecond, Every: time.Nanosecond,
	})
	if r.Healthy || r.Checks[0].OK || r.Checks[1].OK || asked.Load() != 2 {
		t.Errorf("asked %d times: %+v", asked.Load(), r)
	}
}

func TestUnitThatStartsLater(t *testing.T) {
	root := t.TempDir()
	fake := systemdtest.Start(t, root)
	fake.SetUnit("app.service", systemdtest.Unit{Load: "loaded", Active: "activating", Sub: "start", Result: "success"})
	var asked atomic.Int32
	fake.OnCall(func(method string) {
		if method == "LoadUnit" && asked.Add(1) == 3 {
			fake.SetUnit("app.service", up)
		}
	})
	c := only(t, probe(t, health.Config{
		Units: []health.UnitCheck{{Unit: "app.service"}}, Systemd: systemd.New(root), Settle: time.Hour, Every: time.Nanosecond,
	}))
	if !c.OK || asked.Load() != 3 {
		t.Errorf("check = %+v after %d tries, want success at the third", c, asked.Load())
	}
}

func TestSystem(t *testing.T) {
	tests := []struct {
		state   string
		degrade bool
		want    string
	}{
		{"running", false, ""},
		{"running", true, ""},
		{"degraded", true, ""},
		{"degraded", false, "crashed.service is failed (failed, exit-code, status 3)\nthe system is degraded: crashed.service failed"},
		{"starting", false, "the system is starting"},
		{"starting", true, "the system is starting"},
		{"maintenance", true, "the system is maintenance"},
		{"stopping", true, "the system is stopping"},
	}
	for _, tt := range tests {
		root := t.TempDir()
		fake := systemdtest.Start(t, root)
		fake.SetState(tt.state)
		fake.SetUnit("crashed.service", crashed)
		fake.SetUnit("up.service", up)
		c := only(t, probe(t, health.Config{System: &health.SystemCheck{AllowDegraded: tt.degrade}, Systemd: systemd.New(root)}))
		if c.OK != (tt.want == "") || c.Output != tt.want || c.Name != "system" {
			t.Errorf("%s, degraded allowed %v: %+v, want %q", tt.state, tt.degrade, c, tt.want)
		}
	}
}

func TestSystemdThatDoesNotAnswer(t *testing.T) {
	missing, silent := t.TempDir(), t.TempDir()
	systemdtest.Mute(t, silent)
	for root, want := range map[string]string{missing: "cannot ask systemd", silent: "it did not end within 100ms"} {
		timeout := time.Minute
		if root == silent {
			timeout = 100 * time.Millisecond
		}
		r := probe(t, health.Config{
			System: &health.SystemCheck{}, Units: []health.UnitCheck{{Unit: "a.service"}},
			Systemd: systemd.New(root), Timeout: timeout,
		})
		for _, c := range r.Checks {
			if c.OK || !strings.Contains(c.Output, want) {
				t.Errorf("check = %+v, want a failure with %q", c, want)
			}
		}
	}
}
