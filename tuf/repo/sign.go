package repo

import (
	"fmt"
	"slices"
	"strings"
)

// Sign adds one signature to every staged role that s may sign, or to those in only, if any are named. It returns the
// roles that it signed; a role that s had signed before is not among them. A key that may sign nothing is ErrKey, with
// the reason.
func (r *Repository) Sign(s Signer, only ...Role) ([]Role, error) {
	unlock, err := r.o.Lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	g, err := r.loadStaged()
	if err != nil {
		return nil, err
	}
	if err := notInitialised(g); err != nil {
		return nil, err
	}
	may, err := g.maySign(s.Public.ID, only)
	if err != nil {
		return nil, err
	}
	signed := []Role{}
	for _, role := range may {
		did, err := r.signRole(g, role, s)
		if err != nil {
			return signed, err
		}
		if did {
			signed = append(signed, role)
		}
	}
	return signed, nil
}

// MaySign returns the staged roles that a key may sign, of those in only, if any are named. A key that may sign nothing
// is ErrKey, with the reason.
func (r *Repository) MaySign(id KeyID, only ...Role) ([]Role, error) {
	g, err := r.loadStaged()
	if err != nil {
		return nil, err
	}
	if err := notInitialised(g); err != nil {
		return nil, err
	}
	return g.maySign(id, only)
}

// maySign returns the staged roles that a key may sign, or why there is none.
func (g *staging) maySign(id KeyID, only []Role) ([]Role, error) {
	wanted := slices.DeleteFunc(Roles(), func(role Role) bool {
		return g.staged[role] == nil || len(only) > 0 && !slices.Contains(only, role)
	})
	if len(wanted) == 0 {
		if len(only) > 0 {
			return nil, BadInput("nothing is staged for %s", join(only))
		}
		return nil, BadInput("nothing is staged, so there is nothing to sign")
	}
	var may []Role
	for _, role := range wanted {
		ok, err := g.holds(role, id)
		if err != nil {
			return nil, err
		}
		if ok {
			may = append(may, role)
		}
	}
	if len(may) == 0 {
		return nil, g.refuse(id, wanted)
	}
	return may, nil
}

func (g *staging) holds(role Role, id KeyID) (bool, error) {
	authorities, err := g.authorities(role)
	if err != nil {
		return false, err
	}
	for _, a := range authorities {
		if _, ok := a.key(id); ok {
			return true, nil
		}
	}
	return false, nil
}

// refuse says why a key may sign none of the wanted roles.
func (g *staging) refuse(id KeyID, wanted []Role) error {
	var of []Role
	for _, role := range Roles() {
		if ok, err := g.holds(role, id); err == nil && ok {
			of = append(of, role)
		}
	}
	if len(of) == 0 {
		return fmt.Errorf("%w: key %s belongs to no role of this repository", ErrKey, id.Short())
	}
	return fmt.Errorf("%w: key %s belongs to %s, but what is staged is %s", ErrKey, id.Short(), join(of), join(wanted))
}

func (r *Repository) signRole(g *staging, role Role, s Signer) (bool, error) {
	e := g.staged[role]
	authorities, err := g.authorities(role)
	if err != nil {
		return false, err
	}
	for _, a := range authorities {
		signed, err := e.signedBy(a)
		if err != nil {
			return false, err
		}
		if slices.Contains(signed, s.Public.ID) {
			return false, nil
		}
	}
	if err := e.sign(s); err != nil {
		return false, err
	}
	return true, r.stage(role, e)
}

// Merge takes over the signatures of another copy of a staged role, which two people signed at the same time. It returns
// the keys whose signatures are new here.
func (r *Repository) Merge(role Role, data []byte) ([]KeyID, error) {
	unlock, err := r.o.Lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	g, err := r.loadStaged()
	if err != nil {
		return nil, err
	}
	mine := g.staged[role]
	if mine == nil {
		return nil, BadInput("nothing is staged for %s", role)
	}
	theirs, _, err := parseStaged(role, data)
	if err != nil {
		return nil, BadInput("the other copy of %s: %w", role, err)
	}
	if !sameSigned(mine, theirs) {
		return nil, BadInput("the other copy of %s is of something else than what is staged here", role)
	}
	return r.merge(g, role, theirs)
}

func (r *Repository) merge(g *staging, role Role, theirs *envelope) ([]KeyID, error) {
	mine := g.staged[role]
	authorities, err := g.authorities(role)
	if err != nil {
		return nil, err
	}
	added := []KeyID{}
	for _, a := range authorities {
		valid, err := theirs.signedBy(a)
		if err != nil {
			return nil, err
		}
		have, err := mine.signedBy(a)
		if err != nil {
			return nil, err
		}
		for _, sig := range theirs.Signatures {
			id := KeyID(sig.KeyID)
			if slices.Contains(valid, id) && !slices.Contains(have, id) && !slices.Contains(added, id) {
				mine.put(sig)
				added = append(added, id)
			}
		}
	}
	if len(added) == 0 {
		return added, nil
	}
	return added, r.stage(role, mine)
}

// outstanding describes what is missing until everything can be published.
func outstanding(all []Pending) error {
	var lines []string
	for _, p := range all {
		if p.Missing > 0 {
			lines = append(lines, fmt.Sprintf("%s lacks %s (of %s)", p.Role, plural(p.Missing, "signature"), shortIDs(p.MayNow)))
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrUnsigned, strings.Join(lines, "; "))
}

func shortIDs(ids []KeyID) string {
	short := make([]string, len(ids))
	for i, id := range ids {
		short[i] = id.Short()
	}
	return strings.Join(short, ", ")
}
