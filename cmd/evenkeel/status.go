package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/evenkeel-os/evenkeel/internal/control"
	"github.com/evenkeel-os/evenkeel/tuf"
	"github.com/evenkeel-os/evenkeel/updater"
)

// status is what "status --json" prints. Fields are only ever added.
type status struct {
	Product string        `json:"product"`
	Version string        `json:"version"` // of the release that runs
	Serial  uint64        `json:"serial"`
	Running updater.Slot  `json:"running"`
	Default updater.Slot  `json:"default"` // boots once a trial is over
	Agent   agentStatus   `json:"agent"`
	Phase   updater.Phase `json:"phase"`
	Update  *txnStatus    `json:"update,omitempty"` // that is under way
	Next    nextStatus    `json:"next"`
	Error   string        `json:"error,omitempty"` // of the agent's last step

	Slots    []slotStatus      `json:"slots"`
	Trial    *trialStatus      `json:"trial,omitempty"` // in the boot loader's variables
	Blocked  []updater.Blocked `json:"blocked,omitempty"`
	Offers   []offerStatus     `json:"offers,omitempty"`
	Last     *updater.Closed   `json:"last,omitempty"`
	LastBoot updater.Reset     `json:"last_boot"` // how the boot before this one ended
	Uptime   int64             `json:"uptime_seconds"`

	LoaderDoubt string     `json:"loader_doubt,omitempty"`
	Rebuilt     string     `json:"rebuilt,omitempty"` // the record was lost: why
	Trust       tuf.Report `json:"trust"`
}

type agentStatus struct {
	Running bool   `json:"running"`
	Version string `json:"version"`
}

type txnStatus struct {
	ID       uint64          `json:"id"`
	Version  string          `json:"version"`
	Serial   uint64          `json:"serial"`
	From     updater.Slot    `json:"from"`
	Slot     updater.Slot    `json:"slot"`
	Rollback bool            `json:"rollback,omitempty"`
	By       string          `json:"by"`
	NoReboot bool            `json:"no_reboot,omitempty"`
	Attempts int             `json:"attempts"`
	Boots    int             `json:"boots"`
	Tries    int             `json:"tries"`
	Outcome  updater.Outcome `json:"outcome,omitempty"`
	Reason   string          `json:"reason,omitempty"`
}

type nextStatus struct {
	Do   updater.Do   `json:"do"`
	Slot updater.Slot `json:"slot,omitempty"`
	Why  string       `json:"why"`
}

type slotStatus struct {
	Slot    updater.Slot      `json:"slot"`
	State   updater.SlotState `json:"state"`
	Version string            `json:"version,omitempty"`
	Serial  uint64            `json:"serial,omitempty"`
	Since   time.Time         `json:"since,omitzero"`
	Enabled bool              `json:"enabled"` // the boot loader may choose it
}

type trialStatus struct {
	Slot      updater.Slot `json:"slot"`
	TriesLeft int          `json:"tries_left"`
	LoadError bool         `json:"load_error,omitempty"`
}

type offerStatus struct {
	Version string `json:"version"`
	Serial  uint64 `json:"serial"`
	Not     string `json:"not,omitempty"` // why it is not installed; empty: it may be
}

// status puts what an agent sees into the form that it is shown in.
func (m *machine) status(st updater.Status, agent bool) status {
	s := status{
		Product: m.cfg.Product, Version: st.Release.Version, Serial: st.Release.Serial, Running: st.Running, Default: st.Loader.Default,
		Agent: agentStatus{Running: agent, Version: m.this.Agent}, Phase: st.Record.Phase,
		Next:    nextStatus{st.Next.Do, st.Next.Slot, st.Next.Why},
		Error:   st.Error,
		Blocked: st.Record.Blocked, Last: st.Record.Last, LastBoot: st.Boot.Reset, Uptime: int64(st.Boot.Uptime.Seconds()),
		LoaderDoubt: st.Record.LoaderDoubt, Rebuilt: st.Record.Rebuilt, Trust: m.source.Report(),
	}
	for _, slot := range []updater.Slot{updater.A, updater.B} {
		r := st.Record.Slots[slot]
		s.Slots = append(s.Slots, slotStatus{slot, r.State, r.Version, r.Serial, r.Since, st.Loader.Enabled(slot)})
	}
	if t := st.Loader.Trial; t.Slot != updater.NoSlot {
		s.Trial = &trialStatus{t.Slot, t.TriesLeft, t.LoadError}
	}
	for _, rel := range st.Offers.Releases {
		s.Offers = append(s.Offers, offerStatus{rel.Version, rel.Serial, st.Offers.Judge(rel, st.Record, st.Release)})
	}
	if t := st.Record.Txn; t != nil {
		s.Update = &txnStatus{
			t.ID, t.Release.Version, t.Release.Serial, t.From, t.Slot, t.Rollback, t.By, t.NoReboot, t.Attempts, t.Boots, t.Tries, t.Outcome, t.Reason,
		}
	}
	return s
}

