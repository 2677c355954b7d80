package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/evenkeel-os/evenkeel/internal/config"
)

// TestLeft: a probe must end before the deadline of a trial. Beyond it there is no trial, and no reason to hurry.
func TestLeft(t *testing.T) {
	for uptime, want := range map[string]time.Duration{
		"10.00 0": 9*time.Minute + 20*time.Second, "569.00 0": time.Second, "599.00 0": time.Second, "600.00 0": 0, "90000.00 0": 0, "soon": 0,
	} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, "proc"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "proc/uptime"), []byte(uptime+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		m := &machine{cfg: config.Config{Host: config.Host{Root: root}, Health: config.Health{Deadline: 10 * time.Minute}}}
		if got := m.left(); got != want {
			t.Errorf("uptime %s: %s left, want %s", uptime, got, want)
		}
	}
}
