package host_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel-os/evenkeel/internal/host"
)

// fakeDog is a watchdog device that notes when it was fed.
type fakeDog struct {
	start    time.Time
	set      int // 0: what it is told
	setErr   error
	writeErr error
	log      []string
}

func (d *fakeDog) Write(p []byte) (int, error) {
	if d.writeErr != nil {
		return 0, d.writeErr
	}
	d.log = append(d.log, fmt.Sprintf("%v %q", time.Since(d.start).Round(time.Millisecond), p))
	return len(p), nil
}

func (d *fakeDog) SetTimeout(seconds int) (int, error) {
	d.log = append(d.log, fmt.Sprintf("timeout %d", seconds))
	if d.set != 0 {
		return max(d.set, 0), d.setErr
	}
	return seconds, d.setErr
}

func (d *fakeDog) Close() error { d.log = append(d.log, "close"); return nil }

func TestFeed(t *testing.T) {
	tests := []struct {
		name    string
		timeout time.Duration
		dog     *fakeDog
		want    string // what the device saw in one minute
		err     string
	}{
		{"well", time.Minute, &fakeDog{}, `timeout 60, 20s "\x00", 40s "\x00", 1m0s "\x00", 1m0.1s "V", close`, ""},
		{"fractions are not rounded up", 60900 * time.Millisecond, &fakeDog{}, `timeout 60, 20s "\x00", 40s "\x00", 1m0s "\x00", 1m0.1s "V", close`, ""},
		{"the hardware has its own mind", time.Minute, &fakeDog{set: 90}, `timeout 60, 30s "\x00", 1m0s "\x00", 1m0.1s "V", close`, ""},
		{"timeout refused", time.Minute, &fakeDog{setErr: syscall.EINVAL}, `timeout 60, 0s "V", close`, "cannot feed the watchdog /dev/watchdog: invalid argument"},
		{"timeout of nothing", time.Minute, &fakeDog{set: -1}, `timeout 60, 0s "V", close`, "it says that its timeout is 0 seconds"},
		{"cannot be fed", time.Minute, &fakeDog{writeErr: syscall.EIO}, `timeout 60, close`, "cannot feed the watchdog /dev/watchdog: input/output error"},
		{"too short", 999 * time.Millisecond, &fakeDog{}, "", "a timeout of 999ms is too short: at least 1s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute+100*time.Millisecond)
				defer cancel()
				tt.dog.start = time.Now()
				w := &host.Watchdog{Device: "/dev/watchdog", Timeout: tt.timeout}
				err := host.WithDog(w, func(string) (host.Dog, error) { return tt.dog, nil }).Feed(ctx)
				if got := strings.Join(tt.dog.log, ", "); got != tt.want {
					t.Errorf("the device saw %s, want %s", got, tt.want)
				}
				if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
					t.Errorf("Feed = %v, want %q", err, tt.err)
				}
			})
		})
	}
}

// TestADogThatCannotBeSet is fed often enough for any.
func TestADogThatCannotBeSet(t *testing.T) {
	for _, err := range []error{syscall.EOPNOTSUPP, syscall.ENOTTY} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			d := &fakeDog{setErr: err, start: time.Now()}
			w := host.WithDog(&host.Watchdog{Timeout: time.Minute}, func(string) (host.Dog, error) { return d, nil })
			if err := w.Feed(ctx); err != nil || len(d.log) != 1+30+2 {
				t.Errorf("Feed = %v, the device saw %q", err, d.log)
			}
		})
	}
}

func TestADogThatCannotBeHad(t *testing.T) {
	w := &host.Watchdog{Device: filepath.Join(t.TempDir(), "watchdog"), Timeout: time.Minute}
	if err := w.Feed(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error = %v", err)
	}
	busy := host.WithDog(w, func(path string) (host.Dog, error) {
		return nil, &os.PathError{Op: "open", Path: path, Err: syscall.EBUSY}
	})
	if err := busy.Feed(t.Context()); !errors.Is(err, syscall.EBUSY) || !strings.Contains(err.Error(), "systemd perhaps (RuntimeWatchdogSec=)") {
		t.Errorf("error = %v", err)
	}
}

// TestTheDeviceFile: through the real file, which is no watchdog, so that its timeout cannot be set.
func TestTheDeviceFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "watchdog")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 1100*time.Millisecond)
		defer cancel()
		if err := (&host.Watchdog{Device: path, Timeout: time.Minute}).Feed(ctx); err != nil {
			t.Error(err)
		}
	})
	if b, err := os.ReadFile(path); err != nil || string(b) != "\x00\x00\x00V" {
		t.Errorf("the file holds %q, %v: want three meals and the magic close", b, err)
	}
}
