package systemd_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/evenkeel-os/evenkeel/internal/systemd"
	"github.com/evenkeel-os/evenkeel/internal/systemd/systemdtest"
)

func TestState(t *testing.T) {
	root := t.TempDir()
	fake := systemdtest.Start(t, root)
	m := systemd.New(root)
	for state, settled := range map[systemd.State]bool{
		systemd.Initializing: false, systemd.Starting: false, systemd.Running: true, systemd.Degraded: true,
		systemd.Maintenance: true, systemd.Stopping: true,
	} {
		fake.SetState(string(state))
		got, err := m.State(t.Context())
		if err != nil || got != state || got.Settled() != settled {
			t.Errorf("State = %q (settled %v), %v, want %q (settled %v)", got, got.Settled(), err, state, settled)
		}
	}
}

func TestUnit(t *testing.T) {
	root := t.TempDir()
	fake := systemdtest.Start(t, root)
	fake.SetUnit("app@x-1.service", systemdtest.Unit{Load: "loaded", Active: "active", Sub: "running", Result: "success"})
	fake.SetUnit("bad.service", systemdtest.Unit{Load: "loaded", Active: "failed", Sub: "failed", Result: "exit-code", Status: 3})
	fake.SetUnit("srv.mount", systemdtest.Unit{Load: "loaded", Active: "inactive", Sub: "dead"})
	fake.SetUnit("new.service", systemdtest.Unit{Load: "loaded", Active: "reloading", Sub: "reload", Result: "success"})
	tests := []struct {
		name, want string
		ok         bool
	}{
		{"app@x-1.service", "app@x-1.service is active (running)", true},
		{"bad.service", "bad.service is failed (failed, exit-code, status 3)", false},
		{"srv.mount", "srv.mount is inactive (dead)", false},
		{"new.service", "new.service is reloading (reload)", true},
		{"gone.service", "gone.service is not-found", false},
	}
	for _, tt := range tests {
		u, err := systemd.New(root).Unit(t.Context(), tt.name)
		if err != nil {
			t.Fatal(err)
		}
		if u.String() != tt.want || u.OK() != tt.ok {
			t.Errorf("%q, OK %v, want %q, OK %v", u, u.OK(), tt.want, tt.ok)
		}
	}
	failed, err := systemd.New(root).Failed(t.Context())
	if err != nil || !slices.Equal(failed, []string{"bad.service"}) {
		t.Errorf("Failed = %q, %v", failed, err)
	}
}

func TestSystemBusWhereThePrivateSocketIsMissing(t *testing.T) {
	root := t.TempDir()
	systemdtest.StartBus(t, root)
	if s, err := systemd.New(root).State(t.Context()); err != nil || s != systemd.Running {
		t.Errorf("State = %q, %v", s, err)
	}
}

func TestNoSystemd(t *testing.T) {
	_, err := systemd.New(t.TempDir()).State(t.Context())
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "system_bus_socket") {
		t.Errorf("error = %v, want one that names both sockets", err)
	}
}

// TestMutePeer: a manager that accepts and says nothing must not hold anybody up.
func TestMutePeer(t *testing.T) {
	root := t.TempDir()
	systemdtest.Mute(t, root)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := systemd.New(root).State(ctx)
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want that of the context", err)
	}
}

// TestNoAnswer: the handshake is over, and the answer never comes.
func TestNoAnswer(t *testing.T) {
	root := t.TempDir()
	fake := systemdtest.Start(t, root)
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	defer close(release)
	fake.OnCall(func(string) { cancel(); <-release })
	if _, err := systemd.New(root).Unit(ctx, "app.service"); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want that of the context", err)
	}
}

func TestReboot(t *testing.T) {
	root := t.TempDir()
	fake := systemdtest.Start(t, root)
	m := systemd.New(root)
	param := filepath.Join(root, "run/systemd/reboot-param")
	if err := m.Reboot(t.Context(), "0 tryboot"); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(param); err != nil || string(b) != "0 tryboot" {
		t.Errorf("argument = %q, %v", b, err)
	}
	// An argument of an earlier reboot that did not happen must not reach the firmware.
	if err := m.Reboot(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(param); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old argument is still there: %v", err)
	}
	if got := fake.Started(); !slices.Equal(got, []string{"reboot.target replace-irreversibly", "reboot.target replace-irreversibly"}) {
		t.Errorf("started %q", got)
	}
	fake.Refuse("StartUnit", "Transaction is destructive.")
	if err := m.Reboot(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "destructive") {
		t.Errorf("error = %v, want what systemd said", err)
	}
}
