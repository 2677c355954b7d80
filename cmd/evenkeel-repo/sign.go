package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/evenkeel-os/evenkeel/cmd/internal/cli"
	"github.com/evenkeel-os/evenkeel/tuf/repo"
)

func (a *app) signCommand() *cobra.Command {
	var keys, roles, merge []string
	c := &cobra.Command{
		Use:   "sign",
		Short: "add signatures to what is staged",
		Long: `Shows what is staged, and adds one signature of each key to every role that the key may sign. The order in which people
sign does not matter. They may work on copies of metadata/ and staged/, one after another, or at the same time: --merge
takes over the signatures of another copy of a staged file.

Without --key, the keys in the directory of keys sign, as many as are needed.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.sign(keys, roles, merge) },
	}
	c.Flags().StringArrayVar(&keys, "key", nil, "key file to sign with; repeatable")
	c.Flags().StringArrayVar(&roles, "role", nil, "sign this role only; repeatable")
	c.Flags().StringArrayVar(&merge, "merge", nil, "other copy of staged/metadata/ROLE.json to take signatures from; repeatable")
	return c
}

// signResult is what sign --json prints.
type signResult struct {
	Signed []signature    `json:"signed"`
	Staged []repo.Pending `json:"staged"`
}

type signature struct {
	Role repo.Role  `json:"role"`
	ID   repo.KeyID `json:"keyid"`
}

func (a *app) sign(keyFiles, roleNames, merge []string) error {
	r, err := a.open()
	if err != nil {
		return err
	}
	only, err := parseRoles(roleNames)
	if err != nil {
		return err
	}
	before, err := r.Pending()
	if err != nil {
		return err
	}
	a.sayChanges(before, only)
	res := signResult{Signed: []signature{}}
	if res.Signed, err = a.merge(r, merge, res.Signed); err != nil {
		return err
	}
	if len(merge) == 0 || len(keyFiles) > 0 {
		if res.Signed, err = a.signWithKeys(r, keyFiles, only, res.Signed); err != nil {
			return err
		}
	}
	if res.Staged, err = r.Pending(); err != nil {
		return err
	}
	for _, s := range res.Signed {
		a.say("%s: signed by %s", s.Role, s.ID.Short())
	}
	if len(res.Signed) == 0 {
		a.say("Nothing new: these keys have signed already, or no more signatures are needed.")
	}
	a.sayPending(res.Staged)
	return a.result(res)
}

func parseRoles(names []string) ([]repo.Role, error) {
	var roles []repo.Role
	for _, name := range names {
		role, err := repo.ParseRole(name)
		if err != nil {
			return nil, repo.BadInput("%w", err)
		}
		roles = append(roles, role)
	}
	return roles, nil
}

// merge takes signatures over from copies; the name of a file says of which role it is.
func (a *app) merge(r *repo.Repository, files []string, signed []signature) ([]signature, error) {
	for _, file := range files {
		role, err := repo.ParseRole(strings.TrimSuffix(filepath.Base(file), ".json"))
		if err != nil {
			return nil, repo.BadInput("--merge %s: the file is called like its role, as in releases.json", file)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("cannot read the other copy: %w", err)
		}
		ids, err := r.Merge(role, data)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			signed = append(signed, signature{Role: role, ID: id})
		}
	}
	return signed, nil
}

func (a *app) signWithKeys(r *repo.Repository, keyFiles []string, only []repo.Role, signed []signature) ([]signature, error) {
	ring, err := a.keyDir()
	if err != nil {
		return nil, err
	}
	if len(keyFiles) == 0 {
		return signFromDir(r, ring, only, signed)
	}
	for _, path := range keyFiles {
		file, err := ring.Read(path)
		if err != nil {
			return nil, err
		}
		roles, err := r.MaySign(file.ID, only...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		signer, err := ring.Signer(file, roles[0])
		if err != nil {
			return nil, err
		}
		done, err := r.Sign(signer, only...)
		for _, role := range done {
			signed = append(signed, signature{Role: role, ID: file.ID})
		}
		if err != nil {
			return nil, err
		}
	}
	return signed, nil
}

// signFromDir signs with as many keys of the directory as are needed.
func signFromDir(r *repo.Repository, ring *repo.KeyDir, only []repo.Role, signed []signature) ([]signature, error) {
	files, err := ring.Files()
	if err != nil {
		return nil, err
	}
	pending, err := r.Pending()
	if err != nil {
		return nil, err
	}
	if len(pending) == 0 {
		return nil, repo.BadInput("nothing is staged, so there is nothing to sign")
	}
	usable := 0
	for _, p := range pending {
		if len(only) > 0 && !slices.Contains(only, p.Role) {
			continue
		}
		left := p.Missing
		for _, f := range files {
			if !slices.Contains(p.MayNow, f.ID) {
				continue
			}
			usable++
			if left <= 0 {
				continue
			}
			signer, err := ring.Signer(f, p.Role)
			if err != nil {
				return nil, err
			}
			if _, err := r.Sign(signer, p.Role); err != nil {
				return nil, err
			}
			signed = append(signed, signature{Role: p.Role, ID: f.ID})
			left--
		}
	}
	if usable == 0 && missing(pending) > 0 {
		return nil, fmt.Errorf("%w: no key in %s may sign what is staged: name one with --key", repo.ErrKey, ring.Dir)
	}
	return signed, nil
}

// sayChanges shows people what they are about to sign.
func (a *app) sayChanges(pending []repo.Pending, only []repo.Role) {
	for _, p := range pending {
		if len(only) > 0 && !slices.Contains(only, p.Role) {
			continue
		}
		a.say("%s version %d, valid until %s:", p.Role, p.Version, cli.Date(p.Expires))
		for _, line := range p.Changes {
			a.say("  %s", line)
		}
	}
}

// sayPending shows what is staged, and what it lacks.
func (a *app) sayPending(pending []repo.Pending) {
	for _, p := range pending {
		if p.Missing == 0 {
			a.say("%s version %d: complete", p.Role, p.Version)
			continue
		}
		var ids []string
		for _, id := range p.MayNow {
			ids = append(ids, id.Short())
		}
		a.say("%s version %d: %d of %d signatures; any of these may sign: %s", p.Role, p.Version, p.Threshold-p.Missing, p.Threshold, strings.Join(ids, ", "))
	}
	if len(pending) > 0 && missing(pending) == 0 {
		a.say("Everything is signed: evenkeel-repo publish makes it public.")
	}
}
