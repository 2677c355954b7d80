package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/evenkeel-os/evenkeel/internal/control"
	"github.com/evenkeel-os/evenkeel/updater"
)

func (a *app) updateCommand() *cobra.Command {
	in := updater.Intent{Verb: updater.Update}
	c := &cobra.Command{
		Use: "update", Short: "install a release and reboot into its trial", Args: cobra.NoArgs,
		Long: `Installs the newest release that may be installed, or the one that --version names, into the slot that does not run, and
reboots into its trial. After the reboot the agent confirms it or goes back. With --no-reboot the trial comes at the next reboot.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := versionFlag(c, in.Version); err != nil {
				return err
			}
			return a.operate(c.Context(), in, true)
		},
	}
	c.Flags().StringVar(&in.Version, "version", "", "this `release` and no other")
	c.Flags().BoolVar(&in.NoReboot, "no-reboot", false, "arm the trial, and let the next reboot start it")
	return c
}

// versionFlag refuses --version without one: an empty variable in a script must not mean the newest release.
func versionFlag(c *cobra.Command, version string) error {
	if !c.Flags().Changed("version") {
		return nil
	}
	return named(version)
}

func named(version string) error {
	if strings.TrimSpace(version) == "" {
		return failure(exitUsage, "the version is empty: name a release, or leave it out")
	}
	return nil
}

func (a *app) rollbackCommand() *cobra.Command {
	in := updater.Intent{Verb: updater.Rollback}
	c := &cobra.Command{
		Use: "rollback", Short: "go back to the release in the other slot", Args: cobra.NoArgs,
		Long: `Reboots into the other slot, on trial, if what it holds was confirmed here once and is still intact. The release that is left is
blocked until "evenkeel retry". Nothing is written to a slot. During a trial it ends the trial.`,
		RunE: func(c *cobra.Command, _ []string) error { return a.operate(c.Context(), in, true) },
	}
	c.Flags().BoolVar(&in.NoReboot, "no-reboot", false, "arm it, and let the next reboot start it")
	c.Flags().BoolVar(&in.Force, "force", false, "also to a release that was withdrawn")
	return c
}

func (a *app) confirmCommand() *cobra.Command {
	in := updater.Intent{Verb: updater.Confirm}
	c := &cobra.Command{
		Use: "confirm", Short: "run the health checks and keep the running trial if they pass", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.operate(c.Context(), in, true) },
	}
	c.Flags().BoolVar(&in.Force, "force", false, "keep it whatever the health checks say")
	return c
}

func (a *app) cancelCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cancel", Short: "call off the update that is under way, at any moment", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.operate(c.Context(), updater.Intent{Verb: updater.Cancel}, true)
		},
	}
}

func (a *app) retryCommand() *cobra.Command {
	in := updater.Intent{Verb: updater.Retry}
	c := &cobra.Command{
		Use: "retry [VERSION]", Short: "allow blocked releases again, or one of them", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			in.Version = strings.Join(args, "")
			if len(args) > 0 {
				if err := named(in.Version); err != nil {
					return err
				}
			}
			return a.operate(c.Context(), in, false)
		},
	}
	c.Flags().BoolVar(&in.Force, "force", false, "also trust the boot loader again to count down a trial")
	return c
}

func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "look for releases now", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.operate(c.Context(), updater.Intent{Verb: updater.CheckNow}, false)
		},
	}
}

// operate has an intent carried out: by the agent that runs, or alone where none does. With follow it goes along until
// there is nothing more to do in this boot.
func (a *app) operate(ctx context.Context, in updater.Intent, follow bool) error {
	loaded, err := a.config()
	if err != nil {
		return err
	}
	f := &follower{app: a, intent: in, meter: newMeter(a.stderr, a.terminal), follow: follow}
	c, err := control.Dial(ctx, loaded.Config.Host.RunDir)
	switch {
	case err == nil:
		return f.withAgent(ctx, c)
	case !errors.Is(err, control.ErrNoAgent):
		return err
	}
	m, err := a.machine(loaded.Config, func(s string) { a.note("%s", s) })
	if err != nil {
		return err
	}
	return f.alone(ctx, m)
}

// withAgent hands the intent over. It watches from before, so that it misses nothing that comes of it.
func (f *follower) withAgent(ctx context.Context, c *control.Client) error {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	messages := make(chan control.Message, 16)
	ended, err := c.Watch(watching, func(m control.Message) {
		select {
		case messages <- m:
		case <-watching.Done():
		}
	})
	if err != nil {
		return err
	}
	if err := f.submit(ctx, c, messages); err != nil {
		return err
	}
	for f.goesOn() {
		select {
		case m := <-messages:
			f.hear(m)
		case err := <-ended:
			for len(messages) > 0 { // all that will ever come
				f.hear(<-messages)
			}
			if !f.goesOn() {
				continue
			}
			if err == nil {
				return failure(exitFailed, "you left; the agent goes on (\"evenkeel cancel\" stops it)")
			}
			if !f.rebootFollows() {
				return failure(exitFailed, "the agent ended, or restarts: see \"evenkeel status\"")
			}
			f.rest = &control.Step{Do: updater.DoReboot, Why: "the machine reboots"}
		}
	}
	var st status
	if err := c.Status(ctx, &st); err != nil && !f.rebooting() {
		return err
	}
	return f.conclude(st)
}

// submit hands the intent over. The agent may be in the middle of something long before it answers: that is told meanwhile,
// and taken note of once it is known what the answer is.
func (f *follower) submit(ctx context.Context, c *control.Client, messages <-chan control.Message) error {
	answered := make(chan error, 1)
	var answer updater.Answer
	go func() {
		var err error
		answer, err = c.Submit(ctx, f.intent)
		answered <- err
	}()
	var told []control.Message
	for {
		select {
		case m := <-messages:
			f.tell(m)
			if m.Progress == nil {
				told = append(told, m)
			}
		case err := <-answered:
			f.meter.end()
			f.answer = answer
			for _, m := range told {
				if f.goesOn() {
					f.take(m)
				}
			}
			return err
		}
	}
}

// alone does what the agent would do, under its lock.
func (f *follower) alone(ctx context.Context, m *machine) error {
	lock, err := m.lock()
	if err != nil {
		return err
	}
	defer lock.Unlock() //nolint:errcheck // the process ends
	keep := m.remember(func(s string) { f.app.note("%s", s) })
	agent := m.agent(false, func(e updater.Event) {
		keep(e)
		f.hear(control.Message{Event: &e})
	})
	m.filler.OnProgress = throttle(f.app.now, func(p updater.Progress) { f.hear(control.Message{Progress: &p}) })
	answer := agent.Submit(f.intent)
	for f.goesOn() {
		s, err := agent.Step(ctx)
		f.hear(control.Message{Step: stepOf(s, err)})
		select {
		case f.answer = <-answer:
		default:
		}
		if err != nil && !survivable(s.Do) {
			if ctx.Err() != nil {
				return failure(exitFailed, "stopped: \"evenkeel %s\" goes on from here, and \"evenkeel cancel\" calls it off", f.intent.Verb)
			}
			return plainly(err)
		}
	}
	st, err := agent.Status(ctx)
	if err != nil && !f.rebooting() {
		return err
	}
	return f.conclude(m.status(st, false))
}

// survivable steps may fail without an end to what a person asked for.
func survivable(d updater.Do) bool {
	return d == updater.DoSettle || d == updater.DoBaseline || d == updater.DoLeave || d == updater.DoRefresh
}
