package repo

import (
	"errors"
	"maps"
	"path"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Keys are the keys of a role and how many of them must sign.
type Keys struct {
	Threshold int
	Keys      []PublicKey
}

// Init stages version 1 of every role that people sign. It is published like everything else: with Sign and Publish.
// keys names the keys of every role.
func (r *Repository) Init(keys map[Role]Keys) error {
	unlock, err := r.o.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := r.Free(); err != nil {
		return err
	}
	g, err := r.loadStaged()
	if err != nil {
		return err
	}
	if err := checkKeys(keys); err != nil {
		return err
	}
	if err := r.stageRoot(g, keys); err != nil {
		return err
	}
	if err := r.stageTargets(g, RoleTargets, map[string]*metadata.TargetFiles{}, delegations(keys)); err != nil {
		return err
	}
	for _, role := range Roles() {
		if role.Delegated() {
			if err := r.stageTargets(g, role, map[string]*metadata.TargetFiles{}, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// Free refuses a directory that holds a repository already, or the beginning of one.
func (r *Repository) Free() error {
	for _, name := range []string{path.Join(metadataDir, metadataName(RoleRoot, 1)), stagedName(RoleRoot)} {
		if ok, err := r.exists(name); ok || err != nil {
			return errors.Join(err, BadInput("there is a repository in %s already: choose another directory", r.o.Dir))
		}
	}
	return nil
}

func checkKeys(keys map[Role]Keys) error {
	for _, role := range Roles() {
		k := keys[role]
		if err := (Quorum{k.Threshold, len(k.Keys)}).check(); err != nil {
			return BadInput("role %s: %w", role, err)
		}
		ids := map[KeyID]bool{}
		for _, key := range k.Keys {
			if ids[key.ID] {
				return BadInput("role %s has key %s twice, which would count once", role, key.ID.Short())
			}
			ids[key.ID] = true
		}
		// One stolen machine must not be able to say both what exists and that it is fresh.
		if !role.staged() {
			if other, ok := sharedOffline(keys, role); ok {
				return BadInput("role %s has a key of role %s, but that one must stay offline: give them different keys", role, other)
			}
		}
	}
	return nil
}

func sharedOffline(keys map[Role]Keys, online Role) (Role, bool) {
	for _, other := range Roles() {
		if other.Online() {
			continue
		}
		for _, a := range keys[online].Keys {
			if slices.ContainsFunc(keys[other].Keys, func(b PublicKey) bool { return a.ID == b.ID }) {
				return other, true
			}
		}
	}
	return "", false
}

func (r *Repository) stageRoot(g *staging, keys map[Role]Keys) error {
	signed := metadata.RootType{
		Type: metadata.ROOT, SpecVersion: specVersion, ConsistentSnapshot: true, Version: 1,
		Expires: r.expires(RoleRoot, r.now()), Keys: map[string]*metadata.Key{}, Roles: map[string]*metadata.Role{},
	}
	for _, role := range Roles() {
		if !role.Delegated() {
			signed.Roles[string(role)] = &metadata.Role{KeyIDs: keyIDs(keys[role]), Threshold: keys[role].Threshold}
			maps.Copy(signed.Keys, publicKeys(keys[role]))
		}
	}
	e, err := newEnvelope(signed)
	if err != nil {
		return err
	}
	g.staged[RoleRoot] = e
	return r.stage(RoleRoot, e)
}

func delegations(keys map[Role]Keys) *metadata.Delegations {
	d := &metadata.Delegations{Keys: map[string]*metadata.Key{}}
	for _, f := range facts() {
		if len(f.paths) == 0 {
			continue
		}
		k := keys[f.role]
		// Terminating: the paths of the roles are disjoint, and shall stay so.
		d.Roles = append(d.Roles, metadata.DelegatedRole{
			Name: string(f.role), KeyIDs: keyIDs(k), Threshold: k.Threshold, Terminating: true, Paths: f.paths,
		})
		maps.Copy(d.Keys, publicKeys(k))
	}
	return d
}

func keyIDs(k Keys) []string {
	ids := make([]string, len(k.Keys))
	for i, key := range k.Keys {
		ids[i] = string(key.ID)
	}
	return ids
}

func publicKeys(k Keys) map[string]*metadata.Key {
	m := map[string]*metadata.Key{}
	for _, key := range k.Keys {
		m[string(key.ID)] = key.key
	}
	return m
}
