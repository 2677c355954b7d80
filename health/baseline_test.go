package health_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/health"
	"github.com/evenkeel-os/evenkeel/updater"
)

const baselineFile = "/state/baseline.json"

// world has one "as before" check that works or does not.
func world(fsys *fixtures.FS, works *bool) health.Config {
	return health.Config{
		FS: fsys, Baseline: baselineFile, Every: time.Second,
		Who: func() health.Baseline { return health.Baseline{Slot: updater.A, Boot: "boot-1"} },
		Builtins: []health.Builtin{
			builtin("local", "", nil),
			{Rule: health.Rule{Name: "repository", Level: health.AsBefore}, Func: func(context.Context) error {
				if *works {
					return nil
				}
				return errSick
			}},
		},
	}
}

func TestAsBefore(t *testing.T) {
	tests := []struct {
		name          string
		before, after bool
		healthy       bool
		remark        string
	}{
		{"worked and works", true, true, true, ""},
		{"worked and fails", true, false, false, "no answer\nit fails, but it used to work in slot a"},
		{"failed and works", false, true, true, ""},
		{"failed and fails", false, false, true, "no answer\nit fails, and failed before in slot a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				works := tt.before
				p := prober(t, world(fixtures.NewFS(), &works))
				if err := p.Baseline(t.Context()); err != nil {
					t.Fatal(err)
				}
				works = tt.after
				r, err := p.Probe(t.Context())
				if err != nil || r.Healthy != tt.healthy {
					t.Fatalf("healthy = %v, %v, want %v", r.Healthy, err, tt.healthy)
				}
				if c := r.Checks[1]; c.OK != tt.after || c.Required != tt.before || c.Output != tt.remark {
					t.Errorf("check = %+v, want ok %v, required %v, output %q", c, tt.after, tt.before, tt.remark)
				}
			})
		})
	}
}

func TestWhatIsNotKnownMustPass(t *testing.T) {
	tests := []struct{ name, file, remark string }{
		{"no file", "", "nobody noted what worked before"},
		{"other checks", `{"slot":"a","passed":{"vpn":false}}`, "it was not tried before in slot a"},
		{"no checks", `{}`, "it was not tried before"},
		{"null", `null`, "it was not tried before"},
		{"zeros", strings.Repeat("\x00", 64), "what worked before cannot be read"},
		{"torn", `{"slot":"a","passed":{"repository":fal`, "what worked before cannot be read"},
		{"empty", "\n", "what worked before cannot be read"},
		{"strange", `{"passed":{"repository":"no"}}`, "what worked before cannot be read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fsys, works := fixtures.NewFS(), false
			if tt.file != "" {
				fsys.Put(baselineFile, []byte(tt.file))
			}
			r := probe(t, world(fsys, &works))
			c := r.Checks[1]
			if r.Healthy || !c.Required || !strings.Contains(c.Output, "it fails, and "+tt.remark) {
				t.Errorf("check = %+v, want a required one that fails with %q", c, tt.remark)
			}
			works = true
			if r := probe(t, world(fsys, &works)); !r.Healthy || !r.Checks[1].Required || r.Checks[1].Output != "" {
				t.Errorf("and when it passes: %+v", r)
			}
		})
	}
}

