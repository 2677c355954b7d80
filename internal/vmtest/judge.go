package vmtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/evenkeel-os/evenkeel/updater"
)

// judge asks the machine, switches it off, and looks at its disk: all must say what the scenario says, and every boot must
// be the twin's.
func (x *run) judge(ctx context.Context, twin []Boot) error {
	if err := x.judgeInside(ctx); err != nil {
		return err
	}
	if err := x.vm.Type(ctx, "systemctl poweroff"); err != nil {
		return err
	}
	if err := x.vm.Off(ctx); err != nil {
		return err
	}
	if err := x.judgeDisk(); err != nil {
		return fmt.Errorf("on the disk: %w", err)
	}
	trace, err := x.boots()
	if err != nil {
		return err
	}
	if !slices.Equal(trace, twin) {
		return fmt.Errorf("the boots differ from those of the machine in Go:\nhere:\n%sthere:\n%s", lines(trace), lines(twin))
	}
	return nil
}

func lines(trace []Boot) string {
	var b strings.Builder
	for _, t := range trace {
		fmt.Fprintf(&b, "  %s\n", t)
	}
	return b.String()
}

func (x *run) judgeInside(ctx context.Context) error {
	if x.Console != nil {
		if err := x.show(ctx); err != nil {
			return err
		}
	}
	end := x.s.End
	st, err := x.status(ctx)
	if err != nil {
		return err
	}
	if st.Running != end.Running || st.Default != end.Running || st.Version != end.Version || st.Phase != updater.Idle {
		return fmt.Errorf("it runs %s in slot %s, default %s, phase %s; want %s in slot %s", st.Version, st.Running, st.Default, st.Phase, end.Version, end.Running)
	}
	if err := sameVersions(st.Blocked, end.Blocked); err != nil {
		return err
	}
	history, status, err := x.vm.Run(ctx, "evenkeel history --json")
	if err != nil || status != 0 {
		return errors.Join(err, fmt.Errorf("evenkeel history: exit code %d: %s", status, history))
	}
	rest := history
	for _, text := range end.History {
		i := strings.Index(rest, text)
		if i < 0 {
			return fmt.Errorf("the history does not say %q (in the order of %q):\n%s", text, end.History, history)
		}
		rest = rest[i+len(text):]
	}
	return nil
}

// show lets the people who look at the console see what the operator sees.
func (x *run) show(ctx context.Context) error {
	for _, command := range []string{"evenkeel status", "evenkeel history"} {
		out, _, err := x.vm.Run(ctx, command)
		if err != nil {
			return err
		}
		x.Say("%s# %s\n%s", x.s.Name, command, out)
	}
	return nil
}

func sameVersions(blocked []updater.Blocked, want []string) error {
	var got []string
	for _, b := range blocked {
		got = append(got, b.Version)
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("releases %q are blocked, want %q", got, want)
	}
	return nil
}

// judgeDisk looks at a disk whose machine was switched off.
func (x *run) judgeDisk() error {
	st, err := x.disk.State()
	if err != nil {
		return err
	}
	if st.Default != x.s.End.Running || st.Trial.Slot != updater.NoSlot {
		return fmt.Errorf("the boot loader's variables say %+v", st)
	}
	rec, err := x.disk.Fsck()
	if err != nil {
		return err
	}
	if rec.Phase != updater.Idle || rec.Txn != nil {
		return fmt.Errorf("the record says %s: %+v", rec.Phase, rec.Txn)
	}
	if err := sameVersions(rec.Blocked, x.s.End.Blocked); err != nil {
		return err
	}
	if text, err := rec.Encode(); err != nil || !strings.Contains(string(text), x.s.End.Record) {
		return errors.Join(err, fmt.Errorf("the record does not hold %s: %s", x.s.End.Record, text))
	}
	for s, version := range x.s.End.Holds {
		if err := x.holds(s, version); err != nil {
			return err
		}
	}
	return nil
}

func (x *run) holds(s updater.Slot, version string) error {
	for _, r := range x.releases {
		if r.Version == version {
			rel, err := ReadRelease(x.repo, r)
			if err != nil {
				return err
			}
			return x.disk.Holds(s, rel)
		}
	}
	return fmt.Errorf("no release %s was ever offered", version)
}
