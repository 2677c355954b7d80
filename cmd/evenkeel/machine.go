package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/evenkeel-os/evenkeel/bootloader"
	"github.com/evenkeel-os/evenkeel/health"
	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/internal/config"
	"github.com/evenkeel-os/evenkeel/internal/durable"
	"github.com/evenkeel-os/evenkeel/internal/host"
	"github.com/evenkeel-os/evenkeel/internal/transport"
	"github.com/evenkeel-os/evenkeel/partitions"
	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/tuf"
	"github.com/evenkeel-os/evenkeel/updater"
)

// What lies in the state directory besides the configuration's config.d.
const (
	recordFile   = "record"
	historyFile  = "history"
	lockFile     = "lock"
	tufDir       = "tuf"
	baselineFile = "baseline.json"

	historySize = 1 << 20
)

// machine is this host, as the configuration describes it: every device that an updater.Agent drives. It touches nothing
// by itself.
type machine struct {
	cfg       config.Config
	host      *host.Host
	slots     *partitions.Slots
	loader    *bootloader.GRUB
	transport *transport.Transport // nil: no repository is configured
	source    *tuf.Client
	filler    *updater.Filler
	prober    *health.Prober
	gate      *gate
	store     store
	history   *durable.Log
	this      release.Host
	version   string // of this agent
	now       func() time.Time
}

// logf receives sentences about what is odd and survivable.
type logf func(string)

// machine wires a host. What goes wrong on the way is the configuration's, or a file's that it names.
func (a *app) machine(c config.Config, warn logf) (*machine, error) {
	m, err := a.bareMachine(c, warn)
	if err != nil {
		return nil, err
	}
	m.this = release.Host{Product: c.Product, Compatible: c.Compatible, Architecture: c.Architecture, Layout: c.Layout, Agent: a.version}
	m.gate = &gate{mode: c.Update.Mode, holdUntil: c.Update.HoldUntil, holdFile: c.Update.HoldFile, now: a.now}
	if err := m.connect(a.version, warn); err != nil {
		return nil, err
	}
	m.filler = &updater.Filler{
		Source: m.source, Slots: m.slots, Prune: m.slots.Prune,
		Limits: image.Limits{BytesPerSecond: int64(c.Update.Bandwidth), MaxFetch: int64(c.Update.MaxBytes)},
	}
	m.prober, err = health.New(m.checks(a))
	return m, err
}

func newHost(c config.Config, warn logf) *host.Host {
	onError := func(err error) { warn(err.Error()) }
	return host.New(host.Options{
		Root: c.Host.Root, StateDir: c.State.Dir, RunDir: c.Host.RunDir, OnError: onError,
		Rebooter: &host.Rebooter{Root: c.Host.Root, Command: c.Host.Reboot, OnError: onError},
	})
}

func slotOptions(c config.Config) partitions.Options {
	o := partitions.Options{
		Root: c.Host.Root, Disk: c.Slots.Disk, SectorSize: c.Slots.SectorSize, StateDir: c.State.Dir, RootMount: c.Slots.RootMount,
		State: partitions.Selector{Label: c.State.PartLabel}, ESP: c.Slots.ESP,
	}
	for _, r := range c.Slots.Roles {
		o.Roles = append(o.Roles, partitions.Role{Name: release.Role(r.Role), Kind: release.Kind(r.Kind), A: place(r.A), B: place(r.B)})
	}
	return o
}

func place(p config.Place) partitions.Place {
	return partitions.Place{Partition: partitions.Selector{Label: p.Label, PartUUID: p.PartUUID, Type: p.Type, Order: p.Order}, Dir: p.Dir}
}

func newLoader(c config.Config, s *partitions.Slots) (*bootloader.GRUB, error) {
	entries := c.Boot.Entries
	if entries == "none" {
		entries = ""
	}
	return bootloader.NewGRUB(bootloader.Options{
		Grubenv: c.Boot.Grubenv, Entries: entries, Script: bootloader.Script(c.Boot.Script),
		NameA: c.Boot.NameA, NameB: c.Boot.NameB, PartUUID: s.PartUUID,
	})
}

