package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel-os/evenkeel/updater"
)

// TestModes is the table of docs/configuration.md.
func TestModes(t *testing.T) {
	tests := []struct {
		mode         string
		install, arm bool // by itself
	}{
		{"auto", true, true}, {"stage", true, false}, {"check", false, false}, {"off", false, false},
	}
	for _, tt := range tests {
		g := &gate{mode: tt.mode, now: time.Now}
		for stage, want := range map[updater.Stage]bool{updater.Install: tt.install, updater.Arm: tt.arm} {
			v, err := g.Decide(t.Context(), updater.Ask{Stage: stage, By: "agent"})
			if err != nil || v.Open != want || !want && !strings.Contains(v.Reason, tt.mode) {
				t.Errorf("%s, %s: %+v, %v", tt.mode, stage, v, err)
			}
			if v, err := g.Decide(t.Context(), updater.Ask{Stage: stage, By: operator}); err != nil || !v.Open {
				t.Errorf("%s, %s, for an operator: %+v, %v", tt.mode, stage, v, err)
			}
		}
	}
}

// TestHolds: they hold everybody, and say why.
func TestHolds(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tests := []struct {
		name  string
		until time.Time
		file  string
		why   string // empty: open
	}{
		{"none", time.Time{}, "", ""},
		{"file that is not there", time.Time{}, filepath.Join(dir, "none"), ""},
		{"file", time.Time{}, file("busy", "a surgery is under way\nsince noon\n"), "busy exists: a surgery is under way"},
		{"empty file", time.Time{}, file("empty", ""), "empty exists"},
		{"long line", time.Time{}, file("long", strings.Repeat("x", 5000)), "long exists"},
		{"no file", time.Time{}, dir, "cannot be read"},
		{"later", now.Add(time.Second), "", "on hold until 2026-11-24T12:00:01Z (update.hold_until)"},
		{"now", now, "", ""},
		{"earlier", now.Add(-time.Second), "", ""},
	}
	for _, tt := range tests {
		g := &gate{mode: "auto", holdUntil: tt.until, holdFile: tt.file, now: func() time.Time { return now }}
		for _, by := range []string{"agent", operator} {
			v, err := g.Decide(t.Context(), updater.Ask{Stage: updater.Arm, By: by})
			if err != nil || v.Open != (tt.why == "") || !strings.Contains(v.Reason, tt.why) || len(v.Reason) > 400 {
				t.Errorf("%s, %s: %+v, %v", tt.name, by, v, err)
			}
			if tt.name == "later" && (!v.NotBefore.Equal(tt.until) || !v.NextChange.Equal(tt.until)) {
				t.Errorf("%s: not before %v, next change %v", tt.name, v.NotBefore, v.NextChange)
			}
		}
	}
}

// TestNoLeases: alone, there is nobody to ask and nobody to tell.
func TestNoLeases(t *testing.T) {
	g := &gate{now: time.Now}
	txn := updater.Txn{ID: 7}
	txn.Release.Version = "1.1"
	l, err := g.Enter(t.Context(), txn)
	if err != nil || l.Txn != 7 || l.Version != "1.1" {
		t.Errorf("%+v, %v", l, err)
	}
	if err := g.Leave(t.Context(), l); err != nil {
		t.Error(err)
	}
}
