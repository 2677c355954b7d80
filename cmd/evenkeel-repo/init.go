package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/evenkeel-os/evenkeel/tuf/repo"
)

func (a *app) initCommand() *cobra.Command {
	var quorums, public []string
	c := &cobra.Command{
		Use:   "init",
		Short: "make keys, roles and an empty repository",
		Long: `Makes the keys of every role, each in a file of its own, encrypted with a passphrase, and an empty repository that they
have signed. Then it says which keys belong offline.

The roles, with their default quorums (signatures needed / keys):

` + roleTable() + `
The keys of people who made their own (evenkeel-repo key new) come in with --public ROLE=FILE and count among the keys of
the role; init makes the others. Where the keys at hand do not suffice, everything is left staged: the others sign, and
evenkeel-repo publish ends it.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.init(c.Context(), quorums, public) },
	}
	c.Flags().StringArrayVar(&quorums, "role", nil, "quorum of a role, as ROLE=THRESHOLD/KEYS; ROLE may be \"all\"; repeatable")
	c.Flags().StringArrayVar(&public, "public", nil, "public key of somebody else, as ROLE=FILE; repeatable")
	a.addExpires(c)
	return c
}

func roleTable() string {
	does := map[repo.Role]string{
		repo.RoleRoot:      "says who holds all other keys; offline",
		repo.RoleTargets:   "delegates to the roles below; offline",
		repo.RoleSnapshot:  "keeps old and new from being mixed; online",
		repo.RoleTimestamp: "says what is current; online",
		repo.RoleReleases:  "says which releases exist; offline",
		repo.RolePolicy:    "says who may update when, and how far; offline",
		repo.RoleApprovers: "open a gate for one release and group; offline",
		repo.RoleBrake:     "can halt, and nothing else; may be online",
	}
	var b strings.Builder
	for _, role := range repo.Roles() {
		fmt.Fprintf(&b, "  %-10s %-5s %s\n", role, repo.DefaultQuorum(role), does[role])
	}
	return b.String()
}

func (a *app) init(ctx context.Context, quorums, public []string) error {
	r, err := a.open()
	if err != nil {
		return err
	}
	ring, err := a.keyDir()
	if err != nil {
		return err
	}
	if err := r.Free(); err != nil {
		return err
	}
	plan, err := planKeys(quorums, public)
	if err != nil {
		return err
	}
	made, keys, err := a.makeKeys(ctx, ring, plan)
	if err != nil {
		return err
	}
	if err := r.Init(keys); err != nil {
		return err
	}
	if err := signWith(r, made); err != nil {
		return err
	}
	return a.finishInit(ctx, r, ring, made)
}

// rolePlan is what init is to do for one role.
type rolePlan struct {
	quorum repo.Quorum
	public []repo.PublicKey
}

func planKeys(quorums, public []string) (map[repo.Role]rolePlan, error) {
	plan := map[repo.Role]rolePlan{}
	for _, role := range repo.Roles() {
		plan[role] = rolePlan{quorum: repo.DefaultQuorum(role)}
	}
	for _, text := range quorums {
		name, quorum, _ := strings.Cut(text, "=")
		q, err := repo.ParseQuorum(quorum)
		if err != nil {
			return nil, repo.BadInput("--role %s: %w", text, err)
		}
		roles, err := rolesNamed(name)
		if err != nil {
			return nil, repo.BadInput("--role %s: %w", text, err)
		}
		for _, role := range roles {
			plan[role] = rolePlan{quorum: q, public: plan[role].public}
		}
	}
	return plan, addPublic(plan, public)
}

func rolesNamed(name string) ([]repo.Role, error) {
	if name == "all" {
		return repo.Roles(), nil
	}
	role, err := repo.ParseRole(name)
	return []repo.Role{role}, err
}

func addPublic(plan map[repo.Role]rolePlan, public []string) error {
	for _, text := range public {
		name, file, ok := strings.Cut(text, "=")
		role, err := repo.ParseRole(name)
		if err != nil || !ok {
			return repo.BadInput("--public %s: write ROLE=FILE", text)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("cannot read public key: %w", err)
		}
		key, err := repo.ParsePublicKey(data)
		if err != nil {
			return repo.BadInput("%s: %w", file, err)
		}
		p := plan[role]
		p.public = append(p.public, key)
		if len(p.public) > p.quorum.Keys {
			return repo.BadInput("role %s has %d keys, but %d public ones are given: say --role %s=THRESHOLD/%d",
				role, p.quorum.Keys, len(p.public), role, len(p.public))
		}
		plan[role] = p
	}
	return nil
}

// madeKey is a key that init made.
type madeKey struct {
	role   repo.Role
	signer repo.Signer
	file   repo.KeyFile
}

// makeKeys makes the keys that nobody brought, and returns all keys of all roles. Encrypting takes its time on purpose; who
// stops it leaves nothing behind, for the keys are saved together at the end.
func (a *app) makeKeys(ctx context.Context, ring *repo.KeyDir, plan map[repo.Role]rolePlan) ([]madeKey, map[repo.Role]repo.Keys, error) {
	if err := ring.Free(newNames(plan)...); err != nil {
		return nil, nil, err
	}
	secrets := &passphrases{app: a}
	var made []madeKey
	keys := map[repo.Role]repo.Keys{}
	for _, role := range repo.Roles() {
		p := plan[role]
		k := repo.Keys{Threshold: p.quorum.Threshold, Keys: p.public}
		for _, name := range namesOf(role, p) {
			if ctx.Err() != nil {
				return nil, nil, fmt.Errorf("stopped, and nothing was made: %w", context.Cause(ctx))
			}
			m, err := a.makeKey(secrets, role, name)
			if err != nil {
				return nil, nil, err
			}
			made = append(made, m)
			k.Keys = append(k.Keys, m.signer.Public)
		}
		keys[role] = k
	}
	return made, keys, saveKeys(ring, made)
}

func saveKeys(ring *repo.KeyDir, made []madeKey) error {
	for _, m := range made {
		if err := ring.Save(m.file); err != nil {
			return err
		}
		ring.Add(m.signer)
	}
	return nil
}

func newNames(plan map[repo.Role]rolePlan) []string {
	var names []string
	for _, role := range repo.Roles() {
		names = append(names, namesOf(role, plan[role])...)
	}
	return names
}

func namesOf(role repo.Role, p rolePlan) []string {
	var names []string
	for n := range p.quorum.Keys - len(p.public) {
		names = append(names, fmt.Sprintf("%s-%d", role, n+1))
	}
	return names
}

func (a *app) makeKey(secrets *passphrases, role repo.Role, name string) (madeKey, error) {
	secret, err := secrets.choose(role, "the new keys")
	if err != nil {
		return madeKey{}, err
	}
	a.note("making and encrypting key " + name)
	file, signer, err := repo.NewKey(name, secret, a.work)
	return madeKey{role: role, signer: signer, file: file}, err
}

// signWith gives each role the signatures of the keys that init made.
func signWith(r *repo.Repository, made []madeKey) error {
	pending, err := r.Pending()
	if err != nil {
		return err
	}
	for _, p := range pending {
		left := p.Missing
		for _, k := range made {
			if k.role != p.Role || left == 0 {
				continue
			}
			if _, err := r.Sign(k.signer, p.Role); err != nil {
				return err
			}
			left--
		}
	}
	return nil
}

// initResult is what init --json prints.
type initResult struct {
	Repository string          `json:"repository"`
	Keys       []initKey       `json:"keys"`
	Published  *repo.Published `json:"published"` // null: signatures are outstanding
	Staged     []repo.Pending  `json:"staged"`
}

type initKey struct {
	Role    repo.Role  `json:"role"`
	ID      repo.KeyID `json:"keyid"`
	File    string     `json:"file"`
	Offline bool       `json:"offline"` // it must not stay on a machine that is reached from the network
}

func (a *app) finishInit(ctx context.Context, r *repo.Repository, ring *repo.KeyDir, made []madeKey) error {
	res := initResult{Repository: r.Dir(), Keys: []initKey{}, Staged: []repo.Pending{}}
	for _, k := range made {
		res.Keys = append(res.Keys, initKey{Role: k.role, ID: k.signer.Public.ID, File: ring.Path(k.signer.Name), Offline: !k.role.Online()})
	}
	a.sayKeys(res.Keys)
	pending, err := r.Pending()
	if err != nil {
		return err
	}
	if missing(pending) == 0 {
		p, err := r.Publish(ctx, ring)
		if err != nil {
			return err
		}
		res.Published = &p
		a.say("\nThe repository in %s is ready. Hosts need %s/metadata/1.root.json in their image.", r.Dir(), r.Dir())
	} else {
		res.Staged = pending
		a.say("")
		a.sayPending(pending)
	}
	return a.result(res)
}

func (a *app) sayKeys(keys []initKey) {
	for _, offline := range []bool{true, false} {
		if offline {
			a.say("Take these keys offline, to different people and places, each with a copy, and remove them here:")
		} else {
			a.say("\nThese may stay on the publishing machine:")
		}
		for _, k := range keys {
			if k.Offline == offline {
				a.say("  %-10s %s  %s", k.Role, k.ID.Short(), k.File)
			}
		}
	}
	a.say("A key without its passphrase is lost. Neither can be recovered.")
}

func missing(pending []repo.Pending) (n int) {
	for _, p := range pending {
		n += p.Missing
	}
	return n
}