// look returns the status: the agent's own where one runs, for it knows what it is doing, else what the devices say.
func (a *app) look(ctx context.Context) (st status, m *machine, err error) {
	loaded, err := a.config()
	if err != nil {
		return st, nil, err
	}
	if m, err = a.machine(loaded.Config, func(string) {}); err != nil {
		return st, nil, err
	}
	c, err := control.Dial(ctx, loaded.Config.Host.RunDir)
	switch {
	case err == nil:
		return st, m, c.Status(ctx, &st)
	case !errors.Is(err, control.ErrNoAgent):
		return st, m, err
	}
	seen, err := m.agent(true, nil).Status(ctx)
	if err != nil {
		return st, m, err
	}
	return m.status(seen, false), m, nil
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "what runs, what lies in the other slot, what happens next", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			st, _, err := a.look(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.print(st)
			}
			st.write(a.stdout)
			return nil
		},
	}
}

func (s status) write(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s:\t%s\n", name, fmt.Sprintf(format, args...))
	}
	line("Running", "%s %s (serial %d), in slot %s%s", s.Product, orUnknown(s.Version), s.Serial, s.Running, s.standing())
	for _, x := range s.Slots {
		line("Slot "+string(x.Slot), "%s", x)
	}
	line("State", "%s", s.doing())
	if s.Next.Why != "" {
		line("Next", "%s", s.Next.Why)
	}
	if s.Error != "" {
		line("Error", "%s", s.Error)
	}
	for _, b := range s.Blocked {
		line("Blocked", "%s (serial %d), %s: %s", b.Version, b.Serial, b.Outcome, b.Reason)
	}
	if l := s.Last; l != nil {
		line("Last", "%s", closedText(*l))
	}
	line("Agent", "%s", s.Agent)
	if x := s.Trust.FirstToExpire(); x.Name != "" && len(s.Trust.Roles) > 1 {
		line("Trust", "%s expires first, %s", x.Name, dateText(x.Expires))
	}
	if s.Trust.Expired != "" {
		line("Trust", "%s", s.Trust.Expired)
	}
	_ = t.Flush() // nobody reads a standard output that fails
}

func (a agentStatus) String() string {
	if a.Running {
		return "running, version " + a.Version
	}
	return "not running"
}

func (s status) standing() string {
	switch s.Running {
	case s.Default:
		return ", the default"
	default:
		return ", not the default (" + orUnknown(string(s.Default)) + ")"
	}
}

// doing says what is under way.
func (s status) doing() string {
	u := s.Update
	if u == nil {
		return orUnknown(string(s.Phase))
	}
	what := "update to "
	if u.Rollback {
		what = "rollback to "
	}
	text := fmt.Sprintf("%s: %s%s in slot %s, for the %s", s.Phase, what, u.Version, u.Slot, u.By)
	if u.Attempts > 0 {
		text += fmt.Sprintf(", attempt %d", u.Attempts)
	}
	if u.Boots > 0 {
		text += fmt.Sprintf(", boot %d of %d", u.Boots, u.Tries)
	}
	return text
}

func (s slotStatus) String() string {
	if s.State == updater.Unknown {
		return "nothing that is known"
	}
	text := fmt.Sprintf("%s (serial %d), %s", orUnknown(s.Version), s.Serial, s.State)
	if !s.Since.IsZero() {
		text += " since " + dateText(s.Since)
	}
	if !s.Enabled {
		text += ", not bootable"
	}
	return text
}

func closedText(l updater.Closed) string {
	what := "update to "
	if l.Rollback {
		what = "rollback to "
	}
	text := fmt.Sprintf("%s%s in slot %s: %s, %s", what, l.Version, l.Slot, l.Outcome, l.Reason)
	if !l.At.IsZero() {
		text += " (" + dateText(l.At) + ")"
	}
	return text
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func dateText(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
