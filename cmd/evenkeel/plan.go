package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

func (a *app) planCommand() *cobra.Command {
	var want string
	c := &cobra.Command{
		Use: "plan", Short: "what an update would fetch, copy and write", Args: cobra.NoArgs,
		Long: `Says what "evenkeel update" would do, by what the last check found. Nothing is written.`,
		RunE: func(c *cobra.Command, _ []string) error { return a.plan(c.Context(), want) },
	}
	c.Flags().StringVar(&want, "version", "", "this `release` and no other")
	return c
}

// planned is what "plan --json" prints.
type planned struct {
	Version string             `json:"version,omitempty"`
	Serial  uint64             `json:"serial,omitempty"`
	Slot    updater.Slot       `json:"slot,omitempty"`
	Message string             `json:"message"`
	Roles   []updater.RolePlan `json:"roles,omitempty"`
	Total   image.Stats        `json:"total"`
	Over    bool               `json:"over_limit"` // update.max_bytes forbids it
}

func (a *app) plan(ctx context.Context, want string) error {
	st, m, err := a.look(ctx)
	if err != nil {
		return err
	}
	rel, why, err := m.choose(ctx, st, want)
	if err != nil {
		return err
	}
	if rel.Serial == 0 {
		a.say("%s", why)
		return a.result(planned{Message: why})
	}
	slot := st.Running.Other()
	roles, err := m.filler.Plan(ctx, slot, rel)
	if err != nil {
		return err
	}
	p := planned{Version: rel.Version, Serial: rel.Serial, Slot: slot, Message: why, Roles: roles}
	for _, r := range roles {
		p.Total = sum(p.Total, r.Stats)
	}
	p.Over = m.cfg.Update.MaxBytes > 0 && p.Total.Fetched > int64(m.cfg.Update.MaxBytes)
	if a.json {
		return a.print(p)
	}
	a.printPlan(p)
	if p.Over {
		return failure(exitWaiting, "that is more than update.max_bytes allows: %s", m.cfg.Update.MaxBytes)
	}
	return nil
}

// choose returns the release that would be installed; serial 0: none, and why.
func (m *machine) choose(ctx context.Context, st status, want string) (release.Release, string, error) {
	releases, err := m.source.Offers(ctx)
	if err != nil {
		return release.Release{}, "", err
	}
	for i := len(st.Offers) - 1; i >= 0; i-- {
		o := st.Offers[i]
		if want != "" && o.Version != want || want == "" && o.Not != "" {
			continue
		}
		if o.Not != "" {
			return release.Release{}, "", failure(exitRefused, "release %s cannot be installed: %s", o.Version, o.Not)
		}
		for _, rel := range releases {
			if rel.Serial == o.Serial {
				return rel, fmt.Sprintf("release %s (serial %d) would go into slot %s", rel.Version, rel.Serial, st.Running.Other()), nil
			}
		}
	}
	if want != "" {
		return release.Release{}, "", failure(exitRefused, "the repository offers no release %q: see \"evenkeel check\" for what there is", want)
	}
	return release.Release{}, st.Next.Why, nil
}

func sum(a, b image.Stats) image.Stats {
	return image.Stats{
		Total: a.Total + b.Total, Reused: a.Reused + b.Reused, Zeroed: a.Zeroed + b.Zeroed, Written: a.Written + b.Written,
		Fetched: a.Fetched + b.Fetched, Copied: a.Copied + b.Copied,
	}
}

func (a *app) printPlan(p planned) {
	a.say("%s", p.Message)
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "ROLE\tSIZE\tTHERE ALREADY\tZEROS\tTO FETCH\tTO COPY\tTO WRITE\t")
	row := func(name string, s image.Stats) {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", name, bytesText(s.Total), bytesText(s.Reused), bytesText(s.Zeroed),
			bytesText(s.Fetched), bytesText(s.Copied), bytesText(s.Written))
	}
	for _, r := range p.Roles {
		row(string(r.Role), r.Stats)
	}
	row("all", p.Total)
	_ = t.Flush() // nobody reads a standard output that fails
}
