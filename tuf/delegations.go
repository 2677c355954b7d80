package tuf

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// ErrNoTarget: no trusted role names the target.
var ErrNoTarget = errors.New("no trusted role names it")

// role returns the metadata of a targets role as its delegator vouches for it, from what is there already or fetched.
func (t *chain) role(ctx context.Context, name, delegator string) (*targetsMeta, error) {
	if t.verified[edge{name, delegator}] {
		return t.roles[name], nil
	}
	accept := func(data []byte) error { return t.acceptTargets(data, name, delegator) }
	if data := t.files[name]; data != nil {
		// Loaded for another delegator; the same snapshot vouches for these very bytes.
		err := t.blame(name, metadataPath(name, 0), accept(data))
		return t.roles[name], err
	}
	data := t.local(name)
	if data != nil {
		err := accept(data)
		if err == nil {
			return t.roles[name], nil
		}
		if _, _, perr := parseTargets(data); perr != nil || !t.fetch {
			t.c.store.damaged(fileName(name), err)
		}
	}
	want := t.trusted.Snapshot.Signed.Meta[name+".json"]
	switch {
	case want == nil:
		return nil, &Error{Role: name, Blame: BlameRepository, Err: errors.New("the snapshot does not name it")}
	case !t.fetch:
		return nil, &Error{Role: name, Blame: BlameHost, Err: errors.New("the stored file is missing or does not verify")}
	}
	err := t.fetchRole(ctx, name, want, t.c.o.Limits.Targets, accept)
	return t.roles[name], err
}

func (t *chain) acceptTargets(data []byte, name, delegator string) error {
	m, issued, err := parseTargets(data)
	if err != nil {
		return err
	}
	err = guard(func() error { _, err := t.trusted.UpdateDelegatedTargets(data, name, delegator); return err })
	if err != nil {
		if isExpired(err) {
			err = expiredError(name, "", m.Signed.Expires, t.clock)
		}
		return err
	}
	t.trusted.Targets[name] = usableTargets(m)
	t.roles[name], t.files[name] = m, data
	t.verified[edge{name, delegator}] = true
	if name == roleTargets {
		t.marks.raise(t.root, roleTargets, m.Signed.Version, issued)
		t.setClock(t.marks)
	}
	for _, f := range m.Signed.Targets {
		t.names[hex.EncodeToString(f.Hashes["sha256"])] = true
	}
	return nil
}

// lookup finds what the most trusted role says of a target: the roles are asked depth first, in the order in which they
// are delegated to, and the first that names the target wins. A terminating delegation ends the search.
func (t *chain) lookup(ctx context.Context, name string) (*metadata.TargetFiles, error) {
	stack := []edge{{roleTargets, roleRoot}}
	visited := map[string]bool{}
	for len(stack) > 0 {
		e := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if visited[e.role] {
			continue
		}
		if len(visited) == t.c.o.Limits.Delegations {
			return nil, fmt.Errorf("cannot find target %s: more than %d roles may name it", name, len(visited))
		}
		visited[e.role] = true
		m, err := t.role(ctx, e.role, e.delegator)
		if err != nil {
			return nil, err
		}
		if f := m.Signed.Targets[name]; f != nil {
			return f, nil
		}
		children, terminating := delegates(m.Signed.Delegations, name)
		if terminating {
			stack = nil
		}
		slices.Reverse(children)
		for _, c := range children {
			stack = append(stack, edge{c, e.role})
		}
	}
	return nil, fmt.Errorf("cannot find target %s: %w", name, ErrNoTarget)
}

// delegates returns the roles that may name a target, best first, up to a terminating one.
func delegates(d *metadata.Delegations, target string) (roles []string, terminating bool) {
	if d == nil {
		return nil, false
	}
	if d.SuccinctRoles != nil {
		return []string{bin(d.SuccinctRoles, target)}, true
	}
	for _, r := range d.Roles {
		if !delegated(r, target) {
			continue
		}
		roles = append(roles, r.Name)
		if r.Terminating {
			return roles, true
		}
	}
	return roles, false
}

