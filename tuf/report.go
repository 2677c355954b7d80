package tuf

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Report says what this host trusts, for status and for people.
type Report struct {
	Clock    Clock            `json:"clock"`
	Roles    []RoleReport     `json:"roles"`              // from the root down; empty but for the root before the first refresh
	Marks    map[string]int64 `json:"marks,omitempty"`    // highest version ever verified, by role
	Problems []string         `json:"problems,omitempty"` // releases that are named and cannot be used, and why
	Expired  string           `json:"expired,omitempty"`  // why the set in force is too old, as a sentence
}

// RoleReport is one role of the set in force.
type RoleReport struct {
	Name      string    `json:"name"`
	Delegator string    `json:"delegator,omitempty"`
	Version   int64     `json:"version"`
	Expires   time.Time `json:"expires"`
	Issued    time.Time `json:"issued,omitzero"`
	Keys      []string  `json:"keys"` // ids of those who may sign
	Threshold int       `json:"threshold"`
	Targets   int       `json:"targets,omitempty"` // how many files it names
}

// Report returns what is trusted now. It needs no network and no lock.
func (c *Client) Report() Report {
	marks := c.store.readMarks()
	r := Report{Clock: c.clock(marks), Marks: map[string]int64{}}
	for role, m := range marks.Roles {
		r.Marks[role] = m.Version
	}
	v := c.shown()
	if v == nil {
		root, _ := builtIn(c.o.Root)
		r.Roles = []RoleReport{describe(roleRoot, roleRoot, root.Signed.Version, root.Signed.Expires, root.Signed.Roles[roleRoot], nil)}
		return r
	}
	r.Roles, r.Problems = slices.Clone(v.roles), slices.Clone(v.problems)
	if err := c.fresh(v); err != nil {
		r.Expired = err.Error()
	}
	return r
}

// FirstToExpire returns the role of r that expires first.
func (r Report) FirstToExpire() RoleReport {
	if len(r.Roles) == 0 {
		return RoleReport{}
	}
	return slices.MinFunc(r.Roles, func(a, b RoleReport) int { return a.Expires.Compare(b.Expires) })
}

func (t *chain) report() []RoleReport {
	root, ts, snap := t.root.Signed, t.trusted.Timestamp.Signed, t.trusted.Snapshot.Signed
	roles := []RoleReport{
		describe(roleRoot, "", root.Version, root.Expires, root.Roles[roleRoot], root.UnrecognizedFields),
		describe(roleTimestamp, roleRoot, ts.Version, ts.Expires, root.Roles[roleTimestamp], ts.UnrecognizedFields),
		describe(roleSnapshot, roleRoot, snap.Version, snap.Expires, root.Roles[roleSnapshot], snap.UnrecognizedFields),
	}
	edges := slices.SortedFunc(maps.Keys(t.verified), func(a, b edge) int {
		return cmp.Or(compareTop(a, b), cmp.Compare(a.role, b.role), cmp.Compare(a.delegator, b.delegator))
	})
	for _, e := range edges {
		s := t.roles[e.role].Signed
		r := describe(e.role, e.delegator, s.Version, s.Expires, t.signers(e), s.UnrecognizedFields)
		r.Targets = len(s.Targets)
		roles = append(roles, r)
	}
	return roles
}

func compareTop(a, b edge) int {
	switch {
	case a.role == roleTargets && b.role != roleTargets:
		return -1
	case b.role == roleTargets && a.role != roleTargets:
		return 1
	}
	return 0
}

// signers returns who may sign a targets role, by its delegator.
func (t *chain) signers(e edge) *metadata.Role {
	if e.delegator == roleRoot {
		return t.root.Signed.Roles[e.role]
	}
	d := t.roles[e.delegator].Signed.Delegations
	if s := d.SuccinctRoles; s != nil {
		return &metadata.Role{KeyIDs: s.KeyIDs, Threshold: s.Threshold}
	}
	for _, r := range d.Roles {
		if r.Name == e.role {
			return &metadata.Role{KeyIDs: r.KeyIDs, Threshold: r.Threshold}
		}
	}
	return nil
}

func describe(name, delegator string, version int64, expires time.Time, who *metadata.Role, fields map[string]any) RoleReport {
	r := RoleReport{Name: name, Delegator: delegator, Version: version, Expires: expires.UTC()}
	r.Issued, _ = issuedAt(fields, expires)
	if who != nil {
		r.Keys, r.Threshold = slices.Clone(who.KeyIDs), who.Threshold
	}
	return r
}
