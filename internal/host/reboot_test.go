package host_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel-os/evenkeel/internal/host"
	"github.com/evenkeel-os/evenkeel/internal/systemd"
	"github.com/evenkeel-os/evenkeel/internal/systemd/systemdtest"
)

// fakeKernel does not reboot.
type fakeKernel struct {
	mu                    sync.Mutex
	calls                 []string
	restartErr, resetErr  error
	hangSync, hangRestart chan struct{}
}

func (k *fakeKernel) note(call string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls = append(k.calls, call)
}

func (k *fakeKernel) got() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return strings.Join(k.calls, ", ")
}

func (k *fakeKernel) Sync() {
	k.note("sync")
	if k.hangSync != nil {
		<-k.hangSync
	}
}

func (k *fakeKernel) Restart(arg string) error {
	k.note(fmt.Sprintf("restart %q", arg))
	if k.hangRestart != nil {
		<-k.hangRestart
	}
	return k.restartErr
}

func (k *fakeKernel) Reset() error { k.note("reset"); return k.resetErr }

// harmless is a rebooter for the root "/" that touches nothing of this host.
func harmless(t *testing.T) (*host.Rebooter, *fakeKernel, *systemdtest.Manager) {
	root, k := t.TempDir(), &fakeKernel{}
	fake := systemdtest.Start(t, root)
	return &host.Rebooter{Root: "/", Systemd: systemd.New(root), Kernel: k}, k, fake
}

var reboot1 = []string{"reboot.target replace-irreversibly"}

func TestAskSystemd(t *testing.T) {
	r, k, fake := harmless(t)
	if err := r.Ask(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(fake.Started(), reboot1) || k.got() != "" {
		t.Errorf("systemd was asked for %q, the kernel for %q", fake.Started(), k.got())
	}
}

// TestAskAgain: a second question within Patience goes to systemd too; after it the shutdown hangs.
func TestAskAgain(t *testing.T) {
	r, k, fake := harmless(t)
	synctest.Test(t, func(t *testing.T) {
		for range 3 {
			if err := r.Ask(t.Context(), ""); err != nil {
				t.Fatal(err)
			}
			time.Sleep(44 * time.Second)
		}
		if len(fake.Started()) != 3 || k.got() != "" {
			t.Errorf("systemd was asked %d times, the kernel for %q", len(fake.Started()), k.got())
		}
		if err := r.Ask(t.Context(), "0 tryboot"); err != nil {
			t.Fatal(err)
		}
		if len(fake.Started()) != 3 || k.got() != `sync, restart "0 tryboot"` {
			t.Errorf("then systemd %d times, the kernel for %q", len(fake.Started()), k.got())
		}
	})
}

func TestWithoutSystemd(t *testing.T) {
	var heard []error
	k := &fakeKernel{}
	r := &host.Rebooter{Root: "/", Systemd: systemd.New(t.TempDir()), Kernel: k, OnError: func(err error) { heard = append(heard, err) }}
	if err := r.Ask(t.Context(), "x"); err != nil || k.got() != `sync, restart "x"` {
		t.Errorf("Ask = %v, the kernel was asked for %q", err, k.got())
	}
	if len(heard) != 1 || !strings.Contains(heard[0].Error(), "cannot ask systemd to reboot") {
		t.Errorf("heard %v", heard)
	}
}

// TestFrozenSystemd: after a crash of its own it accepts connections, and never answers.
func TestFrozenSystemd(t *testing.T) {
	root, k := t.TempDir(), &fakeKernel{}
	systemdtest.Mute(t, root)
	var heard []error
	r := &host.Rebooter{
		Root: "/", Systemd: systemd.New(root), Kernel: k, Patience: 50 * time.Millisecond,
		OnError: func(err error) { heard = append(heard, err) },
	}
	if err := r.Ask(t.Context(), ""); err != nil || k.got() != `sync, restart ""` {
		t.Errorf("Ask = %v, the kernel was asked for %q", err, k.got())
	}
	if len(heard) != 1 || !strings.Contains(heard[0].Error(), "systemd does not answer") {
		t.Errorf("heard %v", heard)
	}
}

// TestRefusedWhileGoingDown: a person shuts the machine down, for good perhaps; that is not to be cut short.
func TestRefusedWhileGoingDown(t *testing.T) {
	tests := []struct {
		state, kernel string
	}{
		{"stopping", ""},
		{"running", `sync, restart ""`},
	}
	for _, tt := range tests {
		r, k, fake := harmless(t)
		fake.Refuse("StartUnit", "Transaction is destructive.")
		fake.SetState(tt.state)
		if err := r.Ask(t.Context(), ""); err != nil || k.got() != tt.kernel {
			t.Errorf("%s: Ask = %v, the kernel was asked for %q", tt.state, err, k.got())
		}
	}
}

// TestAnEndedContextIsNoReasonForForce: the agent is being stopped while it asks.
func TestAnEndedContextIsNoReasonForForce(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("stopped")
	cancel(why)
	r, k, _ := harmless(t)
	for name, f := range map[string]func(context.Context, string) error{"Ask": r.Ask, "Insist": r.Insist} {
		if err := f(ctx, ""); !errors.Is(err, why) || k.got() != "" {
			t.Errorf("%s = %v, the kernel was asked for %q", name, err, k.got())
		}
	}
}

// TestStoppedByTheRebootItself: systemd stops who asked before its answer is here. That is success.
func TestStoppedByTheRebootItself(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, k, fake := harmless(t)
	fake.OnCall(func(method string) {
		if method == "StartUnit" {
			fake.SetState("stopping")
			cancel()
		}
	})
	fake.Refuse("StartUnit", "the answer that comes too late")
	if err := r.Ask(ctx, ""); err != nil || k.got() != "" {
		t.Errorf("Ask = %v, the kernel was asked for %q", err, k.got())
	}
}

func TestForce(t *testing.T) {
	sick := errors.New("EPERM")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name  string
		ctx   context.Context
		k     *fakeKernel
		calls string
		after time.Duration
		err   error
	}{
		{"well", t.Context(), &fakeKernel{}, `sync, restart "x"`, 0, nil},
		{"well, context over", ended, &fakeKernel{}, `sync, restart "x"`, 0, nil},
		{"dead disk", t.Context(), &fakeKernel{hangSync: make(chan struct{})}, `sync, restart "x"`, 10 * time.Second, nil},
		{"driver hangs", t.Context(), &fakeKernel{hangRestart: make(chan struct{})}, `sync, restart "x", reset`, 30 * time.Second, nil},
		{"dead disk, driver hangs", ended, &fakeKernel{hangSync: make(chan struct{}), hangRestart: make(chan struct{})}, `sync, restart "x", reset`, 40 * time.Second, nil},
		{"not allowed", t.Context(), &fakeKernel{restartErr: sick}, `sync, restart "x", reset`, 0, nil},
		{"nothing works", t.Context(), &fakeKernel{restartErr: sick, resetErr: syscall.EACCES}, `sync, restart "x", reset`, 0, syscall.EACCES},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.k.hangSync, tt.k.hangRestart = bubbled(tt.k.hangSync), bubbled(tt.k.hangRestart)
				start := time.Now()
				err := (&host.Rebooter{Root: "/", Kernel: tt.k}).Force(tt.ctx, "x")
				if took := time.Since(start); took != tt.after || tt.k.got() != tt.calls || !errors.Is(err, tt.err) {
					t.Errorf("Force = %v after %v: %s, want %v after %v: %s", err, took, tt.k.got(), tt.err, tt.after, tt.calls)
				}
				for _, c := range []chan struct{}{tt.k.hangSync, tt.k.hangRestart} {
					if c != nil {
						close(c)
					}
				}
			})
		})
	}
}

