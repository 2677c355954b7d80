package repo

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/evenkeel-os/evenkeel/release"
)

// Listing is what there is, published and staged.
type Listing struct {
	Releases []ListedRelease `json:"releases"`
	Roles    []ListedRole    `json:"roles"`
	Staged   []Pending       `json:"staged"`
}

// ListedRelease is one release.
type ListedRelease struct {
	Product      string    `json:"product"`
	Version      string    `json:"version"`
	Serial       uint64    `json:"serial"`
	Architecture string    `json:"architecture"`
	Compatible   []string  `json:"compatible"`
	Size         int64     `json:"size"`      // bytes of all images
	PackSize     int64     `json:"pack_size"` // bytes of all packs: what a full download transfers
	State        string    `json:"state"`     // StatePublished, StateStaged, StateWithdrawn
	Added        time.Time `json:"added,omitzero"`
	Missing      int       `json:"missing_signatures"`
	Withdrawn    string    `json:"withdrawn,omitempty"`
	Notes        string    `json:"notes,omitempty"`
}

// States of a listed release.
const (
	StatePublished = "published"
	StateStaged    = "staged" // new, or changed: not public in this form yet
	StateWithdrawn = "withdrawn"
)

// ListedRole is one published role.
type ListedRole struct {
	Role      Role      `json:"role"`
	Version   int64     `json:"version"`
	Issued    time.Time `json:"issued,omitzero"`
	Expires   time.Time `json:"expires"`
	Expired   bool      `json:"expired"`
	Threshold int       `json:"threshold"`
	Keys      []KeyID   `json:"keys"`
}

// List returns what there is.
func (r *Repository) List() (Listing, error) {
	g, err := r.loadStaged()
	if err != nil {
		return Listing{}, err
	}
	if err := notInitialised(g); err != nil {
		return Listing{}, err
	}
	l := Listing{Releases: []ListedRelease{}, Roles: r.listRoles(g)}
	if l.Staged, err = r.pending(g); err != nil {
		return Listing{}, err
	}
	missing := 0
	for _, p := range l.Staged {
		if p.Role == RoleReleases {
			missing = p.Missing
		}
	}
	l.Releases, err = r.listReleases(g, missing)
	return l, err
}

func (r *Repository) listRoles(g *staging) []ListedRole {
	roles := []ListedRole{}
	for _, role := range g.roles() {
		h, ok := g.header(role)
		if !ok {
			continue
		}
		a := rootAuthority(g.root, role)
		if role.Delegated() {
			a = delegatedAuthority(g.targets[RoleTargets], role)
		}
		roles = append(roles, ListedRole{
			Role: role, Version: h.Version, Issued: h.Issued, Expires: h.Expires,
			Expired: !r.now().Before(h.Expires), Threshold: a.Threshold, Keys: a.ids(),
		})
	}
	return roles
}

func (r *Repository) listReleases(g *staging, missing int) ([]ListedRelease, error) {
	all, err := r.releases(g, "")
	if err != nil {
		return nil, err
	}
	next, err := g.nextTargets(RoleReleases)
	if err != nil {
		return nil, err
	}
	changed := []string{}
	if g.staged[RoleReleases] != nil {
		changed = newTargets(g, next)
	}
	list := []ListedRelease{}
	for _, rel := range all {
		item, err := r.listRelease(rel)
		if err != nil {
			return nil, err
		}
		if slices.Contains(changed, release.TargetName(rel.Product, rel.Serial)) {
			item.State, item.Missing = StateStaged, missing
		}
		item.Added = addedAt(next.Signed.Targets[release.TargetName(rel.Product, rel.Serial)])
		list = append(list, item)
	}
	return list, nil
}

func (r *Repository) listRelease(rel release.Release) (ListedRelease, error) {
	item := ListedRelease{
		Product: rel.Product, Version: rel.Version, Serial: rel.Serial, Architecture: rel.Architecture,
		Compatible: rel.Compatible, State: StatePublished, Withdrawn: rel.Withdrawn, Notes: rel.Notes,
	}
	if rel.Withdrawn != "" {
		item.State = StateWithdrawn
	}
	for _, im := range rel.Images {
		size, err := r.packSize(im, true)
		if err != nil {
			return item, err
		}
		item.Size += im.Size
		item.PackSize += size
	}
	return item, nil
}

// changes says what publishing the staged version of a role does, for those who are asked to sign it.
func (r *Repository) changes(g *staging, role Role) ([]string, error) {
	if g.version(role) == 0 {
		return []string{"it is the first version"}, nil
	}
	if role == RoleRoot {
		return []string{"it renews the expiry; keys and thresholds stay as they are"}, nil
	}
	next, err := g.nextTargets(role)
	if err != nil {
		return nil, err
	}
	if role == RoleReleases {
		return r.releaseChanges(g, next)
	}
	if len(newNames(g.targets[role], next)) == 0 {
		return []string{"it renews the expiry"}, nil
	}
	return newNames(g.targets[role], next), nil
}

func newNames(old, next *targetsMeta) []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(next.Signed.Targets)) {
		if f := old.Signed.Targets[name]; f == nil || digestOf(f) != digestOf(next.Signed.Targets[name]) {
			lines = append(lines, fmt.Sprintf("target %s: SHA-256 %s", name, digestOf(next.Signed.Targets[name])))
		}
	}
	return lines
}

func (r *Repository) releaseChanges(g *staging, next *targetsMeta) ([]string, error) {
	lines := []string{}
	for _, name := range newTargets(g, next) {
		if _, ok := productOf(name); !ok {
			continue
		}
		rel, err := r.readRelease(name, next.Signed.Targets[name])
		if err != nil {
			return nil, err
		}
		if rel.Withdrawn != "" {
			lines = append(lines, fmt.Sprintf("%s %s (serial %d) is withdrawn: %s", rel.Product, rel.Version, rel.Serial, rel.Withdrawn))
			continue
		}
		lines = append(lines, fmt.Sprintf("new release %s %s (serial %d) for %s", rel.Product, rel.Version, rel.Serial, rel.Architecture))
		for _, im := range rel.Images {
			lines = append(lines, fmt.Sprintf("  %s: %d bytes, SHA-256 %s", im.Role, im.Size, im.SHA256))
		}
	}
	for name := range g.targets[RoleReleases].Signed.Targets {
		if next.Signed.Targets[name] == nil {
			lines = append(lines, "no longer there: "+name)
		}
	}
	if len(lines) == 0 {
		lines = append(lines, "it renews the expiry")
	}
	return lines, nil
}
