package bootloader

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/evenkeel-os/evenkeel/bootloader/grubenv"
	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

// Options say where GRUB's files are, and which script reads them.
type Options struct {
	// Grubenv is the path of the environment block, e.g. "/efi/evenkeel/grubenv".
	Grubenv string
	// Entries is the directory that holds a/boot.cfg and b/boot.cfg, e.g. "/efi/evenkeel". Empty: the script has boot
	// entries of its own, as RAUC's has, and boot specs are not used.
	Entries string
	// Script is the script that this machine's GRUB runs.
	Script Script
	// NameA and NameB are what the variables call the slots. Empty: "A" and "B", which are the only names that our own
	// script knows.
	NameA, NameB string
	// PartUUID returns the PARTUUID of the partition of a role in a slot, lower case with hyphens. It may be nil where
	// boot specs use none.
	PartUUID func(updater.Slot, release.Role) (string, error)
	// Files is where all this lies. Nil: OSFiles.
	Files Files
}

// GRUB is the boot loader of machines that start from an environment block. It implements updater.Bootloader. It holds
// nothing open and remembers nothing.
type GRUB struct {
	o Options
	n names
}

var _ updater.Bootloader = (*GRUB)(nil)

// NewGRUB checks the options by themselves; it does not look at the files.
func NewGRUB(o Options) (*GRUB, error) {
	n := names{cmpOr(o.NameA, "A"), cmpOr(o.NameB, "B")}
	switch {
	case o.Grubenv == "":
		return nil, errors.New("cannot use GRUB without the path of its environment block, usually /efi/evenkeel/grubenv")
	case o.Script != ScriptEvenkeel && o.Script != ScriptRAUC:
		return nil, fmt.Errorf("cannot use GRUB script %q: want %q or %q", o.Script, ScriptEvenkeel, ScriptRAUC)
	case o.Script == ScriptEvenkeel && (n != names{"A", "B"} || o.Entries == ""):
		return nil, errors.New("cannot use our GRUB script with these options: its slots are named A and B, and it needs a directory of boot entries")
	}
	if err := n.check(); err != nil {
		return nil, err
	}
	if o.Files == nil {
		o.Files = OSFiles{}
	}
	return &GRUB{o: o, n: n}, nil
}

// check refuses names that cannot be parts of GRUB's variable names or words of ORDER.
func (n names) check() error {
	for _, name := range []string{n.a, n.b} {
		for _, c := range []byte(name) {
			if !isWord(c) {
				return fmt.Errorf("cannot use slot name %q: want letters, digits and _ only", name)
			}
		}
		if len(name) > 32 {
			return fmt.Errorf("cannot use slot name %q: want at most 32 characters", name)
		}
	}
	if n.a == n.b {
		return fmt.Errorf("cannot use slot name %q for both slots", n.a)
	}
	return nil
}

