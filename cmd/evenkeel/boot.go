package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/evenkeel-os/evenkeel/internal/config"
	"github.com/evenkeel-os/evenkeel/internal/host"
	"github.com/evenkeel-os/evenkeel/updater"
)

// grace is how much later than the agent the deadline unit acts: an agent that lives goes back by itself, and says more
// about why.
const grace = time.Minute

// bootCommand holds what units of the system call. None of it needs an agent, a repository, or a right configuration: a
// trial with a broken one must still end.
func (a *app) bootCommand() *cobra.Command {
	c := &cobra.Command{Use: "boot", Short: "what the units of the system call", Hidden: true}
	add := func(use, short string, run func(context.Context, config.Config, logf) error) {
		c.AddCommand(&cobra.Command{
			Use: use, Short: short, Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				warn := func(s string) { a.note("evenkeel: %s", s) }
				return run(c.Context(), a.configOrDefaults(warn), warn)
			},
		})
	}
	add("settle", "restore the boot counter of the default slot, and note that this boot runs", a.settle)
	add("end", "note that this boot ends in order", a.end)
	add("deadline", "reboot when the deadline passes on a trial", a.deadline)
	return c
}

// configOrDefaults returns the best configuration there is: the right one, else what the image says without the overrides on
// the state partition, else the defaults, which find the slots of most machines.
func (a *app) configOrDefaults(warn logf) config.Config {
	l, err := a.config()
	if err == nil {
		return l.Config
	}
	warn(err.Error())
	if l, err = config.Load(config.Sources{File: a.file, NoDir: true, Env: a.lookup}); err == nil {
		return l.Config
	}
	d := config.Sources{File: os.DevNull, NoDir: true, Env: a.lookup}
	for key, value := range map[string]string{"product": "unknown", "compatible": "unknown", "repository.urls": "file:///unknown"} {
		d.Flags = append(d.Flags, config.Flag{Name: "unknown", Key: key, Value: value})
	}
	if l, err = config.Load(d); err != nil {
		warn(err.Error())
	}
	return l.Config
}

// settle is the first thing of ours in each boot. The two halves do not wait for each other's success.
func (a *app) settle(_ context.Context, c config.Config, warn logf) error {
	m, err := a.bareMachine(c, warn)
	if err != nil {
		return err
	}
	begun := m.slots.MayKeepState()
	if begun == nil {
		begun = m.host.Begin()
	}
	return errors.Join(begun, m.settleLoader())
}

func (m *machine) settleLoader() error {
	if !m.loader.Caps().CountsDefault {
		return nil
	}
	running, err := m.slots.Running()
	if err != nil {
		return err
	}
	st, err := m.loader.State()
	if err != nil {
		return err
	}
	if st.Default != running {
		return nil
	}
	return m.loader.Settle()
}

func (a *app) end(ctx context.Context, c config.Config, warn logf) error {
	m, err := a.bareMachine(c, warn)
	if err != nil {
		return err
	}
	if err := m.slots.MayKeepState(); err != nil {
		return err
	}
	return m.host.End(ctx)
}

func (a *app) deadline(ctx context.Context, c config.Config, warn logf) error {
	m, err := a.bareMachine(c, warn)
	if err != nil {
		return err
	}
	d := host.Deadline{
		Root: c.Host.Root, StateDir: c.State.Dir, RunDir: c.Host.RunDir, After: c.Health.Deadline + grace,
		OnTrial: m.onTrial, MayWrite: m.slots.MayKeepState, Log: warn,
		Rebooter: &host.Rebooter{Root: c.Host.Root, Command: c.Host.Reboot, OnError: func(err error) { warn(err.Error()) }},
	}
	if err := d.Run(ctx); ctx.Err() == nil {
		return err
	}
	return nil // it was stopped, which is no failure of its unit
}

// onTrial reports whether the running slot must be left unless it is confirmed. It asks the devices alone, and no agent.
func (m *machine) onTrial() (bool, error) {
	running, err := m.slots.Running()
	if err != nil {
		return false, err
	}
	st, err := m.loader.State()
	if err != nil {
		return false, fmt.Errorf("cannot read the boot loader's state: %w", err)
	}
	b, err := m.store.Load()
	if err != nil {
		return false, fmt.Errorf("cannot load the record: %w", err)
	}
	r, err := updater.DecodeRecord(b, updater.Schema)
	if err != nil {
		r = updater.Record{}
	}
	return updater.OnTrial(r, running, st), nil
}
