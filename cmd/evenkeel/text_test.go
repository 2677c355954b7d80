package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/evenkeel-os/evenkeel/cmd/internal/cli"
	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/updater"
)

// TestHelpFits: every help text fits, and shows switches as they are written.
func TestHelpFits(t *testing.T) {
	var names [][]string
	for _, c := range testApp().command().Commands() {
		names = append(names, []string{c.Name()})
		for _, sub := range c.Commands() {
			names = append(names, []string{c.Name(), sub.Name()})
		}
	}
	for _, name := range append(names, nil) {
		a := testApp()
		if code := a.run(t.Context(), append(name, "--help")); code != 0 {
			t.Fatalf("%v: code %d", name, code)
		}
		text := a.stdout.(*bytes.Buffer).String()
		if strings.Contains(text, "true|false") || !strings.Contains(text, "--json ") {
			t.Errorf("%v:\n%s", name, text)
		}
		for l := range strings.SplitSeq(text, "\n") {
			if utf8.RuneCountInString(l) > cli.Width {
				t.Errorf("%v: too wide: %s", name, l)
			}
		}
	}
}

func TestWhyText(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	wait := nextStatus{Do: updater.DoWait, Why: "nothing to do"}
	up := agentStatus{Running: true, Mode: "auto"}
	tests := []struct {
		name string
		in   status
		want []string
	}{
		{"idle", status{Next: wait, Agent: up}, []string{"Now:    waiting: nothing to do\n"}},
		{"no agent", status{Next: wait}, []string{"Also:   no agent runs: nothing happens by itself\n"}},
		{
			"no agent in the middle",
			status{Next: nextStatus{Do: updater.DoInstall, Why: "write release 1.1 to slot b"}},
			[]string{"Now:    nobody is there to go on with this: write release 1.1 to slot b\n"},
		},
		{"halted", status{Next: nextStatus{Do: updater.DoHalt, Why: "odd"}, Agent: up}, []string{"Now:    halted: odd\n"}},
		{"failing", status{Next: wait, Error: "the disk is full", Agent: up}, []string{"Error:  it keeps failing: the disk is full\n"}},
		{
			"power",
			status{Next: wait, Agent: up, LastBoot: updater.Reset{Cause: updater.CausePower, Slot: updater.B}},
			[]string{"Boot:   the boot before this one ended by a loss of power, in slot b\n"},
		},
		{
			"watchdog",
			status{Next: wait, Agent: up, LastBoot: updater.Reset{Cause: updater.CauseWatchdog, Detail: "watchdog0 says so"}},
			[]string{"Boot:   the boot before this one ended by the hardware watchdog: watchdog0 says\n        so\n"},
		},
		{"reboot", status{Next: wait, Agent: up, LastBoot: updater.Reset{Cause: updater.CauseReboot}}, nil},
		{
			"fell back",
			status{Next: wait, Agent: up, Last: &updater.Closed{
				Version: "1.1", Slot: updater.B, Outcome: updater.Unhealthy, Reason: "health check app failed", At: now,
				Checks: []updater.Check{
					{Name: "fine", OK: true}, {Name: "app", Required: true, Output: "one\ntwo\n", Took: 1500 * time.Millisecond}, {Name: "nice"},
				},
			}},
			[]string{
				"Last:   update to 1.1 in slot b: unhealthy, health check app failed (2026-11-24\n        12:00 UTC)\n",
				"        app FAILED after 1.5s\n        | one\n        | two\n        nice failed, which does not count after 0s\n",
			},
		},
		{
			"rollback kept", status{Next: wait, Agent: up, Last: &updater.Closed{Outcome: updater.Confirmed}}, nil,
		},
		{"doubt", status{Next: wait, Agent: up, LoaderDoubt: "it spent none"}, []string{"Also:   the boot loader is not trusted to count down a trial: it spent none\n"}},
		{"off", status{Next: wait, Agent: agentStatus{Running: true, Mode: "off"}}, []string{"Also:   update.mode is \"off\": nobody looks for releases unless"}},
	}
	for _, tt := range tests {
		got := cli.Wrap(tt.in.reasons().text())
		for _, want := range append(tt.want, "Now:    ") {
			if !strings.Contains(got, want) {
				t.Errorf("%s:\n%s\nwant\n%s", tt.name, got, want)
			}
		}
		if n := len(strings.Split(strings.TrimSpace(got), "\n")); tt.want == nil && n != 1 {
			t.Errorf("%s: more than there is to say:\n%s", tt.name, got)
		}
	}
}

