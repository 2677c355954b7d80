package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/evenkeel-os/evenkeel/cmd/internal/cli"
	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/internal/config"
	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

func (a *app) planCommand() *cobra.Command {
	var want string
	c := &cobra.Command{
		Use: "plan", Short: "what an update would fetch, copy and write", Args: cobra.NoArgs,
		Long: `Says what "evenkeel update" would do, by what the last check found. Nothing is written.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := versionFlag(c, want); err != nil {
				return err
			}
			return a.plan(c.Context(), want)
		},
	}
	c.Flags().StringVar(&want, "version", "", "this `release` and no other")
	return c
}

// planned is what "plan --json" prints.
type planned struct {
	Version string       `json:"version,omitempty"`
	Serial  uint64       `json:"serial,omitempty"`
	Slot    updater.Slot `json:"slot,omitempty"`
	Message string       `json:"message"`
	Roles   []rolePlan   `json:"roles,omitempty"`
	Total   amounts      `json:"total"`
	Over    bool         `json:"over_limit"` // update.max_bytes forbids it
}

type rolePlan struct {
	Role  release.Role `json:"role"`
	Kind  release.Kind `json:"kind"`
	Bytes amounts      `json:"bytes"`
}

// amounts are numbers of bytes.
type amounts struct {
	Total   int64 `json:"total"`
	There   int64 `json:"there"`   // right in the slot already
	Zeros   int64 `json:"zeros"`   // to be made, not fetched
	Fetched int64 `json:"fetched"` // to be fetched, compressed
	Copied  int64 `json:"copied"`  // to be copied from the running slot
	Written int64 `json:"written"` // to be written
}

func amountsOf(s image.Stats) amounts {
	return amounts{Total: s.Total, There: s.Reused, Zeros: s.Zeroed, Fetched: s.Fetched, Copied: s.Copied, Written: s.Written}
}

func (a amounts) plus(b amounts) amounts {
	return amounts{
		Total: a.Total + b.Total, There: a.There + b.There, Zeros: a.Zeros + b.Zeros,
		Fetched: a.Fetched + b.Fetched, Copied: a.Copied + b.Copied, Written: a.Written + b.Written,
	}
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
	p := planned{Version: rel.Version, Serial: rel.Serial, Slot: slot, Message: why}
	for _, r := range roles {
		bytes := amountsOf(r.Stats)
		p.Roles, p.Total = append(p.Roles, rolePlan{r.Role, r.Kind, bytes}), p.Total.plus(bytes)
	}
	limit := m.cfg.Update.MaxBytes
	p.Over = limit > 0 && p.Total.Fetched > int64(limit)
	return a.show(p, limit)
}

func (a *app) show(p planned, limit config.Size) error {
	if !a.json {
		a.printPlan(p)
	}
	if !p.Over {
		return a.result(p)
	}
	err := fmt.Errorf("that is more to fetch than update.max_bytes allows: %s", limit)
	return &exitError{exitWaiting, &reported{p, err}}
}

// choose returns the release that would be installed; serial 0: none, and why.
func (m *machine) choose(ctx context.Context, st status, want string) (release.Release, string, error) {
	releases, err := m.source.Offers(ctx)
	if len(st.Trust.Roles) < 2 { // the built-in root alone
		return release.Release{}, "", failure(exitFailed, "nothing is known of the repository yet: run \"evenkeel check\" first")
	}
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

func (a *app) printPlan(p planned) {
	a.say("%s", p.Message)
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "ROLE\tSIZE\tTHERE ALREADY\tZEROS\tTO FETCH\tTO COPY\tTO WRITE\t")
	row := func(name string, b amounts) {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", name, cli.Bytes(b.Total), cli.Bytes(b.There), cli.Bytes(b.Zeros),
			cli.Bytes(b.Fetched), cli.Bytes(b.Copied), cli.Bytes(b.Written))
	}
	for _, r := range p.Roles {
		row(string(r.Role), r.Bytes)
	}
	row("all", p.Total)
	_ = t.Flush() // nobody reads a standard output that fails
}
