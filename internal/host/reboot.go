package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/evenkeel-os/evenkeel/internal/systemd"
	"github.com/evenkeel-os/evenkeel/internal/text"
	"github.com/evenkeel-os/evenkeel/updater"
)

// Reboot implements updater.Host: it notes that this boot ends in order, and asks for the reboot.
func (h *Host) Reboot(ctx context.Context, r updater.Reboot) error {
	if h.o.Rebooter == nil {
		return errors.New("cannot reboot: this host was set up without a way to")
	}
	if err := h.ended("Evenkeel asked for a reboot"); err != nil {
		h.o.OnError(err)
	}
	return h.o.Rebooter.Ask(ctx, r.Arg)
}

// Rebooter reboots the machine: by a command where one is configured, else through systemd, else by the system call.
type Rebooter struct {
	// Root of the host. Below another one than "/" nothing but Command is ever used.
	Root string
	// Command is run instead of everything else. It gets the argument for the firmware in EVENKEEL_REBOOT_ARG.
	Command []string
	// Patience is how long an orderly shutdown may take before the next, harder way is used. 0 is 90 seconds.
	Patience time.Duration
	// Systemd is the service manager that is asked; nil is the one below Root.
	Systemd *systemd.Manager
	// Kernel is what rebooting by force needs; nil is the real one.
	Kernel Kernel
	// OnError hears why a way did not work. May be nil.
	OnError func(error)

	asked time.Time // when the orderly way was first taken
}

// Kernel is the last resort. Its methods may never return.
type Kernel interface {
	Sync()
	Restart(arg string) error // reboot(2)
	Reset() error             // at once, through sysrq
}

// Ask asks for a reboot and returns when it was accepted. When it is asked again after Patience, and the machine still
// runs, the shutdown hangs: then it reboots by force. It is not for concurrent use.
func (r *Rebooter) Ask(ctx context.Context, arg string) error {
	if len(r.Command) > 0 || !r.real() {
		return r.command(ctx, arg)
	}
	if r.asked.IsZero() || time.Since(r.asked) < r.patience() {
		err := r.orderly(ctx, arg)
		switch {
		case err == nil && r.asked.IsZero():
			r.asked = time.Now()
			return nil
		case err == nil:
			return nil
		case ctx.Err() != nil: // to be told to stop is no reason to pull the plug
			return fmt.Errorf("cannot reboot: %w", context.Cause(ctx))
		}
		r.report(err)
	}
	return r.Force(ctx, arg)
}

// orderly asks systemd, which may be frozen. One that is going down already, for a reboot or for good, is left to it.
func (r *Rebooter) orderly(ctx context.Context, arg string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, min(answerTime, r.patience()), errors.New("systemd does not answer"))
	defer cancel()
	m := r.Systemd
	if m == nil {
		m = systemd.New(r.Root)
	}
	err := m.Reboot(ctx, arg)
	if err == nil {
		return nil
	}
	// Who asks is told to stop by the very shutdown, often before the answer is here.
	late, cancelLate := context.WithTimeout(context.WithoutCancel(ctx), min(5*time.Second, r.patience()))
	defer cancelLate()
	if s, stateErr := m.State(late); stateErr == nil && s == systemd.Stopping {
		return nil
	}
	return errors.Join(err, context.Cause(ctx))
}

// answerTime is how long systemd may take to accept a reboot.
const answerTime = 25 * time.Second

// Insist reboots and does not come back before the machine is gone, every way has failed, or ctx ended.
func (r *Rebooter) Insist(ctx context.Context, arg string) error {
	err := r.Ask(ctx, arg)
	if err == nil {
		err = pause(ctx, r.patience())
	}
	if err == nil && len(r.Command) == 0 {
		err = r.Force(ctx, arg)
	}
	if err == nil {
		err = fmt.Errorf("cannot reboot: the machine still runs %v after it was asked to", r.patience())
	}
	return err
}

// Force reboots without stopping anything first. What hangs on a dead disk is not waited for. The end of ctx does not
// keep it from anything: half a reboot is none.
func (r *Rebooter) Force(ctx context.Context, arg string) error {
	if !r.real() {
		return errors.New("cannot reboot: the host's root is not \"/\", so a reboot command must be configured")
	}
	ctx = context.WithoutCancel(ctx)
	k := r.Kernel
	if k == nil {
		k = machine{}
	}
	_, _ = within(ctx, 10*time.Second, func() error { k.Sync(); return nil })
	err, late := within(ctx, 30*time.Second, func() error { return k.Restart(arg) })
	if late {
		err = errors.New("reboot(2) did not return")
	}
	if err == nil {
		return nil
	}
	r.report(fmt.Errorf("cannot reboot by the system call: %w", err))
	if resetErr := k.Reset(); resetErr != nil {
		return fmt.Errorf("cannot reboot: %w", errors.Join(err, resetErr))
	}
	return nil
}

// within runs f for at most d; late says that it went on without it.
func within(ctx context.Context, d time.Duration, f func() error) (err error, late bool) {
	done := make(chan error, 1)
	go func() { done <- f() }()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case err := <-done:
		return err, false
	case <-t.C:
	case <-ctx.Done():
	}
	return nil, true
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// commandTime bounds a reboot command that hangs.
const commandTime = 2 * time.Minute

func (r *Rebooter) command(ctx context.Context, arg string) error {
	if len(r.Command) == 0 {
		return errors.New("cannot reboot: the host's root is not \"/\", so a reboot command must be configured")
	}
	// A reboot ends the agent that asked for it, which must not end the command in the middle.
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), commandTime)
	defer stop()
	out := &text.Buffer{Keep: 1024}
	c := exec.CommandContext(ctx, r.Command[0], r.Command[1:]...)
	c.Env = append(os.Environ(), "EVENKEEL_REBOOT_ARG="+arg)
	c.Stdout, c.Stderr, c.WaitDelay = out, out, min(5*time.Second, r.patience())
	// What it left in the background may hold its output open.
	if err := c.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return fmt.Errorf("cannot reboot: %s: %w: %s", r.Command[0], err, out)
	}
	return nil
}

func (r *Rebooter) real() bool { return filepath.Clean("/"+r.Root) == "/" }

func (r *Rebooter) patience() time.Duration {
	if r.Patience > 0 {
		return r.Patience
	}
	return 90 * time.Second
}

func (r *Rebooter) report(err error) {
	if r.OnError != nil {
		r.OnError(err)
	}
}

// machine is the real kernel.
type machine struct{}

func (machine) Sync() { unix.Sync() }

func (machine) Restart(arg string) error {
	if arg == "" {
		return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	}
	p, err := syscall.BytePtrFromString(arg)
	if err != nil {
		return err
	}
	_, _, errno := unix.Syscall6(unix.SYS_REBOOT, unix.LINUX_REBOOT_MAGIC1, unix.LINUX_REBOOT_MAGIC2,
		unix.LINUX_REBOOT_CMD_RESTART2, uintptr(unsafe.Pointer(p)), 0, 0)
	runtime.KeepAlive(p)
	if errno != 0 {
		return errno
	}
	return nil
}

func (machine) Reset() error { return os.WriteFile("/proc/sysrq-trigger", []byte("b"), 0) }
