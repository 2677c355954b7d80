package host_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/internal/host"
	"github.com/evenkeel-os/evenkeel/internal/systemd/systemdtest"
	"github.com/evenkeel-os/evenkeel/updater"
)

// trialBoot is a boot of slot b with a deadline unit of ten minutes.
type trialBoot struct {
	*computer
	d      *host.Deadline
	kernel *fakeKernel
	fake   *systemdtest.Manager

	mu    sync.Mutex
	asked int
	log   []string
}

func newTrialBoot(t *testing.T) *trialBoot {
	b := &trialBoot{computer: newComputer(t)}
	b.start("boot-2", updater.B)
	var r *host.Rebooter
	r, b.kernel, b.fake = harmless(t)
	b.d = &host.Deadline{
		Root: b.root, StateDir: stateDir, RunDir: filepath.Join(b.root, "run/evenkeel"), FS: b.fs,
		After: 10 * time.Minute, Rebooter: r,
		Log: func(s string) { b.mu.Lock(); b.log = append(b.log, s); b.mu.Unlock() },
	}
	return b
}

// answers makes OnTrial answer in turn; the last one stands.
func (b *trialBoot) answers(as ...func() (bool, error)) *trialBoot {
	b.d.OnTrial = func() (bool, error) {
		b.mu.Lock()
		a := as[min(b.asked, len(as)-1)]
		b.asked++
		b.mu.Unlock()
		return a()
	}
	return b
}

func yes() (bool, error)    { return true, nil }
func no() (bool, error)     { return false, nil }
func unsure() (bool, error) { return false, errors.New("the ESP is not mounted") }

