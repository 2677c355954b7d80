package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/evenkeel-os/evenkeel/cmd/internal/cli"
	"github.com/evenkeel-os/evenkeel/tuf/repo"
)

func (a *app) listCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "list releases, roles, and what lacks signatures",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			r, err := a.open()
			if err != nil {
				return err
			}
			l, err := r.List()
			if err != nil {
				return err
			}
			if a.json {
				return a.print(l)
			}
			return a.sayList(l)
		},
	}
}

func (a *app) sayList(l repo.Listing) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PRODUCT\tVERSION\tSERIAL\tARCH\tFOR\tSIZE\tDOWNLOAD\tADDED\tSTATE")
	for _, rel := range l.Releases {
		state := rel.State
		if rel.Missing > 0 {
			state = fmt.Sprintf("%s, lacks %d signatures", state, rel.Missing)
		}
		if rel.Withdrawn != "" {
			state += ": " + rel.Withdrawn
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", rel.Product, rel.Version, rel.Serial, rel.Architecture,
			strings.Join(rel.Compatible, ","), cli.Bytes(rel.Size), cli.Bytes(rel.PackSize), cli.Date(rel.Added), state)
	}
	if len(l.Releases) == 0 {
		fmt.Fprintln(w, "(no release)")
	}
	fmt.Fprintln(w, "\nROLE\tVERSION\tSIGNATURES\tEXPIRES")
	for _, role := range l.Roles {
		expires := cli.Date(role.Expires)
		if role.Expired {
			expires += " (expired)"
		}
		fmt.Fprintf(w, "%s\t%d\t%d of %d keys\t%s\n", role.Role, role.Version, role.Threshold, len(role.Keys), expires)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(l.Staged) > 0 {
		a.say("\nStaged:")
		a.sayPending(l.Staged)
	}
	return nil
}

func (a *app) verifyCommand() *cobra.Command {
	var quick bool
	var within string
	c := &cobra.Command{
		Use:   "verify",
		Short: "check everything that is published, as a host would",
		Long: `Checks every role and its expiry, every release, every index and every byte of every pack, and runs the agent's own
client against the directory, from every root that hosts may still have. Exit code 3 if anything is wrong.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.verify(c.Context(), quick, within) },
	}
	c.Flags().BoolVar(&quick, "quick", false, "leave out the bytes of the packs")
	c.Flags().StringVar(&within, "expiring", "", "complain of metadata that expires within this time (14d, 36h)")
	return c
}

func (a *app) verify(ctx context.Context, quick bool, expiring string) error {
	o := repo.VerifyOptions{Quick: quick}
	if expiring != "" {
		d, err := parseDuration(expiring)
		if err != nil {
			return repo.BadInput("--expiring: %w", err)
		}
		o.Ahead = d
	}
	r, err := a.open()
	if err != nil {
		return err
	}
	v, err := r.Verify(ctx, o)
	if err != nil {
		return err
	}
	if err := a.result(v); err != nil {
		return err
	}
	for _, p := range v.Problems {
		a.say("%s", p)
	}
	if len(v.Problems) > 0 {
		return reported{fmt.Errorf("%w: problems found: %d", repo.ErrInvalid, len(v.Problems))}
	}
	a.say("%s is valid: %d roles, %d releases, %d images, %s of packs.", r.Dir(), len(v.Roles), v.Releases, v.Images, cli.Bytes(v.Packs))
	return nil
}