// connect opens what is trusted of the repository. It needs no network.
func (m *machine) connect(version string, warn logf) error {
	r := m.cfg.Repository
	o := tuf.Options{
		Dir: filepath.Join(m.cfg.State.Dir, tufDir), Product: m.cfg.Product, Now: m.now, Warn: warn, BuildTime: m.buildTime(),
	}
	var err error
	if o.Root, err = os.ReadFile(r.Root); err != nil {
		return fmt.Errorf("cannot read the root that this image trusts (repository.root): %w", err)
	}
	if len(r.URLs) > 0 {
		m.transport, err = transport.New(transport.Options{
			Mirrors: r.URLs, UserAgent: "evenkeel/" + version, Proxy: r.Proxy, CAFile: r.CA, CertFile: r.Cert, KeyFile: r.Key,
			TokenFile: r.Token, ConnectTimeout: r.ConnectTimeout, HeaderTimeout: r.HeaderTimeout,
			StallBytes: int64(r.StallBytes), StallTimeout: r.StallTimeout, Tries: r.Tries, Log: warn,
		})
		if err != nil {
			return err
		}
		o.Transport = m.transport
	}
	m.source, err = tuf.Open(o)
	return err
}

// buildTime is when the running image was built, as its os-release says, or the file times of a read-only image do.
func (m *machine) buildTime() time.Time {
	if vars, err := m.host.OSRelease(); err == nil {
		if t, err := time.Parse(time.RFC3339, vars["EVENKEEL_BUILD_TIME"]); err == nil {
			return t
		}
	}
	if st, err := os.Stat(m.cfg.Repository.Root); err == nil {
		return st.ModTime()
	}
	return time.Time{}
}

// agent returns an agent over the machine. An agent that nobody's command needs opens transactions by itself.
func (m *machine) agent(auto bool, on func(updater.Event)) *updater.Agent {
	c := m.cfg
	return updater.New(updater.Options{
		Bootloader: m.loader, Slots: m.slots, Source: m.source, Installer: m.filler, Gate: m.gate, Prober: m.prober, Host: m.host, Store: m.store,
		This: m.this, Now: m.now, Disarm: m.host.Disarm,
		OnEvent: on,
		Settings: updater.Settings{
			Tries: c.Boot.Tries, MaxAttempts: c.Boot.Attempts, Deadline: c.Health.Deadline,
			AcceptRisk: slices.Contains(c.Boot.AcceptRisk, "loader-cannot-count"),
			Auto:       auto && (c.Update.Mode == "auto" || c.Update.Mode == "stage"),
		},
	})
}

// remember appends to the history. A history that cannot be written keeps nobody from updating.
func (m *machine) remember(warn logf) func(updater.Event) {
	return func(e updater.Event) {
		if err := m.history.Append(e); err != nil {
			warn(err.Error())
		}
	}
}

// lock keeps a second agent, and every command that would do an agent's work, out.
func (m *machine) lock() (*durable.FileLock, error) {
	if err := (durable.OS{}).MkdirAll(m.cfg.State.Dir); err != nil {
		return nil, fmt.Errorf("cannot make the state directory: %w", err)
	}
	l, err := durable.Lock(filepath.Join(m.cfg.State.Dir, lockFile))
	if err != nil {
		// Below a state partition that is not mounted there is often a read-only root: say what is wrong, not what follows.
		if why := m.slots.MayKeepState(); why != nil {
			return nil, fmt.Errorf("%w: %w", why, err)
		}
	}
	return l, err
}

// store is the record's place. Nothing is saved where the state partition is not mounted: it would be forgotten.
type store struct {
	*durable.Cell
	mayKeep func() error
}

// Save implements updater.Store.
func (s store) Save(b []byte) error {
	if err := s.mayKeep(); err != nil {
		return err
	}
	return s.Cell.Save(b)
}

// reachable asks the repository for the smallest file there is.
func (m *machine) reachable(ctx context.Context) error {
	if m.transport == nil {
		return errors.New("no repository is configured")
	}
	_, err := m.transport.Get(ctx, "metadata/timestamp.json", 1<<20, nil)
	return err
}

// bareMachine is what of a machine can be had without a repository and without health checks: the deadline unit and the
// early unit must work in an image in which those are broken.
func (a *app) bareMachine(c config.Config, warn logf) (*machine, error) {
	m := &machine{
		cfg: c, host: newHost(c, warn), version: a.version, now: a.now,
		history: durable.NewLog(durable.OS{}, filepath.Join(c.State.Dir, historyFile), historySize),
	}
	var err error
	if m.slots, err = partitions.New(slotOptions(c)); err != nil {
		return nil, err
	}
	if m.loader, err = newLoader(c, m.slots); err != nil {
		return nil, err
	}
	m.store = store{durable.NewCell(durable.OS{}, filepath.Join(c.State.Dir, recordFile)), m.slots.MayKeepState}
	return m, nil
}