// tick keeps proc/uptime going, a little behind the clock.
func (b *trialBoot) tick(ctx context.Context) {
	start := time.Now()
	for {
		up := time.Since(start).Seconds()
		b.put("proc/uptime.new", fmt.Sprintf("%.2f 0.00\n", up))
		if err := os.Rename(filepath.Join(b.root, "proc/uptime.new"), filepath.Join(b.root, "proc/uptime")); err != nil {
			b.t.Error(err)
		}
		wait := 5 * time.Second
		if up == 0 {
			wait = 300 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// run runs the unit in a bubble, with a clock. It returns what Run did and when.
func (b *trialBoot) run(ctx context.Context) (time.Duration, error) {
	clock, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { b.tick(clock) })
	synctest.Wait()
	start := time.Now()
	err := b.d.Run(ctx)
	took := time.Since(start)
	stop()
	wg.Wait()
	return took, err
}

func (b *trialBoot) note() (n host.Note, ok bool) {
	data, err := b.fs.ReadFile(noteFile)
	if errors.Is(err, fs.ErrNotExist) {
		return n, false
	}
	if err != nil || json.Unmarshal(data, &n) != nil {
		b.t.Fatalf("deadline.json: %q, %v", data, err)
	}
	return n, true
}

func (b *trialBoot) reboots() int { return len(b.fake.Started()) }

const sureWhy = "the agent did not confirm slot b within 10m0s of its start"

// TestDeadline is the table of Deadline's documentation.
func TestDeadline(t *testing.T) {
	const oldUnsure = `{"slot":"b","boot":"boot-1","why":"nobody could tell","unsure":true}`
	noState := func(b *trialBoot) {
		b.d.MayWrite = func() error { return errors.New("the state partition is not mounted") }
	}
	full := func(b *trialBoot) { b.fs.(*fixtures.FS).Limit(10) }
	tests := []struct {
		name    string
		answers []func() (bool, error)
		prepare func(*trialBoot)
		reboot  bool
		note    string // "": there is none
		err     string // of Run when it does not reboot; "": nil
	}{
		{"not on trial", []func() (bool, error){no}, nil, false, "", ""},
		{"not on trial, seen late", []func() (bool, error){unsure, unsure, no}, nil, false, "", ""},
		{"confirmed meanwhile", []func() (bool, error){yes, yes, no}, nil, false, "", ""},
		{"on trial", []func() (bool, error){yes}, nil, true, sureWhy, ""},
		{"on trial, seen late", []func() (bool, error){unsure, unsure, yes}, nil, true, sureWhy, ""},
		{"on trial, and then the disk died", []func() (bool, error){yes, unsure}, nil, true, sureWhy, ""},
		{"on trial, no state partition", []func() (bool, error){yes}, noState, true, "", ""},
		{"on trial, full disk", []func() (bool, error){yes}, full, true, "", ""},
		{"on trial, after an unsure one", []func() (bool, error){yes}, func(b *trialBoot) { b.putState(noteFile, oldUnsure) }, true, sureWhy, ""},
		{"nobody can tell", []func() (bool, error){unsure}, nil, true, "nobody could tell within 10m0s whether slot b is on trial: the ESP is not mounted", ""},
		{"nobody can tell, again", []func() (bool, error){unsure}, func(b *trialBoot) { b.putState(noteFile, oldUnsure) }, true, "the ESP is not mounted", ""},
		{"nobody can tell, the seventh time", []func() (bool, error){unsure}, func(b *trialBoot) { b.putState(noteFile, timesUnsure(6)) }, true, "the ESP is not mounted", ""},
		{"nobody can tell, the eighth time", []func() (bool, error){unsure}, func(b *trialBoot) { b.putState(noteFile, timesUnsure(7)) }, false, "nobody could tell", "it does not reboot, for that might go round in circles: 7 reboots did not help before"},
		{"nobody can tell, no state partition", []func() (bool, error){unsure}, noState, false, "", "it does not reboot, for that might go round in circles: the state partition is not mounted"},
		{"nobody can tell, full disk", []func() (bool, error){unsure}, full, false, "", "go round in circles: cannot save /state/deadline.json"},
		{"nobody can tell, after a note in zeros", []func() (bool, error){unsure}, func(b *trialBoot) { b.putState(noteFile, "\x00\x00") }, true, "nobody could tell", ""},
		{"no boot id", []func() (bool, error){yes}, func(b *trialBoot) { b.disarm(""); b.remove("proc/sys") }, true, sureWhy, ""},
		{"no uptime", []func() (bool, error){yes}, func(b *trialBoot) { b.remove("proc/uptime"); b.put("proc/uptime/x", "") }, false, "", "cannot tell the uptime"},
		{"disarmed before an earlier reboot", []func() (bool, error){yes}, func(b *trialBoot) { b.disarm("boot-1") }, true, sureWhy, ""},
		{"disarmed before it started", []func() (bool, error){yes}, func(b *trialBoot) { b.disarm("boot-2") }, false, "", ""},
		{"disarmed, though nobody can tell", []func() (bool, error){unsure}, func(b *trialBoot) { b.disarm("boot-2") }, false, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newTrialBoot(t).answers(tt.answers...)
			if tt.prepare != nil {
				tt.prepare(b)
			}
			synctest.Test(t, func(t *testing.T) {
				var took time.Duration
				var err error
				if tt.name == "no uptime" {
					err = b.d.Run(t.Context())
				} else {
					took, err = b.run(t.Context())
				}
				if tt.reboot {
					tt.err = "the machine still runs"
				}
				if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
					t.Errorf("Run = %v, want %q", err, tt.err)
				}
				// At the deadline, with the clock's lag, and then systemd has its 90 seconds.
				if want := 10*time.Minute + 4700*time.Millisecond + 90*time.Second; tt.reboot && took != want {
					t.Errorf("it took %v, want %v", took, want)
				}
			})
			b.check(tt.reboot, tt.note)
		})
	}
}

// timesUnsure is the note after n boots in a row in which nobody could tell.
func timesUnsure(n int) string {
	return fmt.Sprintf(`{"slot":"b","boot":"boot-1","why":"nobody could tell","unsure":true,"times":%d}`, n)
}

