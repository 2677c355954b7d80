package main

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/evenkeel-os/evenkeel/health"
	"github.com/evenkeel-os/evenkeel/internal/durable"
	"github.com/evenkeel-os/evenkeel/internal/host"
	"github.com/evenkeel-os/evenkeel/internal/systemd"
)

// spare is how long before a deadline a probe must have ended, so that there is time to go back in order. Of a short deadline
// it takes a part: it must leave the checks the most of it.
func spare(deadline time.Duration) time.Duration { return min(30*time.Second, deadline/4) }

// checks says what a well system is: what the configuration names, and what the agent itself needs.
func (m *machine) checks(a *app) health.Config {
	c := m.cfg.Health
	h := health.Config{
		Builtins: m.builtins(a), Dirs: c.Dirs, Systemd: systemd.New(m.cfg.Host.Root), Timeout: c.Timeout, Settle: c.Settle,
		Baseline: filepath.Join(m.cfg.State.Dir, baselineFile), Who: m.who, Left: m.left,
	}
	for _, x := range c.HTTP {
		h.HTTP = append(h.HTTP, health.HTTPCheck{Rule: rule(x.Name, x.Required, x.Baseline, x.Timeout), URL: x.URL, Status: x.Status})
	}
	for _, x := range c.TCP {
		h.TCP = append(h.TCP, health.TCPCheck{Rule: rule(x.Name, x.Required, x.Baseline, x.Timeout), Address: x.Address})
	}
	for _, x := range c.Units {
		h.Units = append(h.Units, health.UnitCheck{Rule: rule("", x.Required, x.Baseline, x.Timeout), Unit: x.Unit})
	}
	return h
}

func rule(name string, required, baseline bool, timeout time.Duration) health.Rule {
	r := health.Rule{Name: name, Timeout: timeout, Level: health.Required}
	switch {
	case !required:
		r.Level = health.Wanted
	case baseline:
		r.Level = health.AsBefore
	}
	return r
}

func (m *machine) builtins(a *app) []health.Builtin {
	own := func(name string, level health.Level, f func(context.Context) error) health.Builtin {
		return health.Builtin{Rule: health.Rule{Name: name, Level: level}, Func: f}
	}
	checks := []health.Builtin{
		own("evenkeel-config", health.Required, func(context.Context) error { return a.configStillRight() }),
		own("evenkeel-state", health.Required, func(context.Context) error { return m.stateWritable() }),
		own("evenkeel-loader", health.Required, func(context.Context) error { return m.loaderSane() }),
	}
	if m.transport != nil {
		checks = append(checks, own("evenkeel-repository", health.AsBefore, m.reachable))
	}
	return checks
}

func (a *app) configStillRight() error {
	_, err := a.config()
	return err
}

func (m *machine) stateWritable() error {
	if err := m.slots.MayKeepState(); err != nil {
		return err
	}
	return writable(durable.OS{}, m.cfg.State.Dir)
}

// writable makes and removes a file in dir. That dir is full is no failure: what must be saved is saved in place, and a
// release is not to be blamed for what fills the state partition.
func writable(fsys durable.FS, dir string) error {
	path := filepath.Join(dir, "writable")
	err := durable.WriteFile(fsys, path, []byte("probe\n"))
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return nil
	}
	if err != nil {
		return err
	}
	return durable.Remove(fsys, path)
}

func (m *machine) loaderSane() error {
	if problems := m.loader.Check(); len(problems) > 0 {
		return errors.New(strings.Join(problems, "; "))
	}
	return nil
}

// who says in which slot and boot a baseline was taken.
func (m *machine) who() health.Baseline {
	id, _ := host.BootID(m.cfg.Host.Root) // for people only
	return health.Baseline{Slot: host.Slot(m.cfg.Host.Root), Boot: id}
}

// left is the time until a trial must be decided; 0: nothing has to be decided, for no trial lasts beyond its deadline.
func (m *machine) left() time.Duration {
	up, err := host.Uptime(m.cfg.Host.Root)
	if err != nil || up >= m.cfg.Health.Deadline {
		return 0
	}
	return max(time.Second, m.cfg.Health.Deadline-spare(m.cfg.Health.Deadline)-up)
}
