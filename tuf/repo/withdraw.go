package repo

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/evenkeel-os/evenkeel/release"
)

// Withdraw stages the next version of "releases" in which a release says that nobody may install it any more, and why. It
// stays there to be read. which is a version or a serial of product; product may be empty where there is only one.
func (r *Repository) Withdraw(product, which, reason string) (release.Release, error) {
	unlock, err := r.o.Lock()
	if err != nil {
		return release.Release{}, err
	}
	defer unlock()
	if strings.TrimSpace(reason) == "" {
		return release.Release{}, BadInput("say why the release is withdrawn: the hosts show it to people")
	}
	g, err := r.loadForStaging(RoleReleases)
	if err != nil {
		return release.Release{}, err
	}
	rel, err := r.find(g, product, which)
	if err != nil {
		return release.Release{}, err
	}
	if rel.Withdrawn != "" {
		return rel, BadInput("%s %s is withdrawn already: %s", rel.Product, rel.Version, rel.Withdrawn)
	}
	rel.Withdrawn = reason
	return rel, r.restage(g, rel)
}

// restage stages the next version of "releases" with rel in place of the release that has its name.
func (r *Repository) restage(g *staging, rel release.Release) error {
	m, err := g.nextTargets(RoleReleases)
	if err != nil {
		return err
	}
	targets := maps.Clone(m.Signed.Targets)
	name := release.TargetName(rel.Product, rel.Serial)
	if targets[name], err = r.putRelease(rel, addedAt(targets[name])); err != nil {
		return err
	}
	return r.stageTargets(g, RoleReleases, targets, m.Signed.Delegations)
}

// find returns the one release that a person means.
func (r *Repository) find(g *staging, product, which string) (release.Release, error) {
	all, err := r.releases(g, product)
	if err != nil {
		return release.Release{}, err
	}
	var found []release.Release
	for _, rel := range all {
		if rel.Version == which || strconv.FormatUint(rel.Serial, 10) == which {
			found = append(found, rel)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return release.Release{}, BadInput("there is no release %q%s", which, ofProduct(product))
	}
	var names []string
	for _, rel := range found {
		names = append(names, fmt.Sprintf("%s serial %d (%s, %s)", rel.Product, rel.Serial, rel.Version, rel.Architecture))
	}
	return release.Release{}, BadInput("%q may be %s: name the product and the serial", which, strings.Join(names, " or "))
}

func ofProduct(product string) string {
	if product == "" {
		return ""
	}
	return fmt.Sprintf(" of product %q", product)
}

// Renew stages the next version of roles with the same content and a new expiry. Without roles it takes every role that
// people sign.
func (r *Repository) Renew(roles ...Role) ([]Role, error) {
	unlock, err := r.o.Lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if len(roles) == 0 {
		roles = slices.DeleteFunc(Roles(), func(role Role) bool { return !role.staged() })
	}
	var g *staging
	for _, role := range roles {
		if !role.staged() {
			return nil, BadInput("%s is renewed by refresh", role)
		}
		if g, err = r.loadForStaging(RoleTargets); err != nil {
			return nil, err
		}
		if err := r.renew(g, role); err != nil {
			return nil, err
		}
	}
	return roles, nil
}

func (r *Repository) renew(g *staging, role Role) error {
	if role == RoleRoot {
		return r.renewRoot(g)
	}
	m, err := g.nextTargets(role)
	if err != nil {
		return err
	}
	if m == nil {
		return BadInput("the repository has no role %s", role)
	}
	return r.stageTargets(g, role, targetsOf(m), m.Signed.Delegations)
}

func targetsOf(m *targetsMeta) map[string]*metadata.TargetFiles {
	if m.Signed.Targets == nil {
		return map[string]*metadata.TargetFiles{}
	}
	return m.Signed.Targets
}

func (r *Repository) renewRoot(g *staging) error {
	m, err := g.nextRoot()
	if err != nil {
		return err
	}
	signed := m.Signed
	signed.Version = g.version(RoleRoot) + 1
	signed.Expires = r.expires(RoleRoot, r.now())
	e, err := newEnvelope(signed)
	if err != nil {
		return err
	}
	g.staged[RoleRoot] = e
	return r.stage(RoleRoot, e)
}