func isWord(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// Caps implements updater.Bootloader.
func (g *GRUB) Caps() updater.Caps {
	if g.o.Script == ScriptRAUC {
		return updater.Caps{MaxTries: 1, CountsDefault: true, AtomicWrite: true}
	}
	return updater.Caps{MaxTries: maxTries, AtomicWrite: true, SafeWhenFailing: true, AlwaysBoots: true, NotesLoadError: true}
}

// State implements updater.Bootloader. A block that GRUB could not read has no default slot and is no error; nor is one
// that is gone, as fsck leaves it. Where the boot entries are gone too it is one, for then it is more likely that the boot
// partition is not mounted.
func (g *GRUB) State() (updater.BootState, error) {
	e, err := g.read()
	if err != nil {
		return updater.BootState{}, fmt.Errorf("cannot read the boot loader's state: %w", err)
	}
	return e.vars.state(g.n, g.o.Script), nil
}

// Disable implements updater.Bootloader. The boot entry goes first: when this returns, and wherever it is cut off, a slot
// that the variables call disabled has none, so that nothing starts it should the variables be lost.
func (g *GRUB) Disable(s updater.Slot) error {
	c, err := g.plan(s, func(v *vars) error {
		switch v.fallback(g.n) {
		case s:
			return errors.New("it is the default slot")
		case updater.NoSlot:
			return errors.New("there is no other slot that could be started: confirm the running one first")
		}
		v.remove(g.n, s)
		v.ok[s], v.tried[s] = false, false
		if v.trial == s {
			v.endTrial()
		}
		return nil
	})
	if err == nil {
		err = g.retireEntry(s)
	}
	if err == nil {
		err = g.apply(c)
	}
	if err != nil {
		return fmt.Errorf("cannot disable slot %s: %w", s, err)
	}
	return nil
}

// Try implements updater.Bootloader. The zero BootSpec keeps the boot entry that is there.
func (g *GRUB) Try(s updater.Slot, spec release.BootSpec, tries int) (updater.Reboot, error) {
	fail := func(err error) (updater.Reboot, error) {
		return updater.Reboot{}, fmt.Errorf("cannot arm a trial of slot %s: %w", s, err)
	}
	if limit := g.Caps().MaxTries; tries < 1 || tries > limit {
		return fail(fmt.Errorf("%d tries were asked for, want 1 to %d", tries, limit))
	}
	st, err := g.State()
	if err != nil {
		return fail(err)
	}
	switch {
	case st.Default == s:
		return fail(errors.New("it is the default slot"))
	case st.Default == updater.NoSlot:
		return fail(errors.New("there is no default slot to come back to: confirm the running one first"))
	}
	if g.o.Entries != "" {
		if err := g.writeEntry(s, spec, st.Enabled(s)); err != nil {
			return fail(err)
		}
	}
	err = g.change(s, func(v *vars) error {
		v.toFront(g.n, s)
		v.ok[s], v.tried[s] = true, false
		v.trial, v.tries, v.failed = s, tries, updater.NoSlot
		return nil
	})
	if err != nil {
		return fail(err)
	}
	return updater.Reboot{}, nil
}

// Confirm implements updater.Bootloader. It is the one verb that also works on a damaged block, which it replaces. It
// refuses a slot without a whole boot entry, from which that slot cannot have been started.
func (g *GRUB) Confirm(s updater.Slot) error {
	err := g.restoreEntry(s)
	if err == nil {
		err = g.retireDisabled(s.Other())
	}
	if err == nil {
		err = g.repair()
	}
	if err == nil {
		err = g.change(s, func(v *vars) error {
			v.toFront(g.n, s)
			v.ok[s], v.tried[s] = true, false
			v.endTrial()
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("cannot make slot %s the default: %w", s, err)
	}
	return nil
}

// Settle implements updater.Bootloader.
func (g *GRUB) Settle() error {
	if !g.Caps().CountsDefault {
		return nil
	}
	e, err := g.read()
	if err == nil && e.vars.tried[e.vars.fallback(g.n)] {
		err = g.change(e.vars.fallback(g.n), func(v *vars) error {
			v.tried[v.fallback(g.n)] = false
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("cannot restore the default slot's counter: %w", err)
	}
	return nil
}

// env is the environment block as it was read.
type env struct {
	raw    []byte
	block  *grubenv.Block
	vars   vars
	damage error
}

var errMissing = errors.New("the file is missing, and the boot entries beside it are there")

func (g *GRUB) read() (env, error) {
	raw, err := g.o.Files.Read(g.o.Grubenv)
	missing := errors.Is(err, fs.ErrNotExist) && g.hasEntry()
	if err != nil && !missing {
		return env{}, err
	}
	e := env{raw: raw}
	if e.block, e.damage = grubenv.Parse(raw); missing {
		e.damage = errMissing
	}
	if e.damage != nil {
		e.block = &grubenv.Block{}
		e.vars = decode(e.block, g.n, ScriptEvenkeel) // no presets: nothing is known
		return e, nil
	}
	e.vars = decode(e.block, g.n, g.o.Script)
	return e, nil
}

// leadSize is where foreign variables begin. What lies before it has less than 300 bytes with the longest names.
const leadSize = 384

// change makes one logical change of the variables, in one write of one sector.
func (g *GRUB) change(s updater.Slot, f func(*vars) error) error {
	c, err := g.plan(s, f)
	if err != nil {
		return err
	}
	return g.apply(c)
}

// blockChange is the environment block as it was read, the same values in our order, and the new values.
type blockChange struct{ raw, before, after []byte }

// plan finds everything that can be wrong with a change without writing anything.
func (g *GRUB) plan(s updater.Slot, f func(*vars) error) (c blockChange, err error) {
	if s != updater.A && s != updater.B {
		return c, fmt.Errorf("there is no slot %q", s)
	}
	e, err := g.read()
	if err != nil {
		return c, err
	}
	if e.damage != nil {
		return c, fmt.Errorf("%s is damaged: %w: confirm the running slot to repair it", g.o.Grubenv, e.damage)
	}
	c.raw = e.raw
	if c.before, err = g.format(e.block, e.vars); err != nil {
		return c, err
	}
	if err := f(&e.vars); err != nil {
		return c, err
	}
	c.after, err = g.format(e.block, e.vars)
	return c, err
}

func (g *GRUB) apply(c blockChange) error {
	if bytes.Equal(c.after, c.raw) {
		return nil
	}
	if !bytes.Equal(c.before[grubenv.Sector:], c.raw[grubenv.Sector:]) {
		if err := g.layOut(c.before); err != nil {
			return err
		}
	}
	if err := g.o.Files.Write(g.o.Grubenv, 0, c.after[:grubenv.Sector]); err != nil {
		return err
	}
	return g.verify(g.o.Grubenv, c.after)
}

// layOut brings a block that somebody else laid out into our order, with the values that it has. The first sector goes
// first: from then on it holds all of our variables, and what the old second sector says of them is the same.
func (g *GRUB) layOut(block []byte) error {
	return errors.Join(
		g.o.Files.Write(g.o.Grubenv, 0, block[:grubenv.Sector]),
		g.o.Files.Write(g.o.Grubenv, grubenv.Sector, block[grubenv.Sector:]),
	)
}

func (g *GRUB) format(b *grubenv.Block, v vars) ([]byte, error) {
	if err := v.encode(b, g.n); err != nil {
		return nil, err
	}
	return b.FormatLead(g.n.lead(), leadSize)
}

// repair makes the block one that change can work on. Whatever it held cannot be trusted.
func (g *GRUB) repair() error {
	e, err := g.read()
	if err != nil || e.damage == nil {
		return err
	}
	fresh, err := g.format(e.block, e.vars)
	if err != nil {
		return err
	}
	return g.o.Files.Make(g.o.Grubenv, fresh)
}

func (g *GRUB) verify(path string, want []byte) error {
	got, err := g.o.Files.Read(path)
	if err != nil {
		return fmt.Errorf("cannot read back: %w", err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s reads back differently from what was written: the medium is failing", path)
	}
	return nil
}

func (g *GRUB) entryPath(s updater.Slot) string {
	return filepath.Join(g.o.Entries, string(s), "boot.cfg")
}

// InitialEnv returns the environment block that a new machine starts with: slot s confirmed, the other one disabled.
func InitialEnv(s updater.Slot) ([]byte, error) {
	n := names{"A", "B"}
	v := vars{ok: map[updater.Slot]bool{s: true}, order: []string{n.of(s)}}
	b := &grubenv.Block{}
	if err := v.encode(b, n); err != nil {
		return nil, err
	}
	return b.FormatLead(n.lead(), leadSize)
}
