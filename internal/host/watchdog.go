package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Watchdog feeds a hardware watchdog, for hosts whose service manager does not (systemd does with RuntimeWatchdogSec=,
// which is to be preferred: it covers the time before the agent starts, and the shutdown).
type Watchdog struct {
	Device  string        // such as /dev/watchdog
	Timeout time.Duration // after which the hardware resets a machine that stopped feeding it; whole seconds

	open func(path string) (dog, error) // tests; nil is the real one
}

// dog is an open watchdog device. Every Write feeds it; one that ends in "V" lets it be closed without a reset.
type dog interface {
	Write([]byte) (int, error)
	SetTimeout(seconds int) (int, error)
	Close() error
}

// Feed opens the device and feeds it three times per timeout until ctx ends, and then switches it off, unless the driver
// was built or told never to stop (nowayout). It returns an error if the device cannot be had or fed.
func (w *Watchdog) Feed(ctx context.Context) error {
	if w.Timeout < time.Second {
		return fmt.Errorf("cannot feed the watchdog %s: a timeout of %v is too short: at least 1s", w.Device, w.Timeout)
	}
	open := w.open
	if open == nil {
		open = openDog
	}
	d, err := open(w.Device)
	if errors.Is(err, syscall.EBUSY) {
		return fmt.Errorf("cannot feed the watchdog %s: somebody does already, systemd perhaps (RuntimeWatchdogSec=): %w", w.Device, err)
	}
	if err != nil {
		return fmt.Errorf("cannot feed the watchdog: %w", err)
	}
	defer d.Close()
	timeout, err := w.start(d)
	if err != nil {
		// It runs since it was opened, and would reset a machine that is well.
		_, stopErr := d.Write([]byte("V"))
		return fmt.Errorf("cannot feed the watchdog %s: %w", w.Device, errors.Join(err, stopErr))
	}
	for pause(ctx, timeout/3) == nil {
		if _, err := d.Write([]byte{0}); err != nil {
			return fmt.Errorf("cannot feed the watchdog %s: %w", w.Device, err)
		}
	}
	if _, err := d.Write([]byte("V")); err != nil {
		return fmt.Errorf("cannot switch off the watchdog %s: %w", w.Device, err)
	}
	return nil
}

// start sets the timeout and returns what the hardware made of it. A device that cannot be set keeps its own, and is fed
// often enough for any.
func (w *Watchdog) start(d dog) (time.Duration, error) {
	got, err := d.SetTimeout(int(w.Timeout / time.Second))
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOTTY) {
		return time.Second, nil
	}
	if err == nil && got < 1 {
		err = fmt.Errorf("it says that its timeout is %d seconds", got)
	}
	return time.Duration(got) * time.Second, err
}

type dogFile struct{ *os.File }

func openDog(path string) (dog, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return dogFile{f}, nil
}

// SetTimeout is WDIOC_SETTIMEOUT, which says what it has set.
func (f dogFile) SetTimeout(seconds int) (int, error) {
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.WDIOC_SETTIMEOUT, seconds); err != nil {
		return 0, err
	}
	return unix.IoctlGetInt(int(f.Fd()), unix.WDIOC_GETTIMEOUT)
}
