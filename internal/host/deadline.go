package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/evenkeel-os/evenkeel/internal/durable"
	"github.com/evenkeel-os/evenkeel/updater"
)

// disarmFile, in the run directory, holds the id of the boot in which the deadline unit has nothing to do.
const disarmFile = "disarmed"

// Disarm tells the deadline unit that this boot is not on trial, or not any more. It holds until the next boot.
func (h *Host) Disarm() error {
	id, err := BootID(h.o.Root)
	if err != nil {
		return err
	}
	path := filepath.Join(h.o.RunDir, disarmFile)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("cannot disarm the deadline: %w", err)
	}
	temp := path + ".new"
	err = os.WriteFile(temp, []byte(id+"\n"), 0o644)
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return fmt.Errorf("cannot disarm the deadline: %w", err)
	}
	// From here on somebody could tell who is on trial: the next time that nobody can is a new one.
	if n, err := readNote(h.o.FS, h.o.StateDir); err == nil && n.Unsure {
		return durable.Remove(h.o.FS, notePath(h.o.StateDir))
	}
	return nil
}

func disarmed(run, boot string) bool {
	b, err := os.ReadFile(filepath.Join(run, disarmFile))
	return err == nil && boot != "" && strings.TrimSpace(string(b)) == boot
}

// Deadline is the unit that leaves a slot on trial in which the agent never starts, or hangs. It is a process of its own,
// started early, that needs nothing of the agent, and nothing to be mounted.
//
//	not on trial, or disarmed                      → it ends
//	uptime reaches After, on trial, not disarmed   → note, reboot
//	at After nobody could tell whether on trial    → note, reboot, but not an eighth time in a row, nor without the note
//
// The last line is for a slot that cannot read the boot loader's files. A trial of it ends when its tries are spent, of
// which no boot loader gives more than seven. Without the note, and the end, it would reboot for ever where the default
// slot is in that state, and a person may still reach it.
type Deadline struct {
	Root     string
	StateDir string     // state directory
	RunDir   string     // directory of the disarm file, which does not outlive the boot
	FS       durable.FS // that StateDir is on; nil: the real one
	// After is the uptime at which it acts. It must leave the agent a minute after its own deadline to revert by itself,
	// which says more about why.
	After time.Duration
	// OnTrial says whether the running slot must be left unless it is confirmed (updater.OnTrial). An error means that it
	// cannot tell; it is asked again, and what it said before stands. It may hang: it is not waited for.
	OnTrial func() (bool, error)
	// MayWrite says why the state directory must not be written: nothing is mounted there. May be nil.
	MayWrite func() error
	Rebooter *Rebooter
	Log      func(string)

	answer chan verdict // of a question that OnTrial has not answered yet
	trial  bool         // what OnTrial said last
}

type verdict struct {
	trial bool
	err   error
}

const (
	deadlineLook = 10 * time.Second // how often it looks again
	diskTime     = 10 * time.Second // how long a dying disk may keep it
)

// Run returns nil when there is nothing to do in this boot, and otherwise when the machine goes down, or ctx ends.
func (d *Deadline) Run(ctx context.Context) error {
	if d.FS == nil {
		d.FS = durable.OS{}
	}
	boot, err := BootID(d.Root)
	if err != nil {
		d.Log(err.Error()) // then nothing can disarm it: the deadline stands
	}
	for {
		v := d.ask(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case disarmed(d.RunDir, boot):
			d.Log("disarmed: the agent has taken over")
			return nil
		case v.err == nil && !v.trial:
			d.Log("this slot is not on trial")
			return nil
		}
		up, err := Uptime(d.Root)
		switch {
		case err != nil:
			return err
		case up >= d.After:
			return d.act(ctx, Note{Slot: Slot(d.Root), Boot: boot}, v.err)
		}
		if err := pause(ctx, min(deadlineLook, d.After-up)); err != nil {
			return err
		}
	}
}

// ask asks OnTrial. A disk that was read once and is dead now does not make a slot less on trial.
func (d *Deadline) ask(ctx context.Context) verdict {
	v := d.askNow(ctx)
	if v.err != nil && d.trial {
		d.Log("still taken to be on trial: " + v.err.Error())
		return verdict{trial: true}
	}
	d.trial = v.err == nil && v.trial
	return v
}

// askNow asks one question at a time: a disk that does not answer would otherwise collect them.
func (d *Deadline) askNow(ctx context.Context) verdict {
	if d.answer == nil {
		answer := make(chan verdict, 1)
		go func() {
			trial, err := d.OnTrial()
			answer <- verdict{trial, err}
		}()
		d.answer = answer
	}
	t := time.NewTimer(diskTime)
	defer t.Stop()
	select {
	case v := <-d.answer:
		d.answer = nil
		return v
	case <-t.C:
	case <-ctx.Done():
	}
	return verdict{err: errNoAnswer}
}

var errNoAnswer = errors.New("the disk does not answer")

// act notes why, and reboots.
func (d *Deadline) act(ctx context.Context, n Note, unsure error) error {
	slot := "this slot"
	if n.Slot != updater.NoSlot {
		slot = "slot " + string(n.Slot)
	}
	n.Why = fmt.Sprintf("the agent did not confirm %s within %v of its start", slot, d.After)
	if unsure != nil {
		n.Unsure = true
		n.Why = fmt.Sprintf("nobody could tell within %v whether %s is on trial: %v", d.After, slot, unsure)
	}
	err, late := within(ctx, diskTime, func() error { return d.write(n) })
	if late {
		err = errNoAnswer
	}
	if err != nil && n.Unsure {
		return fmt.Errorf("%s; it does not reboot, for that might go round in circles: %w", n.Why, err)
	}
	if err != nil {
		d.Log("cannot note why: " + err.Error())
	}
	d.Log(n.Why + ": rebooting")
	return d.Rebooter.Insist(ctx, "")
}

// maxUnsure is the most boots that a trial may have: by then a loader that counts them has left it.
const maxUnsure = 7

// write leaves the note. One that is unsure counts those before it.
func (d *Deadline) write(n Note) error {
	if d.MayWrite != nil {
		if err := d.MayWrite(); err != nil {
			return err
		}
	}
	if n.Unsure {
		n.Times = 1
		if old, err := readNote(d.FS, d.StateDir); err == nil && old.Unsure {
			n.Times = max(old.Times, 1) + 1
		}
		if n.Times > maxUnsure {
			return fmt.Errorf("%d reboots did not help before", maxUnsure)
		}
	}
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return durable.WriteFile(d.FS, notePath(d.StateDir), data)
}
