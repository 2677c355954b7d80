package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evenkeel-os/evenkeel/cmd/internal/cli"
	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/internal/durable"
	"github.com/evenkeel-os/evenkeel/tuf/repo"
)

// Exit codes. They are documented in the help, and stable.
const (
	exitOK      = 0
	exitFailed  = 1
	exitUsage   = 2
	exitInvalid = 3
	exitSigning = 4
	exitKey     = 5
	exitLocked  = 6
)

const exitHelp = `Exit codes:
  0  done
  1  it failed: the disk, a file that cannot be read, ...
  2  wrong usage, or something that makes no sense (a serial that does not grow, ...)
  3  the repository is not valid, or a host would refuse it
  4  signatures are outstanding
  5  a key or a passphrase was refused
  6  another publisher is at work`

// app is the command with everything it takes from outside.
type app struct {
	stdout, stderr io.Writer
	env            func(string) string
	now            func() time.Time
	ask            asker
	work           repo.WorkFactor // 0: repo.DefaultWorkFactor

	repoDir, keysDir string
	json             bool
	lifetimes        map[string]string
	level            int  // of compression; 0: the best
	started          bool // the arguments made sense
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
	fmt.Fprintf(a.stderr, "evenkeel-repo: %s\n", err)
	if code == exitUsage && !a.started {
		fmt.Fprintln(a.stderr, "evenkeel-repo: see evenkeel-repo help")
	}
	if _, done := err.(reported); cli.WantsJSON(a.json, a.started, args) && !done { //nolint:errorlint // it is never wrapped
		_ = a.print(map[string]any{"error": err.Error(), "exit_code": code})
	}
	return code
}

// reported marks an error whose details were printed on standard output already.
type reported struct{ error }

func (r reported) Unwrap() error { return r.error }

func (a *app) code(err error) int {
	var held *durable.HeldError
	switch {
	case !a.started, errors.Is(err, repo.ErrInput):
		return exitUsage
	case errors.Is(err, repo.ErrUnsigned):
		return exitSigning
	case errors.Is(err, repo.ErrInvalid):
		return exitInvalid
	case errors.Is(err, repo.ErrKey), errors.Is(err, repo.ErrPassphrase), errors.Is(err, repo.ErrWeak), errors.Is(err, errNoTerminal), errors.Is(err, errNotChosen):
		return exitKey
	case errors.As(err, &held):
		return exitLocked
	}
	return exitFailed
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "evenkeel-repo",
		Short: "publish signed operating system releases",
		Long: `Evenkeel-repo makes releases of an operating system, has them signed, and publishes them as a directory of static
files: a TUF repository, which any web server can serve.

  evenkeel-repo init                    keys, roles and an empty repository
  evenkeel-repo add --release r.yaml    make the files of a release
  evenkeel-repo sign                    each holder of a key, on any machine
  evenkeel-repo publish                 make public what is signed
  evenkeel-repo refresh                 from cron: say that the repository is still fresh

` + exitHelp,
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			err := c.ValidateRequiredFlags() // cobra would look only later
			a.started = err == nil
			return err
		},
	}
	f := root.PersistentFlags()
	f.StringVar(&a.repoDir, "repo", or(a.env("EVENKEEL_REPO"), "repo"), "directory of the repository (environment: EVENKEEL_REPO)")
	f.StringVar(&a.keysDir, "keys", or(a.env("EVENKEEL_REPO_KEYS"), "keys"), "directory of the private keys, outside of the repository (environment: EVENKEEL_REPO_KEYS)")
	f.BoolVar(&a.json, "json", false, "print the result as JSON")
	root.AddCommand(
		a.initCommand(), a.keyCommand(), a.addCommand(), a.signCommand(), a.publishCommand(), a.refreshCommand(),
		a.renewCommand(), a.withdrawCommand(), a.discardCommand(), a.verifyCommand(), a.listCommand(), a.diskImageCommand(),
	)
	cli.Tidy(root)
	return root
}

// open returns the repository that the flags name.
func (a *app) open() (*repo.Repository, error) {
	lifetimes, err := parseLifetimes(a.lifetimes)
	if err != nil {
		return nil, err
	}
	return repo.New(repo.Options{Dir: a.repoDir, Now: a.now, Lifetimes: lifetimes, Say: a.note, Build: image.BuildOptions{Level: a.level}}), nil
}

// keyDir returns the key directory that the flags name.
func (a *app) keyDir() (*repo.KeyDir, error) {
	inside, err := within(a.keysDir, a.repoDir)
	if err != nil {
		return nil, err
	}
	if inside {
		return nil, repo.BadInput("the keys in %s would be served with the repository in %s: keep them elsewhere (--keys)", a.keysDir, a.repoDir)
	}
	d := &repo.KeyDir{Dir: a.keysDir}
	p := &passphrases{app: a}
	d.Open = p.open
	return d, nil
}

// within reports whether dir is parent or below it, once every link is followed.
func within(dir, parent string) (bool, error) {
	d, err := resolve(dir)
	if err != nil {
		return false, err
	}
	p, err := resolve(parent)
	if err != nil {
		return false, err
	}
	rel, err := filepath.Rel(p, d)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../"), nil
}

// resolve is filepath.EvalSymlinks for paths whose end need not exist yet.
func resolve(name string) (string, error) {
	name, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	followed, err := filepath.EvalSymlinks(name)
	if err == nil || filepath.Dir(name) == name {
		return followed, err
	}
	parent, err := resolve(filepath.Dir(name))
	return filepath.Join(parent, filepath.Base(name)), err
}

// note tells a person what is going on. It never goes where results go.
func (a *app) note(what string) { fmt.Fprintf(a.stderr, "%s ...\n", what) }

// say prints a line of the result for people; with --json, only the JSON is printed.
func (a *app) say(format string, args ...any) {
	if !a.json {
		fmt.Fprintf(a.stdout, format+"\n", args...)
	}
}

// result prints v as JSON if that was asked for.
func (a *app) result(v any) error {
	if !a.json {
		return nil
	}
	return a.print(v)
}

func (a *app) print(v any) error { return cli.JSON(a.stdout, v) }

func or[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

// addExpires gives a command the flag that overrides lifetimes.
func (a *app) addExpires(c *cobra.Command) {
	c.Flags().StringToStringVar(&a.lifetimes, "expires", nil, "validity of new metadata, as ROLE=DURATION (90d, 36h); repeatable")
}

func parseLifetimes(texts map[string]string) (map[repo.Role]time.Duration, error) {
	lifetimes := map[repo.Role]time.Duration{}
	for name, text := range texts {
		role, err := repo.ParseRole(name)
		if err != nil {
			return nil, repo.BadInput("--expires: %w", err)
		}
		d, err := parseDuration(text)
		if err != nil {
			return nil, repo.BadInput("--expires %s: %w", name, err)
		}
		lifetimes[role] = d
	}
	return lifetimes, nil
}

// parseDuration reads "90d" and everything that time.ParseDuration reads. A duration of less than a minute is a mistake.
func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, nerr := strconv.Atoi(days); nerr == nil && n < 36500 {
			d, err = time.Duration(n)*24*time.Hour, nil
		}
	}
	if err != nil || d < time.Minute {
		return 0, fmt.Errorf("%q is no duration of a minute or more: write it with a unit, as in 90d or 36h", text)
	}
	return d, nil
}