// bubbled makes a channel of the bubble where the table has one.
func bubbled(c chan struct{}) chan struct{} {
	if c == nil {
		return nil
	}
	return make(chan struct{})
}

func TestInsist(t *testing.T) {
	r, k, fake := harmless(t)
	r.Patience = time.Minute
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		err := r.Insist(t.Context(), "")
		if err == nil || !strings.Contains(err.Error(), "the machine still runs 1m0s after it was asked to") {
			t.Errorf("Insist = %v", err)
		}
		if took := time.Since(start); took != time.Minute || !slices.Equal(fake.Started(), reboot1) || k.got() != `sync, restart ""` {
			t.Errorf("after %v systemd was asked for %q, the kernel for %q", took, fake.Started(), k.got())
		}
	})
}

func TestInsistUntilTheContextEnds(t *testing.T) {
	r, k, _ := harmless(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Insist(ctx, ""); !errors.Is(err, context.DeadlineExceeded) || k.got() != "" {
			t.Errorf("Insist = %v, the kernel was asked for %q", err, k.got())
		}
	})
}

func TestCommand(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	k := &fakeKernel{}
	sh := func(script string) *host.Rebooter {
		return &host.Rebooter{Root: "/", Kernel: k, Patience: time.Millisecond, Command: []string{"/bin/sh", "-c", script, out}}
	}
	if err := sh(`echo "$EVENKEEL_REBOOT_ARG" >"$0"`).Ask(t.Context(), "0 tryboot"); err != nil {
		t.Error(err)
	}
	if b, _ := os.ReadFile(out); string(b) != "0 tryboot\n" {
		t.Errorf("the command got %q", b)
	}
	if err := sh("sleep 60 & exit 0").Ask(t.Context(), ""); err != nil {
		t.Errorf("a command that goes on in the background: %v", err)
	}
	err := sh("echo not today; echo never >&2; exit 3").Ask(t.Context(), "")
	if err == nil || err.Error() != "cannot reboot: /bin/sh: exit status 3: not today\nnever" {
		t.Errorf("error = %v", err)
	}
	if err := sh("exit 1").Insist(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("Insist = %v", err)
	}
	if err := sh("exit 0").Insist(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "still runs") {
		t.Errorf("Insist on a machine that stays = %v", err)
	}
	if err := (&host.Rebooter{Root: "/", Command: []string{"/no/such/command"}}).Ask(t.Context(), ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error = %v", err)
	}
	if k.got() != "" {
		t.Errorf("the kernel was asked for %q", k.got())
	}
}

// TestAnotherRootIsNotThisMachine: a demo or a test must never reboot the machine that it runs on.
func TestAnotherRootIsNotThisMachine(t *testing.T) {
	for _, root := range []string{"/tmp/x", "/..x"} {
		k := &fakeKernel{}
		r := &host.Rebooter{Root: root, Kernel: k, Systemd: systemd.New(t.TempDir())}
		for _, err := range []error{r.Ask(t.Context(), ""), r.Insist(t.Context(), ""), r.Force(t.Context(), "")} {
			if err == nil || !strings.Contains(err.Error(), "a reboot command must be configured") || k.got() != "" {
				t.Errorf("root %s: %v, the kernel was asked for %q", root, err, k.got())
			}
		}
	}
}
