package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/evenkeel-os/evenkeel/cmd/internal/cli"
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
	Since   time.Time     `json:"since,omitzero"`  // the running release was confirmed; zero: not known
	By      string        `json:"by,omitempty"`    // who wanted it: "agent" or "operator"; empty: not known

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
	Problems    []string   `json:"problems,omitempty"` // why some of this is missing
}

type agentStatus struct {
	Running bool   `json:"running"`
	Version string `json:"version"`
	Mode    string `json:"mode"` // update.mode
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
		Agent: agentStatus{Running: agent, Version: m.version, Mode: m.cfg.Update.Mode}, Phase: st.Record.Phase,
		Next:    nextStatus{st.Next.Do, st.Next.Slot, st.Next.Why},
		Error:   st.Error,
		Blocked: st.Record.Blocked, Last: st.Record.Last, LastBoot: st.Boot.Reset, Uptime: int64(st.Boot.Uptime.Seconds()),
		LoaderDoubt: st.Record.LoaderDoubt, Rebuilt: st.Record.Rebuilt,
	}
	if m.source != nil {
		s.Trust = m.source.Report()
	}
	// An agent that could not even begin for this has no last step to tell of.
	if err := m.slots.MayKeepState(); err != nil && s.Error == "" {
		s.Error = err.Error()
	}
	s.Since, s.By = m.approved(st)
	s.Next.Why, s.Error = s.brief(s.Next.Why), s.brief(s.Error)
	for _, slot := range []updater.Slot{updater.A, updater.B} {
		r := st.Record.Slots[slot]
		s.Slots = append(s.Slots, slotStatus{slot, r.State, r.Version, r.Serial, r.Since, st.Loader.Enabled(slot)})
	}
	if t := st.Loader.Trial; t.Slot != updater.NoSlot {
		s.Trial = &trialStatus{t.Slot, t.TriesLeft, t.LoadError}
	}
	for _, rel := range st.Offers.Releases {
		not := st.Offers.Judge(rel, st.Record, st.Release)
		if rel.Serial == st.Release.Serial {
			not = "it runs"
		}
		s.Offers = append(s.Offers, offerStatus{rel.Version, rel.Serial, s.brief(not)})
	}
	if t := st.Record.Txn; t != nil {
		s.Update = &txnStatus{
			t.ID, t.Release.Version, t.Release.Serial, t.From, t.Slot, t.Rollback, t.By, t.NoReboot, t.Attempts, t.Boots, t.Tries, t.Outcome, t.Reason,
		}
	}
	return s
}

// brief keeps what a panic left out of sentences: blocked and last hold all of it.
func (s status) brief(text string) string {
	for _, b := range s.Blocked {
		text = strings.ReplaceAll(text, b.Reason, firstLine(b.Reason))
	}
	return text
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// approved says since when what runs is confirmed, and who wanted it, as the history remembers it.
func (m *machine) approved(st updater.Status) (since time.Time, by string) {
	r := st.Record.Slots[st.Running]
	if r.State == updater.SlotConfirmed && r.Serial == st.Release.Serial {
		since = r.Since
	}
	events, _ := readEvents(m.history) // the history is for people, and may be lost
	for _, e := range events {
		if e.Kind == string(updater.Confirmed) && e.Slot == st.Running && e.Serial == st.Release.Serial {
			by = e.By
		}
	}
	return since, by
}

// look returns the status: the agent's own where one runs, for it knows what it is doing, else what the devices say. Beside
// an error it says as much as can be said; m is nil where that is nothing.
func (a *app) look(ctx context.Context) (st status, m *machine, err error) {
	loaded, err := a.config()
	if err != nil {
		return st, nil, err
	}
	c, err := control.Dial(ctx, loaded.Config.Host.RunDir)
	if err != nil && !errors.Is(err, control.ErrNoAgent) {
		return st, nil, err
	}
	m, err = a.machine(loaded.Config, func(string) {})
	switch {
	case err != nil:
	case c != nil:
		err = c.Status(ctx, &st)
	default:
		var seen updater.Status
		if seen, err = m.agent(true, nil).Status(ctx); err == nil {
			st = m.status(seen, false)
		}
	}
	if err == nil {
		return st, m, nil
	}
	err = plainly(err)
	if m, bareErr := a.bareMachine(loaded.Config, func(string) {}); bareErr == nil {
		return m.partial(c != nil, err), m, err
	}
	return st, nil, err
}

// partial is as much of the status as can be seen without what err says.
func (m *machine) partial(agent bool, err error) status {
	var st updater.Status
	var errs [4]error
	st.Running, errs[0] = m.slots.Running()
	st.Loader, errs[1] = m.loader.State()
	st.Boot, errs[2] = m.host.Boot()
	st.Release = st.Boot.Running
	b, errs3 := m.store.Load()
	if errs[3] = errs3; errs3 == nil && len(b) > 0 {
		st.Record, errs[3] = updater.DecodeRecord(b, updater.Schema)
	}
	s := m.status(st, agent)
	for _, e := range append([]error{err}, errs[:]...) {
		if e != nil && !slices.ContainsFunc(s.Problems, func(p string) bool { return strings.Contains(p, e.Error()) }) {
			s.Problems = append(s.Problems, e.Error())
		}
	}
	return s
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "what runs, what lies in the other slot, what happens next", Args: cobra.NoArgs,
		Long: `Says what runs, since when and who wanted it; what lies in the other slot; what is under way, and what comes next. Where
something cannot be read, it shows the rest and ends with an error.`,
		RunE: func(c *cobra.Command, _ []string) error {
			st, m, err := a.look(c.Context())
			switch {
			case err != nil && m == nil:
				return err
			case err != nil && a.json:
				return &exitError{a.code(err), &reported{st, err}}
			case a.json:
				return a.print(st)
			}
			fmt.Fprint(a.stdout, cli.Wrap(st.text()))
			return err
		},
	}
}

