package health

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/evenkeel-os/evenkeel/internal/systemd"
)

// UnitCheck passes when a systemd unit is active.
type UnitCheck struct {
	Rule        // Name "" is the unit's name
	Unit string // with its suffix, as in nginx.service
}

func (u UnitCheck) check(m *systemd.Manager) check {
	c := check{Rule: u.Rule}
	if c.Name == "" {
		c.Name = u.Unit
	}
	if !strings.Contains(u.Unit, ".") {
		c.wrong = fmt.Errorf("%q is no name of a unit: it has no suffix such as .service", u.Unit)
	}
	c.run = func(ctx context.Context, _ *output) error {
		unit, err := m.Unit(ctx, u.Unit)
		switch {
		case err != nil:
			return err
		case unit.OK():
			return nil
		case unit.Load == "not-found" || unit.Load == "masked":
			return final{errors.New(unit.String())}
		}
		return errors.New(unit.String())
	}
	return c
}

// SystemCheck passes when systemd has started everything, and nothing failed: "systemctl is-system-running".
type SystemCheck struct {
	Rule               // Name "" is "system"
	AllowDegraded bool // units may have failed; it waits for the end of the start alone
}

func (s SystemCheck) check(m *systemd.Manager) check {
	c := check{Rule: s.Rule}
	if c.Name == "" {
		c.Name = "system"
	}
	c.run = func(ctx context.Context, out *output) error {
		state, err := m.State(ctx)
		switch {
		case err != nil:
			return err
		case state == systemd.Running, state == systemd.Degraded && s.AllowDegraded:
			return nil
		case state == systemd.Degraded:
			return failed(ctx, m, out)
		}
		return fmt.Errorf("the system is %s", state)
	}
	return c
}

// failed says which units failed, and how.
func failed(ctx context.Context, m *systemd.Manager, out *output) error {
	names, err := m.Failed(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if u, err := m.Unit(ctx, name); err == nil {
			fmt.Fprintln(out, u)
		}
	}
	return fmt.Errorf("the system is degraded: %s failed", strings.Join(names, ", "))
}
