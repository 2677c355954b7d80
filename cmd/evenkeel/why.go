package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/evenkeel-os/evenkeel/cmd/internal/cli"
	"github.com/evenkeel-os/evenkeel/updater"
)

func (a *app) whyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "why", Short: "why nothing happens, or why it fell back", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			st, m, err := a.look(c.Context())
			switch {
			case err != nil && m == nil:
				return err
			case err != nil && a.json:
				return &exitError{a.code(err), &reported{st.reasons(), err}}
			case a.json:
				return a.print(st.reasons())
			}
			fmt.Fprint(a.stdout, cli.Wrap(st.reasons().text()))
			return err
		},
	}
}

// reasons is what "why --json" prints.
type reasons struct {
	Now      string          `json:"now"`                 // what is or is not happening, and why
	Error    string          `json:"error,omitempty"`     // what keeps going wrong
	FellBack *updater.Closed `json:"fell_back,omitempty"` // the last update, if it was not kept
	LastBoot string          `json:"last_boot,omitempty"` // how the boot before this one ended
	Releases []offerStatus   `json:"releases,omitempty"`  // that are not installed, and why not
	Others   []string        `json:"others,omitempty"`
}

func (s status) reasons() reasons {
	r := reasons{Now: s.now(), Error: s.Error, LastBoot: resetText(s.LastBoot)}
	if l := s.Last; l != nil && l.Outcome != updater.Confirmed {
		r.FellBack = l
	}
	for _, o := range s.Offers {
		if o.Not != "" && o.Serial > s.Serial {
			r.Releases = append(r.Releases, o)
		}
	}
	if s.Last != nil {
		s.Rebuilt = "" // there is a better memory again
	}
	for _, x := range []struct{ what, why string }{
		{"the boot loader is not trusted to count down a trial: ", s.LoaderDoubt},
		{"the record was rebuilt from what is seen: ", s.Rebuilt},
		{"the trusted metadata is too old: ", s.Trust.Expired},
	} {
		if x.why != "" {
			r.Others = append(r.Others, x.what+x.why)
		}
	}
	for _, p := range s.Trust.Problems {
		r.Others = append(r.Others, "a release cannot be used: "+p)
	}
	if s.Agent.Mode == "off" {
		r.Others = append(r.Others, "update.mode is \"off\": nobody looks for releases unless an operator says \"evenkeel check\" or \"evenkeel update\"")
	}
	if !s.Agent.Running {
		r.Others = append(r.Others, "no agent runs: nothing happens by itself")
	}
	return r
}

// now says what the agent waits for, or is about to do.
func (s status) now() string {
	switch {
	case s.Next.Why == "":
		return "what happens next cannot be seen"
	case s.Next.Do == updater.DoWait:
		return "waiting: " + s.Next.Why
	case s.Next.Do == updater.DoHalt:
		return "halted: " + s.Next.Why
	case !s.Agent.Running:
		return "nobody is there to go on with this: " + s.Next.Why
	}
	return "at work: " + s.Next.Why
}

func resetText(r updater.Reset) string {
	if r.Cause == updater.CauseUnknown || r.Cause == updater.CauseReboot || r.Cause == "" {
		return ""
	}
	text := "the boot before this one ended by " + map[updater.Cause]string{
		updater.CausePower: "a loss of power", updater.CausePanic: "a kernel panic", updater.CauseWatchdog: "the hardware watchdog",
		updater.CauseDeadline: "the deadline of a trial",
	}[r.Cause]
	if r.Slot != updater.NoSlot {
		text += ", in slot " + string(r.Slot)
	}
	if r.Detail != "" {
		text += ": " + r.Detail
	}
	return text
}

func (r reasons) text() string {
	b := &strings.Builder{}
	line := func(format string, args ...any) { fmt.Fprintf(b, format+"\n", args...) }
	line("Now:    %s", r.Now)
	if r.Error != "" {
		line("Error:  it keeps failing: %s", r.Error)
	}
	if l := r.FellBack; l != nil {
		line("Last:   %s", closedText(*l))
		if _, more, ok := strings.Cut(l.Reason, "\n"); ok {
			line("%s", indent(more, "        "+cli.Quote))
			r.LastBoot = firstLine(r.LastBoot) // which ended by the same
		}
		for _, c := range l.Checks {
			if !c.OK {
				line("%s", indent(checkText(c), "        "))
			}
		}
	}
	if r.LastBoot != "" {
		line("Boot:   %s", firstLine(r.LastBoot))
		if _, more, ok := strings.Cut(r.LastBoot, "\n"); ok {
			line("%s", indent(more, "        "+cli.Quote))
		}
	}
	for _, o := range r.Releases {
		if strings.Contains(r.Now, o.Not) {
			continue // said already
		}
		line("Not:    release %s (serial %d) is not installed: %s", o.Version, o.Serial, o.Not)
	}
	for _, o := range r.Others {
		line("Also:   %s", o)
	}
	return b.String()
}

// checkText shows one health check with what it printed.
func checkText(c updater.Check) string {
	verdict := "passed"
	switch {
	case !c.OK && c.Required:
		verdict = "FAILED"
	case !c.OK:
		verdict = "failed, which does not count"
	}
	text := fmt.Sprintf("%s %s after %s", c.Name, verdict, c.Took.Round(1e7))
	if c.Output != "" {
		text += "\n" + indent(c.Output, cli.Quote)
	}
	return text
}