func TestBaselineFile(t *testing.T) {
	fsys, works := fixtures.NewFS(), true
	fsys.Put(baselineFile, []byte("an older one"))
	if err := prober(t, world(fsys, &works)).Baseline(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := fsys.ReadFile(baselineFile)
	if want := `{"slot":"a","boot":"boot-1","passed":{"repository":true}}`; err != nil || string(b) != want {
		t.Errorf("baseline.json = %s, %v, want %s", b, err, want)
	}
}

// TestBaselineRepeatsBriefly: the old slot has long settled, so that only a hiccup is worth waiting for.
func TestBaselineRepeatsBriefly(t *testing.T) {
	for pass, want := range map[int]bool{1: true, 4: true, 5: false} {
		synctest.Test(t, func(t *testing.T) {
			a, fsys := &attempts{pass: pass}, fixtures.NewFS()
			p := prober(t, health.Config{
				FS: fsys, Baseline: baselineFile, Settle: time.Hour, Every: time.Second,
				Builtins: []health.Builtin{{Rule: health.Rule{Name: "x", Level: health.AsBefore}, Func: a.ask}},
			})
			if err := p.Baseline(t.Context()); err != nil {
				t.Fatal(err)
			}
			var b health.Baseline
			data, _ := fsys.ReadFile(baselineFile)
			if err := json.Unmarshal(data, &b); err != nil || b.Passed["x"] != want {
				t.Errorf("passes at try %d: baseline %s, want %v", pass, data, want)
			}
		})
	}
}

// TestBaselineIsNotOnTrial: the old slot's uptime is long past any deadline, and its answers may take their time all the same.
func TestBaselineIsNotOnTrial(t *testing.T) {
	for limit, want := range map[time.Duration]bool{0: true, time.Minute: true, 10 * time.Second: false} {
		synctest.Test(t, func(t *testing.T) {
			fsys := fixtures.NewFS()
			slow := func(ctx context.Context) error {
				select {
				case <-time.After(20 * time.Second):
					return nil
				case <-ctx.Done():
					return errSick
				}
			}
			p := prober(t, health.Config{
				FS: fsys, Baseline: baselineFile, Limit: limit, Left: func() time.Duration { return time.Second },
				Builtins: []health.Builtin{{Rule: health.Rule{Name: "x", Level: health.AsBefore}, Func: slow}},
			})
			if err := p.Baseline(t.Context()); err != nil {
				t.Fatal(err)
			}
			if b, _ := fsys.ReadFile(baselineFile); strings.Contains(string(b), `"x":true`) != want {
				t.Errorf("limit %v: baseline %s, want x %v", limit, b, want)
			}
		})
	}
}

// TestOldBaselineExcusesNothing: what cannot be replaced is removed, for whatever reason.
func TestOldBaselineExcusesNothing(t *testing.T) {
	full := func(op, _ string) error {
		if op == "write" {
			return syscall.ENOSPC
		}
		return nil
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name string
		ctx  context.Context
		fail func(op, path string) error
		want error
	}{
		{"full disk", t.Context(), full, syscall.ENOSPC},
		{"stopped in the middle", ended, nil, context.Canceled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fsys, works := fixtures.NewFS(), true
			fsys.Put(baselineFile, []byte(`{"slot":"b","passed":{"repository":false}}`))
			fsys.Fail(tt.fail)
			if err := prober(t, world(fsys, &works)).Baseline(tt.ctx); !errors.Is(err, tt.want) {
				t.Errorf("error = %v, want %v", err, tt.want)
			}
			if b, err := fsys.Crash(fixtures.CrashLoseAll).ReadFile(baselineFile); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the old baseline is still there: %s, %v", b, err)
			}
		})
	}
}

// TestBaselineSurvivesEveryCut: after a power cut while it is noted there is the old note, the new one, or none.
func TestBaselineSurvivesEveryCut(t *testing.T) {
	const old = `{"slot":"b","passed":{"repository":true}}`
	for n := 0; ; n++ {
		fsys, works := fixtures.NewFS(), false
		fsys.Put(baselineFile, []byte(old))
		fsys.CutAfter(n)
		c := world(fsys, &works)
		c.Every = time.Nanosecond
		err := prober(t, c).Baseline(t.Context())
		for _, how := range fixtures.Crashes() {
			data, rerr := fsys.Crash(how).ReadFile(baselineFile)
			var b health.Baseline
			if rerr != nil || json.Unmarshal(data, &b) != nil || b.Passed["repository"] != (b.Slot == updater.B) {
				t.Errorf("cut after %d steps, %v: %q, %v", n, how, data, rerr)
			}
			if err == nil && b.Slot != updater.A {
				t.Errorf("cut after %d steps, %v: Baseline returned nil and %q is there", n, how, data)
			}
		}
		if err == nil {
			return
		}
	}
}

// FuzzBaseline: whatever lies on the state partition, a failure is excused only by a note that it failed before.
func FuzzBaseline(f *testing.F) {
	for _, s := range []string{
		"", "{}", "null", `{"slot":"a","passed":{"repository":true}}`, `{"slot":"\u001b[2J","passed":{"repository":false}}`,
		"\x00\x00", `{"passed":{"repository":null}}`, `{"passed":null}`, `[]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fsys, works := fixtures.NewFS(), false
		fsys.Put(baselineFile, data)
		r, err := prober(t, world(fsys, &works)).Probe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var b struct{ Passed map[string]*bool }
		noted := json.Unmarshal(data, &b) == nil && b.Passed["repository"] != nil && !*b.Passed["repository"]
		if r.Healthy && !noted {
			t.Errorf("%q excuses a failure", data)
		}
		if out := r.Checks[1].Output; len(out) > 4<<10 || strings.ContainsAny(out, "\x00\x1b") {
			t.Errorf("output %q", out)
		}
	})
}
