package repo

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Role is the name of a TUF role.
type Role string

// The roles of a repository. The last four are delegated by targets.
const (
	RoleRoot      Role = "root"
	RoleTargets   Role = "targets"
	RoleSnapshot  Role = "snapshot"
	RoleTimestamp Role = "timestamp"
	RoleReleases  Role = "releases"
	RolePolicy    Role = "policy"
	RoleApprovers Role = "approvers"
	RoleBrake     Role = "brake"
)

const day = 24 * time.Hour

// roleFacts is what is fixed about a role.
type roleFacts struct {
	role     Role
	online   bool          // its key stays on the publishing machine
	quorum   Quorum        // unless init says otherwise
	lifetime time.Duration // unless told otherwise
	paths    []string      // of a delegated role
}

// facts returns all roles, in the order in which they are listed.
func facts() []roleFacts {
	return []roleFacts{
		{role: RoleRoot, quorum: Quorum{2, 3}, lifetime: 365 * day},
		{role: RoleTargets, quorum: Quorum{2, 3}, lifetime: 365 * day},
		{role: RoleSnapshot, online: true, quorum: Quorum{1, 1}, lifetime: 30 * day},
		{role: RoleTimestamp, online: true, quorum: Quorum{1, 1}, lifetime: 7 * day},
		{role: RoleReleases, quorum: Quorum{2, 3}, lifetime: 365 * day, paths: []string{"releases/*/*.json", "images/*.index"}},
		{role: RolePolicy, quorum: Quorum{2, 3}, lifetime: 365 * day, paths: []string{"policy/rollout.yaml"}},
		{role: RoleApprovers, quorum: Quorum{1, 2}, lifetime: 365 * day, paths: []string{"approvals/*/*"}},
		{role: RoleBrake, online: true, quorum: Quorum{1, 2}, lifetime: 365 * day, paths: []string{"policy/halt.json"}},
	}
}

func factsOf(r Role) (roleFacts, bool) {
	all := facts()
	i := slices.IndexFunc(all, func(f roleFacts) bool { return f.role == r })
	if i < 0 {
		return roleFacts{}, false
	}
	return all[i], true
}

// Roles returns every role, in the order in which they are listed.
func Roles() []Role {
	var roles []Role
	for _, f := range facts() {
		roles = append(roles, f.role)
	}
	return roles
}

// Delegated reports whether targets delegates to r.
func (r Role) Delegated() bool {
	f, ok := factsOf(r)
	return ok && len(f.paths) > 0
}

// Online reports whether a key of r may stay on a machine that is reached from the network: with it one can delay or halt,
// not install.
func (r Role) Online() bool {
	f, ok := factsOf(r)
	return ok && f.online
}

// staged reports whether people sign r in the staging area. The others are made at the moment of publishing.
func (r Role) staged() bool { return r != RoleSnapshot && r != RoleTimestamp }

// delegator is the role whose metadata names the keys of r.
func (r Role) delegator() Role {
	if r.Delegated() {
		return RoleTargets
	}
	return RoleRoot
}

// ParseRole accepts the name of a role.
func ParseRole(name string) (Role, error) {
	if _, ok := factsOf(Role(name)); ok {
		return Role(name), nil
	}
	return "", fmt.Errorf("there is no role %q: the roles are %s", name, join(Roles()))
}

// Quorum is how many keys a role has, and how many of them must sign.
type Quorum struct{ Threshold, Keys int }

// DefaultQuorum is what init gives r unless told otherwise.
func DefaultQuorum(r Role) Quorum {
	f, _ := factsOf(r)
	return f.quorum
}

// DefaultLifetime is how long metadata of r is valid unless told otherwise.
func DefaultLifetime(r Role) time.Duration {
	f, _ := factsOf(r)
	return f.lifetime
}

// ParseQuorum reads "2/3": two signatures of three keys.
func ParseQuorum(text string) (Quorum, error) {
	var q Quorum
	var rest string
	n, _ := fmt.Sscanf(text+" .", "%d/%d %s", &q.Threshold, &q.Keys, &rest)
	if n != 3 || rest != "." {
		return Quorum{}, fmt.Errorf("%q is no quorum: write THRESHOLD/KEYS, as in 2/3", text)
	}
	return q, q.check()
}

func (q Quorum) check() error {
	if q.Threshold < 1 || q.Keys < q.Threshold || q.Keys > 64 {
		return fmt.Errorf("%d signatures of %d keys is no quorum: at least 1 signature, at least as many keys, at most 64", q.Threshold, q.Keys)
	}
	return nil
}

func (q Quorum) String() string { return fmt.Sprintf("%d/%d", q.Threshold, q.Keys) }

func join[T ~string](names []T) string {
	texts := make([]string, len(names))
	for i, n := range names {
		texts[i] = string(n)
	}
	return strings.Join(texts, ", ")
}
