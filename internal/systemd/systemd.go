// Package systemd asks the service manager over D-Bus, without any of its tools.
//
// For root, systemd listens on /run/systemd/private: one peer talks to the other, without a bus, so that it answers early
// at boot, late at shutdown, and while the bus daemon is down. Everybody else, and root where that socket is missing, is
// answered on the system bus, /run/dbus/system_bus_socket. Names of objects, properties and methods are those of
// org.freedesktop.systemd1(5) and org.freedesktop.login1(5).
package systemd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/godbus/dbus/v5"
)

const (
	systemdName = "org.freedesktop.systemd1"
	managerPath = "/org/freedesktop/systemd1"
	managerType = "org.freedesktop.systemd1.Manager"
	unitType    = "org.freedesktop.systemd1.Unit"
	serviceType = "org.freedesktop.systemd1.Service"
)

// Manager is the service manager of the host whose files are below a root directory. Every call makes a connection of
// its own, so that a systemd that was re-executed, or a bus that was restarted, is no special case.
type Manager struct{ root string }

// New returns the manager of the host below root, "/" for this host. It touches nothing.
func New(root string) *Manager { return &Manager{root: root} }

// State is the state of the whole system.
type State string

const (
	Initializing State = "initializing"
	Starting     State = "starting"
	Running      State = "running"
	Degraded     State = "degraded" // started, and units failed
	Maintenance  State = "maintenance"
	Stopping     State = "stopping"
)

// Settled reports whether the start of the system is over, for better or worse.
func (s State) Settled() bool { return s != Initializing && s != Starting }

// Unit is the state of one unit.
type Unit struct {
	Name   string
	Load   string // "loaded", "not-found", "masked", "bad-setting", "error"
	Active string // "active", "reloading", "inactive", "failed", "activating", "deactivating"
	Sub    string // finer, and different for each type of unit: "running", "exited", "auto-restart"
	Result string // of a service: "success", "exit-code", "timeout", "watchdog"; else ""
	Status int32  // exit status of a service's main process, or the signal that killed it
}

// OK reports whether the unit is active.
func (u Unit) OK() bool { return u.Active == "active" || u.Active == "reloading" }

// String describes the unit for a person, as "app.service is failed (failed, exit-code, status 1)".
func (u Unit) String() string {
	if u.Load != "loaded" {
		return fmt.Sprintf("%s is %s", u.Name, u.Load)
	}
	detail := u.Sub
	if u.Result != "" && u.Result != "success" {
		detail += ", " + u.Result
	}
	if u.Status != 0 {
		detail += fmt.Sprintf(", status %d", u.Status)
	}
	return fmt.Sprintf("%s is %s (%s)", u.Name, u.Active, detail)
}

// State returns the state of the system.
func (m *Manager) State(ctx context.Context) (s State, err error) {
	err = m.call(ctx, func(c *dbus.Conn) error {
		return property(ctx, c.Object(systemdName, managerPath), managerType, "SystemState", &s)
	})
	if err != nil {
		return "", fmt.Errorf("cannot ask systemd for the state of the system: %w", err)
	}
	return s, nil
}

// Unit returns the state of a unit. A unit that does not exist has Load "not-found"; that is no error.
func (m *Manager) Unit(ctx context.Context, name string) (u Unit, err error) {
	u.Name = name
	err = m.call(ctx, func(c *dbus.Conn) error {
		var path dbus.ObjectPath
		if err := c.Object(systemdName, managerPath).CallWithContext(ctx, managerType+".LoadUnit", 0, name).Store(&path); err != nil {
			return err
		}
		o := c.Object(systemdName, path)
		err := errors.Join(
			property(ctx, o, unitType, "LoadState", &u.Load),
			property(ctx, o, unitType, "ActiveState", &u.Active),
			property(ctx, o, unitType, "SubState", &u.Sub),
		)
		if filepath.Ext(name) == ".service" {
			err = errors.Join(err, property(ctx, o, serviceType, "Result", &u.Result), property(ctx, o, serviceType, "ExecMainStatus", &u.Status))
		}
		return err
	})
	if err != nil {
		return u, fmt.Errorf("cannot ask systemd for %s: %w", name, err)
	}
	return u, nil
}

// Failed returns the names of the units that failed, sorted.
func (m *Manager) Failed(ctx context.Context) (names []string, err error) {
	var units [][]any // name, description, load, active, sub, followed, path, job id, job type, job path
	err = m.call(ctx, func(c *dbus.Conn) error {
		return c.Object(systemdName, managerPath).CallWithContext(ctx, managerType+".ListUnitsFiltered", 0, []string{"failed"}).Store(&units)
	})
	if err != nil {
		return nil, fmt.Errorf("cannot ask systemd which units failed: %w", err)
	}
	for _, u := range units {
		if name, ok := u[0].(string); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Reboot asks for an orderly reboot: services are stopped and file systems unmounted first. It returns when systemd has
// accepted that. With an argument that is not empty, the system call at the end passes it to the firmware.
func (m *Manager) Reboot(ctx context.Context, arg string) error {
	err := m.setArgument(arg)
	if err == nil {
		err = m.call(ctx, func(c *dbus.Conn) error {
			// Manager.Reboot would stop nothing first; a job that cannot be replaced is what "systemctl reboot" queues.
			return c.Object(systemdName, managerPath).
				CallWithContext(ctx, managerType+".StartUnit", 0, "reboot.target", "replace-irreversibly").Err
		})
	}
	if err != nil {
		return fmt.Errorf("cannot ask systemd to reboot: %w", err)
	}
	return nil
}

// setArgument leaves the argument where systemd-shutdown looks for it (sd-shutdown.h, update_reboot_parameter_and_warn).
func (m *Manager) setArgument(arg string) error {
	path := filepath.Join(m.root, "run/systemd/reboot-param")
	if arg != "" {
		return os.WriteFile(path, []byte(arg), 0o644)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func property(ctx context.Context, o dbus.BusObject, iface, name string, to any) error {
	var v dbus.Variant
	if err := o.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, iface, name).Store(&v); err != nil {
		return err
	}
	return v.Store(to)
}

// call runs f on a connection that ends with it, or with ctx.
func (m *Manager) call(ctx context.Context, f func(*dbus.Conn) error) error {
	c, err := m.connect(ctx, "run/systemd/private", false)
	if err != nil {
		var err2 error
		if c, err2 = m.connect(ctx, "run/dbus/system_bus_socket", true); err2 != nil {
			return errors.Join(err, err2)
		}
	}
	defer c.Close()
	if err := f(c); err != nil {
		return errors.Join(ctx.Err(), err) // a connection that ended with ctx says only that it was closed
	}
	return nil
}

func (m *Manager) connect(ctx context.Context, socket string, bus bool) (*dbus.Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", filepath.Join(m.root, socket))
	if err != nil {
		return nil, err
	}
	c, err := dbus.NewConn(nc, dbus.WithContext(ctx))
	if err != nil {
		nc.Close()
		return nil, err
	}
	err = c.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))})
	if err == nil && bus {
		err = c.Hello()
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("%s: %w", socket, errors.Join(ctx.Err(), err))
	}
	return c, nil
}
