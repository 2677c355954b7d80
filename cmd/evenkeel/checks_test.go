package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/evenkeel-os/evenkeel/internal/config"
	"github.com/evenkeel-os/evenkeel/internal/durable"
)

// TestLeft: a probe must end before the deadline of a trial. Beyond it there is no trial, and no reason to hurry.
func TestLeft(t *testing.T) {
	for _, tt := range []struct {
		uptime         string
		deadline, want time.Duration
	}{
		{"10.00 0", 10 * time.Minute, 9*time.Minute + 20*time.Second},
		{"569.00 0", 10 * time.Minute, time.Second},
		{"599.00 0", 10 * time.Minute, time.Second},
		{"600.00 0", 10 * time.Minute, 0},
		{"90000.00 0", 10 * time.Minute, 0},
		{"soon", 10 * time.Minute, 0},
		{"8.00 0", 30 * time.Second, 14500 * time.Millisecond}, // a short deadline leaves time for checks as well
		{"8.00 0", 40 * time.Second, 22 * time.Second},
		{"8.00 0", 2 * time.Minute, 82 * time.Second},
	} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, "proc"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "proc/uptime"), []byte(tt.uptime+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		m := &machine{cfg: config.Config{Host: config.Host{Root: root}, Health: config.Health{Deadline: tt.deadline}}}
		if got := m.left(); got != tt.want {
			t.Errorf("uptime %s, deadline %s: %s left, want %s", tt.uptime, tt.deadline, got, tt.want)
		}
	}
}

// sick is a directory in which no file can be made.
type sick struct {
	*durable.Memory
	err error
}

func (s sick) Create(name string) (durable.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: s.err}
}

// TestWritable: a full state partition is no reason to go back, for the record is saved in place. A dead one is.
func TestWritable(t *testing.T) {
	for err, well := range map[syscall.Errno]bool{syscall.ENOSPC: true, syscall.EDQUOT: true, syscall.EROFS: false, syscall.EIO: false} {
		if got := writable(sick{durable.NewMemory(), err}, "/state"); (got == nil) != well {
			t.Errorf("%v: %v", err, got)
		}
	}
	m := durable.NewMemory()
	if err := durable.WriteFile(m, "/state/record", nil); err != nil {
		t.Fatal(err)
	}
	if err := writable(m, "/state"); err != nil {
		t.Error(err)
	}
	if names, err := m.List("/state"); err != nil || len(names) != 1 {
		t.Errorf("it left %q, %v", names, err)
	}
}
