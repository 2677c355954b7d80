package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evenkeel-os/evenkeel/cmd/internal/cli"
	"github.com/evenkeel-os/evenkeel/internal/config"
	"github.com/evenkeel-os/evenkeel/internal/durable"
)

// Exit codes. They are documented in the help, and stable.
const (
	exitOK        = 0
	exitFailed    = 1
	exitUsage     = 2
	exitRefused   = 3
	exitUntrusted = 4
	exitLocked    = 5
	exitConfig    = 6
	exitWaiting   = 7
)

const exitHelp = `Exit codes:
  0  done
  1  it failed: the disk, the network, a file that cannot be read, ...
  2  wrong usage
  3  refused: nothing to roll back to, the release is blocked, ...
  4  the repository, or what it serves, is not trusted
  5  another evenkeel is at work on this host, and is no agent that takes commands
  6  the configuration is wrong
  7  not done yet: something has to open first (a hold, a window, an operator)`

// app is the command with everything it takes from outside.
type app struct {
	stdout, stderr io.Writer
	lookup         func(string) (string, bool) // environment
	now            func() time.Time
	version        string
	terminal       bool // stderr is one
	root           bool // it may do everything

	file    string   // --config
	sets    []string // --set
	json    bool
	started bool // the arguments made sense
}

// exitError is an error with an exit code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func failure(code int, format string, args ...any) error {
	return &exitError{code, fmt.Errorf(format, args...)}
}

// run executes one command and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.command()
	root.SetArgs(args)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	code := a.code(err)
	a.json = cli.WantsJSON(a.json, a.started, args)
	a.complain(err, code)
	return code
}

func (a *app) complain(err error, code int) {
	fmt.Fprintf(a.stderr, "evenkeel: %s\n", err)
	if hint := a.hint(err, code); hint != "" {
		fmt.Fprintf(a.stderr, "evenkeel: %s\n", hint)
	}
	if !a.json {
		return
	}
	var r *reported
	if errors.As(err, &r) {
		_ = a.print(r.out) // it says more than the error
		return
	}
	_ = a.print(map[string]any{"error": err.Error(), "exit_code": code})
}

// hint says what to do about err, where err does not say it itself.
func (a *app) hint(err error, code int) string {
	switch {
	case !a.started:
		return "see evenkeel help"
	case a.denied(err):
		return "it takes root: run it with sudo"
	case code == exitConfig && errors.Is(err, fs.ErrNotExist):
		return "write one (docs/configuration.md), or name another with --config"
	}
	return ""
}

// denied: root could have done it. A configuration that may not be read is not a wrong one.
func (a *app) denied(err error) bool {
	var conf *config.Error
	return !a.root && (errors.Is(err, fs.ErrPermission) || errors.As(err, &conf) && strings.Contains(err.Error(), "permission denied"))
}

func (a *app) code(err error) int {
	var own *exitError
	var held *durable.HeldError
	var conf *config.Error
	switch {
	case !a.started:
		return exitUsage
	case errors.As(err, &own):
		return own.code
	case a.denied(err):
		return exitFailed
	case errors.As(err, &held):
		return exitLocked
	case errors.As(err, &conf):
		return exitConfig
	case untrusted(err):
		return exitUntrusted
	}
	return exitFailed
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "evenkeel",
		Short: "atomic operating system updates with rollback",
		Long: `Evenkeel updates the operating system of this host. A signed image is written to the slot that does not run, verified
there, and tried once; only if the health checks pass does it stay. Everything else leads back to what ran before.

  evenkeel status       what runs, what lies in the other slot, what happens next
  evenkeel check        look for releases now
  evenkeel update       install the newest release and reboot into its trial
  evenkeel rollback     go back to what is in the other slot
  evenkeel why          why nothing happens, or why it fell back

` + exitHelp,
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRun: func(*cobra.Command, []string) { a.started = true },
	}
	f := root.PersistentFlags()
	file, _ := a.lookup("EVENKEEL_CONFIG")
	if file == "" {
		file = config.DefaultFile
	}
	f.StringVar(&a.file, "config", file, "configuration `file` (environment: EVENKEEL_CONFIG)")
	f.StringArrayVar(&a.sets, "set", nil, "override a `KEY=VALUE` of the configuration; repeatable")
	f.BoolVar(&a.json, "json", false, "print the result as JSON")
	root.AddCommand(
		a.agentCommand(), a.statusCommand(), a.checkCommand(), a.planCommand(), a.updateCommand(), a.rollbackCommand(),
		a.confirmCommand(), a.cancelCommand(), a.retryCommand(), a.historyCommand(), a.slotsCommand(), a.whyCommand(),
		a.versionCommand(), a.configCommand(), a.bootCommand(),
	)
	cli.Tidy(root)
	return root
}

// sources says where the configuration comes from.
func (a *app) sources() (config.Sources, error) {
	s := config.Sources{File: a.file, Env: a.lookup}
	for _, set := range a.sets {
		key, value, ok := strings.Cut(set, "=")
		if !ok || key == "" {
			return s, failure(exitUsage, "--set %s: write KEY=VALUE, as in --set update.mode=off", set)
		}
		s.Flags = append(s.Flags, config.Flag{Name: "--set " + set, Key: key, Value: value})
	}
	return s, nil
}

// config reads the configuration.
func (a *app) config() (config.Loaded, error) {
	s, err := a.sources()
	if err != nil {
		return config.Loaded{}, err
	}
	return config.Load(s)
}

// say prints a line of the result for people; with --json, only the JSON is printed.
func (a *app) say(format string, args ...any) {
	if !a.json {
		fmt.Fprintln(a.stdout, cli.Wrap(fmt.Sprintf(format, args...)))
	}
}

// note tells a person what is going on. It never goes where results go.
func (a *app) note(format string, args ...any) { fmt.Fprintf(a.stderr, format+"\n", args...) }

// result prints v as JSON if that was asked for.
func (a *app) result(v any) error {
	if !a.json {
		return nil
	}
	return a.print(v)
}

func (a *app) print(v any) error { return cli.JSON(a.stdout, v) }

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "say which version this is", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			a.say("evenkeel %s", a.version)
			return a.result(map[string]string{"version": a.version})
		},
	}
}
