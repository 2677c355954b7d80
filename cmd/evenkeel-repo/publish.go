package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/evenkeel-os/evenkeel/cmd/internal/cli"
	"github.com/evenkeel-os/evenkeel/tuf/repo"
)

func (a *app) publishCommand() *cobra.Command {
	var roles []string
	c := &cobra.Command{
		Use:   "publish",
		Short: "make public what is signed",
		Long: `Makes everything public that is staged, once all of it is signed. The keys of snapshot and timestamp must be in the
directory of keys. Before anything becomes visible, the agent's own client must accept the result.

It may be killed at any moment: hosts see the old repository or the new one. Run it again to finish.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.publish(c.Context(), roles) },
	}
	c.Flags().StringArrayVar(&roles, "role", nil, "publish this role only; repeatable")
	a.addExpires(c)
	return c
}

func (a *app) publish(ctx context.Context, roleNames []string) error {
	only, err := parseRoles(roleNames)
	if err != nil {
		return err
	}
	return a.switching(func(r *repo.Repository, ring repo.Keyring) (repo.Published, error) {
		return r.Publish(ctx, ring, only...)
	})
}

func (a *app) refreshCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "refresh",
		Short: "say that the repository is still fresh (for cron)",
		Long: `Renews timestamp, and snapshot when half of its validity is over. Nothing else changes. It needs the keys of these two
roles only; run it from cron, several times within the validity of timestamp (7 days unless --expires says otherwise).`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.switching(func(r *repo.Repository, ring repo.Keyring) (repo.Published, error) {
				return r.Refresh(c.Context(), ring, all)
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "renew snapshot too, whatever its age")
	a.addExpires(c)
	return c
}

// switching runs what makes something public, and says what that was.
func (a *app) switching(run func(*repo.Repository, repo.Keyring) (repo.Published, error)) error {
	r, err := a.open()
	if err != nil {
		return err
	}
	ring, err := a.keyDir()
	if err != nil {
		return err
	}
	p, err := run(r, ring)
	if err != nil {
		return err
	}
	for _, role := range p.Roles {
		a.say("%s version %d is public, valid until %s", role.Role, role.Version, cli.Date(role.Expires))
	}
	if len(p.Files) > 0 {
		a.say("\nA mirror must receive the files in this order:")
	}
	for _, name := range p.Files {
		a.say("  %s", name)
	}
	for _, w := range p.Warnings {
		a.say("Warning: %s", w)
	}
	return a.result(p)
}

func (a *app) renewCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "renew [ROLE...]",
		Short: "stage roles with a new expiry, to be signed",
		Long: `Stages the next version of roles with the same content and a new expiry. Without arguments it takes every role that
people sign. Sign and publish come next. (timestamp and snapshot are renewed by refresh.)`,
		RunE: func(_ *cobra.Command, args []string) error { return a.renew(args) },
	}
	a.addExpires(c)
	return c
}

func (a *app) renew(names []string) error {
	roles, err := parseRoles(names)
	if err != nil {
		return err
	}
	r, err := a.open()
	if err != nil {
		return err
	}
	if _, err := r.Renew(roles...); err != nil {
		return err
	}
	return a.staged(r, nil)
}

// staged ends a command that staged something: it shows what lacks signatures. extra is printed with --json.
func (a *app) staged(r *repo.Repository, extra map[string]any) error {
	pending, err := r.Pending()
	if err != nil {
		return err
	}
	a.sayPending(pending)
	res := map[string]any{"staged": pending}
	for k, v := range extra {
		res[k] = v
	}
	return a.result(res)
}

func (a *app) withdrawCommand() *cobra.Command {
	var product, reason string
	c := &cobra.Command{
		Use:   "withdraw VERSION|SERIAL --reason TEXT",
		Short: "stage that nobody may install a release any more",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := a.open()
			if err != nil {
				return err
			}
			rel, err := r.Withdraw(product, args[0], reason)
			if err != nil {
				return err
			}
			a.say("%s %s (serial %d) will be withdrawn.", rel.Product, rel.Version, rel.Serial)
			return a.staged(r, map[string]any{"release": rel})
		},
	}
	c.Flags().StringVar(&product, "product", "", "product of the release, where there are several")
	c.Flags().StringVar(&reason, "reason", "", "why, for the people who look at a host")
	a.addExpires(c)
	return c
}

func (a *app) discardCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "discard",
		Short: "throw away everything that is staged",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			r, err := a.open()
			if err != nil {
				return err
			}
			roles, err := r.Discard()
			if err != nil {
				return err
			}
			if len(roles) == 0 {
				a.say("Nothing was staged.")
			}
			for _, role := range roles {
				a.say("%s: discarded", role)
			}
			return a.result(map[string]any{"discarded": roles})
		},
	}
}