// TestATrialThatNobodyCanTell is left, whatever number of tries a loader may have given it, and no machine goes on for ever.
func TestATrialThatNobodyCanTell(t *testing.T) {
	b := newTrialBoot(t).answers(unsure)
	b.put("proc/uptime", "601.00 0.00\n")
	for boot := 1; boot <= 9; boot++ {
		b.put("proc/sys/kernel/random/boot_id", fmt.Sprintf("boot-%d\n", boot))
		synctest.Test(t, func(t *testing.T) {
			if err := b.d.Run(t.Context()); err == nil {
				t.Error("Run returned nil")
			}
		})
		n, ok := b.note()
		if want := min(boot, 7); !ok || b.reboots() != want || n.Times != want || n.Boot != fmt.Sprintf("boot-%d", want) {
			t.Errorf("boot %d: %d reboots, note %+v", boot, b.reboots(), n)
		}
	}
}

func (b *trialBoot) disarm(boot string) { b.put("run/evenkeel/disarmed", boot+"\n") }

func (b *trialBoot) check(reboot bool, why string) {
	b.t.Helper()
	if n := b.reboots(); (n == 1) != reboot || n > 1 {
		b.t.Errorf("%d reboots, want one: %v; log:\n%s", n, reboot, strings.Join(b.log, "\n"))
	}
	n, ok := b.note()
	if ok != (why != "") || !strings.Contains(n.Why, why) || ok && n.Slot != updater.B || ok && n.Unsure != strings.Contains(n.Why, "nobody") {
		b.t.Errorf("note = %+v, %v, want %q", n, ok, why)
	}
}

func TestDisarmedLater(t *testing.T) {
	b := newTrialBoot(t).answers(yes)
	synctest.Test(t, func(t *testing.T) {
		timer := time.AfterFunc(5*time.Minute+time.Second, func() {
			if err := b.host().Disarm(); err != nil {
				t.Error(err)
			}
		})
		defer timer.Stop()
		took, err := b.run(t.Context())
		if err != nil || took != 5*time.Minute+10*time.Second {
			t.Errorf("Run = %v after %v", err, took)
		}
	})
	b.check(false, "")
}

func TestStartedAfterTheDeadline(t *testing.T) {
	b := newTrialBoot(t).answers(yes)
	b.put("proc/uptime", "601.00 0.00\n")
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		err := b.d.Run(t.Context())
		if took := time.Since(start); err == nil || took != 90*time.Second {
			t.Errorf("Run = %v after %v", err, took)
		}
	})
	b.check(true, sureWhy)
}

// TestADiskThatDoesNotAnswer must not collect questions, nor keep it from acting.
func TestADiskThatDoesNotAnswer(t *testing.T) {
	tests := []struct {
		name string
		was  []func() (bool, error) // before it hangs
		note string
	}{
		{"from the start", nil, "nobody could tell within 10m0s whether slot b is on trial: the disk does not answer"},
		{"after it could be read", []func() (bool, error){yes}, sureWhy},
		{"after it could not be read", []func() (bool, error){unsure}, "nobody could tell"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newTrialBoot(t)
			synctest.Test(t, func(t *testing.T) {
				hang := make(chan struct{})
				b.answers(append(tt.was, func() (bool, error) { <-hang; return true, nil })...)
				_, err := b.run(t.Context())
				close(hang)
				if err == nil || b.asked != len(tt.was)+1 {
					t.Errorf("Run = %v, asked %d times", err, b.asked)
				}
			})
			b.check(true, tt.note)
		})
	}
}

// TestAnAnswerThatComesLate counts all the same.
func TestAnAnswerThatComesLate(t *testing.T) {
	b := newTrialBoot(t)
	synctest.Test(t, func(t *testing.T) {
		b.answers(func() (bool, error) { time.Sleep(2 * time.Minute); return false, nil })
		took, err := b.run(t.Context())
		if err != nil || took != 2*time.Minute || b.asked != 1 {
			t.Errorf("Run = %v after %v, asked %d times", err, took, b.asked)
		}
	})
	b.check(false, "")
}