func (s status) text() string {
	w := &strings.Builder{}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		if text := fmt.Sprintf(format, args...); text != "" {
			fmt.Fprintf(t, "%s:\t%s\n", name, text)
		}
	}
	line("Running", "%s %s (serial %d), in slot %s%s", s.Product, orUnknown(s.Version), s.Serial, orUnknown(string(s.Running)), s.standing())
	line("Up", "%s", s.up())
	for _, x := range s.Slots {
		line("Slot "+string(x.Slot), "%s", x)
	}
	line("State", "%s", s.doing())
	line("Next", "%s", s.Next.Why)
	line("Error", "%s", s.Error)
	for _, b := range s.Blocked {
		line("Blocked", "%s (serial %d), %s: %s", b.Version, b.Serial, b.Outcome, firstLine(b.Reason))
	}
	if l := s.Last; l != nil {
		line("Last", "%s", closedText(*l))
	}
	line("Agent", "%s", s.Agent)
	if x := s.Trust.FirstToExpire(); x.Name != "" && len(s.Trust.Roles) > 1 {
		line("Trust", "%s expires first, %s", x.Name, cli.Date(x.Expires))
	}
	line("Trust", "%s", s.Trust.Expired)
	for _, p := range s.Problems {
		line("Missing", "%s", p)
	}
	_ = t.Flush() // a strings.Builder takes everything
	return w.String()
}

func (a agentStatus) String() string {
	if a.Running {
		return fmt.Sprintf("running, version %s, mode %s", a.Version, a.Mode)
	}
	return "not running"
}

func (s status) standing() string {
	switch {
	case s.Running == updater.NoSlot:
		return ""
	case s.Running != s.Default:
		return ", not the default (" + orUnknown(string(s.Default)) + ")"
	case s.By != "":
		return ", the default; the " + s.By + " wanted it"
	}
	return ", the default"
}

// up says how long the machine runs, and how the boot before ended.
func (s status) up() string {
	if s.Uptime == 0 {
		return ""
	}
	text := (time.Duration(s.Uptime) * time.Second).String()
	if why := resetText(s.LastBoot); why != "" {
		text += "; " + firstLine(why)
	}
	return text
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
	text := fmt.Sprintf("%s: %s%s in slot %s, wanted by the %s", s.Phase, what, u.Version, u.Slot, u.By)
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
		text += " since " + cli.Date(s.Since)
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
	text := fmt.Sprintf("%s%s in slot %s: %s, %s", what, l.Version, l.Slot, l.Outcome, firstLine(l.Reason))
	if !l.At.IsZero() {
		text += " (" + cli.Date(l.At) + ")"
	}
	return text
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