func delegated(r metadata.DelegatedRole, target string) bool {
	if slices.ContainsFunc(r.Paths, func(p string) bool { return matches(p, target) }) {
		return true
	}
	if len(r.PathHashPrefixes) == 0 {
		return false
	}
	sum := sha256.Sum256([]byte(target))
	digest := hex.EncodeToString(sum[:])
	return slices.ContainsFunc(r.PathHashPrefixes, func(p string) bool { return strings.HasPrefix(digest, p) })
}

// matches reports whether a shell pattern covers a target. A "*" does not match a "/".
func matches(pattern, target string) bool {
	ps, ts := strings.Split(pattern, "/"), strings.Split(target, "/")
	if len(ps) != len(ts) {
		return false
	}
	for i := range ps {
		if ok, err := path.Match(ps[i], ts[i]); !ok || err != nil {
			return false
		}
	}
	return true
}

// bin is the name of the hash bin of a target: the first bits of the SHA-256 of its name.
func bin(s *metadata.SuccinctRoles, target string) string {
	sum := sha256.Sum256([]byte(target))
	first := uint32(sum[0])<<24 | uint32(sum[1])<<16 | uint32(sum[2])<<8 | uint32(sum[3])
	return binName(s, uint64(first>>(32-s.BitLength)))
}

func binName(s *metadata.SuccinctRoles, n uint64) string {
	last := uint64(1)<<s.BitLength - 1
	return fmt.Sprintf("%s-%0*x", s.NamePrefix, len(fmt.Sprintf("%x", last)), n)
}

// list finds all releases of the product. It visits every role that may name one, and then asks lookup for each name, so
// that listing gives no role more say than looking up does.
func (t *chain) list(ctx context.Context) error {
	candidates := map[string]bool{}
	stack := []edge{{roleTargets, roleRoot}}
	visited := map[edge]bool{}
	for len(stack) > 0 {
		e := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if visited[e] {
			continue
		}
		if len(visited) == t.c.o.Limits.Delegations {
			return &Error{Role: e.role, Blame: BlameRepository, Err: fmt.Errorf("more than %d roles may name releases", len(visited))}
		}
		visited[e] = true
		m, err := t.role(ctx, e.role, e.delegator)
		if err != nil {
			return err
		}
		for name := range m.Signed.Targets {
			if _, ok := t.c.serial(name); ok {
				candidates[name] = true
			}
		}
		for _, child := range t.c.listed(m.Signed.Delegations) {
			stack = append(stack, edge{child, e.role})
		}
	}
	return t.resolve(ctx, candidates)
}

// resolve asks lookup for each candidate.
func (t *chain) resolve(ctx context.Context, candidates map[string]bool) error {
	if n := len(candidates); n > t.c.o.Limits.Releases {
		return &Error{Role: roleTargets, Blame: BlameRepository, Err: fmt.Errorf("it names %d releases of %s, and this agent handles %d at most", n, t.c.o.Product, t.c.o.Limits.Releases)}
	}
	for name := range candidates {
		f, err := t.lookup(ctx, name)
		if errors.Is(err, ErrNoTarget) {
			continue // named by a role that may not
		}
		if err != nil {
			return err
		}
		t.targets[name] = f
	}
	return nil
}

// listed returns the roles that may name releases of the product.
func (c *Client) listed(d *metadata.Delegations) (roles []string) {
	if d == nil {
		return nil
	}
	if s := d.SuccinctRoles; s != nil {
		for n := range min(uint64(1)<<s.BitLength, uint64(c.o.Limits.Delegations)+1) {
			roles = append(roles, binName(s, n))
		}
	}
	for _, r := range d.Roles {
		if len(r.PathHashPrefixes) > 0 || slices.ContainsFunc(r.Paths, c.mayList) {
			roles = append(roles, r.Name)
		}
	}
	slices.Reverse(roles)
	return roles
}

// mayList reports whether a pattern may cover releases/PRODUCT/SERIAL.json.
func (c *Client) mayList(pattern string) bool {
	ps := strings.Split(pattern, "/")
	return len(ps) == 3 && matches(ps[0]+"/"+ps[1], "releases/"+c.o.Product)
}