func TestStatusText(t *testing.T) {
	s := status{
		Product: "edge", Running: updater.B, Default: updater.A, Phase: updater.InTrial, Uptime: 3725,
		Update: &txnStatus{Version: "1.2", Slot: updater.B, By: "operator", Attempts: 2, Boots: 1, Tries: 3},
		Slots:  []slotStatus{{Slot: updater.A, State: updater.SlotConfirmed, Version: "1.1", Serial: 11, Enabled: true}},
		Last:   &updater.Closed{Version: "1.1", Slot: updater.A, Rollback: true, Outcome: updater.Confirmed, Reason: "its health checks passed"},
		Agent:  agentStatus{Running: true, Version: "0.1.0", Mode: "stage"},
	}
	s.Trust.Expired = "it is too old"
	want := `Running:  edge unknown (serial 0), in slot b, not the default (a)
Up:       1h2m5s
Slot a:   1.1 (serial 11), confirmed
State:    trial: update to 1.2 in slot b, wanted by the operator, attempt 2, boot 1 of 3
Last:     rollback to 1.1 in slot a: confirmed, its health checks passed
Agent:    running, version 0.1.0, mode stage
Trust:    it is too old
`
	if got := s.text(); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestLineMeter(t *testing.T) {
	var b bytes.Buffer
	m := newMeter(&b, false)
	for _, n := range []int64{0, 10, 50, 60, 100} {
		m.show(updater.Progress{Role: "root", Image: 1, Images: 2, Bytes: image.Progress{Stats: image.Stats{Total: 100, Written: n, Fetched: n}, Verified: n}})
	}
	m.show(updater.Progress{Role: "kernel", Image: 2, Images: 2})
	m.end()
	want := "root (1/2), 0%\nroot (1/2) 50 B fetched, 50%\nroot (1/2) 100 B fetched, 100%\nkernel (2/2), 0%\n"
	if b.String() != want {
		t.Errorf("%q; want %q", b.String(), want)
	}
}

// TestBarMeter: it draws in one line, and leaves nothing behind.
func TestBarMeter(t *testing.T) {
	var b bytes.Buffer
	m := newMeter(&b, true)
	m.end()
	m.show(updater.Progress{Role: "root", Image: 1, Images: 2, Bytes: image.Progress{Stats: image.Stats{Total: 100, Written: 10, Fetched: 10}}})
	m.show(updater.Progress{Role: "kernel", Image: 2, Images: 2, Bytes: image.Progress{Stats: image.Stats{Total: 100}}})
	m.end()
	if got := b.String(); strings.Contains(got, "\n") || !strings.Contains(got, "root (1/2)") || !strings.Contains(got, "kernel (2/2)") {
		t.Errorf("drew %q", got)
	}
}

// TestThrottle: a watcher hears the first and the last of each image, and not everything in between.
func TestThrottle(t *testing.T) {
	now, heard := time.Unix(0, 0), 0
	on := throttle(func() time.Time { return now }, func(updater.Progress) { heard++ })
	say := func(image_ int, verified int64) {
		on(updater.Progress{Image: image_, Bytes: image.Progress{Stats: image.Stats{Total: 100}, Verified: verified}})
	}
	steps := []struct {
		image    int
		verified int64
		later    time.Duration
		heard    bool
	}{
		{1, 0, 0, true},
		{1, 1, time.Millisecond, false},
		{1, 2, time.Second, true},
		{1, 100, time.Millisecond, true},
		{2, 0, time.Millisecond, true},
		{2, 3, -time.Hour, true},
	}
	for i, s := range steps {
		now = now.Add(s.later)
		before := heard
		say(s.image, s.verified)
		if (heard > before) != s.heard {
			t.Errorf("step %d: heard %v", i, heard > before)
		}
	}
}