// TestAStatePartitionThatHangs: without the note, but not without the reboot, unless that might go round in circles.
func TestAStatePartitionThatHangs(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func() (bool, error)
		reboot bool
	}{"sure": {yes, true}, "unsure": {unsure, false}} {
		t.Run(name, func(t *testing.T) {
			b := newTrialBoot(t).answers(tt.answer)
			synctest.Test(t, func(t *testing.T) {
				hang := make(chan struct{})
				b.d.MayWrite = func() error { <-hang; return syscall.EIO }
				_, err := b.run(t.Context())
				close(hang)
				if err == nil || !tt.reboot && !strings.Contains(err.Error(), "in circles: the disk does not answer") {
					t.Errorf("Run = %v", err)
				}
			})
			b.check(tt.reboot, "")
		})
	}
}

// TestStoppedBeforeItActs, at any moment: no note, for there was no reboot.
func TestStoppedBeforeItActs(t *testing.T) {
	for _, at := range []time.Duration{0, time.Second, 5 * time.Minute, 10*time.Minute + 600*time.Millisecond} {
		b := newTrialBoot(t).answers(yes)
		synctest.Test(t, func(t *testing.T) {
			why := errors.New("the unit is stopped")
			ctx, cancel := context.WithCancelCause(t.Context())
			timer := time.AfterFunc(at, func() { cancel(why) })
			defer timer.Stop()
			if took, err := b.run(ctx); !errors.Is(err, why) || took != at {
				t.Errorf("Run = %v after %v, want it to end at %v", err, took, at)
			}
		})
		b.check(false, "")
	}
}

// TestStoppedWhileTheDiskHangsAtTheDeadline: to be stopped while asking is not to be unsure.
func TestStoppedWhileTheDiskHangsAtTheDeadline(t *testing.T) {
	b := newTrialBoot(t)
	b.put("proc/uptime", "601.00 0.00\n")
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		b.answers(func() (bool, error) { <-hang; return true, nil })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.d.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run = %v", err)
		}
		close(hang)
	})
	b.check(false, "")
}

// TestTheNoteReachesTheNextBoot, through an orderly shutdown too: what the deadline unit says is what is learnt.
func TestTheNoteReachesTheNextBoot(t *testing.T) {
	b := newTrialBoot(t).answers(yes)
	b.put("proc/uptime", "601.00 0.00\n")
	b.begun("boot-2", updater.B)
	synctest.Test(t, func(t *testing.T) {
		if err := b.d.Run(t.Context()); err == nil {
			t.Error("Run returned nil, and the machine still runs")
		}
	})
	b.shutDown(b.host())
	b.begun("boot-3", updater.A)
	b.want(updater.CauseDeadline, updater.B, sureWhy)
}

// TestACommandLineWithoutASlot: the note says what it can, and can be read.
func TestACommandLineWithoutASlot(t *testing.T) {
	b := newTrialBoot(t).answers(unsure)
	b.put("proc/cmdline", "quiet\n")
	b.put("proc/uptime", "601.00 0.00\n")
	synctest.Test(t, func(t *testing.T) {
		if err := b.d.Run(t.Context()); err == nil {
			t.Error("Run returned nil, and the machine still runs")
		}
	})
	b.begun("boot-3", updater.A)
	b.want(updater.CauseDeadline, updater.NoSlot, "nobody could tell within 10m0s whether this slot is on trial")
}

func TestDisarmFails(t *testing.T) {
	c := newComputer(t)
	h := c.start("boot-1", updater.A)
	c.put("run", "a file")
	if err := h.Disarm(); err == nil || !strings.Contains(err.Error(), "cannot disarm the deadline") {
		t.Errorf("error = %v", err)
	}
	c.remove("run")
	c.remove("proc/sys")
	if err := h.Disarm(); err == nil || !strings.Contains(err.Error(), "cannot tell which boot this is") {
		t.Errorf("error = %v", err)
	}
}

// TestDisarmKeepsASureNote: it is evidence, and Begin takes care of it.
func TestDisarmKeepsASureNote(t *testing.T) {
	c := newComputer(t)
	h := c.start("boot-2", updater.A)
	c.putState(noteFile, note)
	if err := h.Disarm(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.fs.ReadFile(noteFile); err != nil {
		t.Errorf("the note is gone: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(c.root, "run/evenkeel/disarmed")); err != nil || string(b) != "boot-2\n" {
		t.Errorf("disarmed = %q, %v", b, err)
	}
}
