package repo

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/evenkeel-os/evenkeel/internal/durable"
	"github.com/evenkeel-os/evenkeel/release"
)

var (
	stagedMetadata = path.Join(stagedDir, metadataDir)
	stagedTargets  = path.Join(stagedDir, targetsDir)
)

func stagedName(role Role) string { return path.Join(stagedMetadata, string(role)+".json") }

// staging is what people are signing: the next version of some roles, over what is published.
type staging struct {
	*state
	staged map[Role]*envelope
	done   []Role // staged files whose content is published already: a publisher was killed before it removed them
}

// loadStaged reads what is published and what is staged.
func (r *Repository) loadStaged() (*staging, error) {
	s, err := r.load()
	if err != nil {
		return nil, err
	}
	g := &staging{state: s, staged: map[Role]*envelope{}}
	for _, role := range Roles() {
		if !role.staged() {
			continue
		}
		if err := r.loadStagedRole(g, role); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func (r *Repository) loadStagedRole(g *staging, role Role) error {
	data, err := r.o.FS.ReadFile(r.at(stagedName(role)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read what is staged: %w", err)
	}
	e, h, err := parseStaged(role, data)
	if err != nil {
		return Problem{Where: stagedName(role), What: err.Error(), Hint: "discard it and begin again"}
	}
	switch have := g.version(role); {
	case h.Version == have+1:
		g.staged[role] = e
	case h.Version == have && g.alreadyPublished(role, e):
		g.done = append(g.done, role)
	default:
		return Problem{
			Where: stagedName(role), What: fmt.Sprintf("it is version %d, but version %d is published", h.Version, have),
			Hint: "somebody else published meanwhile: discard it and begin again",
		}
	}
	return nil
}

func parseStaged(role Role, data []byte) (*envelope, header, error) {
	var err error
	if role == RoleRoot {
		_, err = parse[rootType](data, string(RoleRoot))
	} else {
		_, err = parseTargets(data)
	}
	if err != nil {
		return nil, header{}, err
	}
	e, err := parseEnvelope(data)
	if err != nil {
		return nil, header{}, err
	}
	h, err := e.header()
	return e, h, err
}

func (g *staging) alreadyPublished(role Role, e *envelope) bool {
	published, err := parseEnvelope(g.data[role])
	if err != nil {
		return false
	}
	return sameSigned(published, e)
}

func sameSigned(a, b *envelope) bool {
	x, err := a.payload()
	if err != nil {
		return false
	}
	y, err := b.payload()
	return err == nil && bytes.Equal(x, y)
}

// nextRoot is the root that will be in force once everything staged is published.
func (g *staging) nextRoot() (*rootMeta, error) {
	e := g.staged[RoleRoot]
	if e == nil {
		return g.root, nil
	}
	data, err := e.encode()
	if err != nil {
		return nil, err
	}
	return parse[rootType](data, string(RoleRoot))
}

// nextTargets is the metadata of targets or a delegated role that will be in force once everything staged is published.
func (g *staging) nextTargets(role Role) (*targetsMeta, error) {
	e := g.staged[role]
	if e == nil {
		return g.targets[role], nil
	}
	data, err := e.encode()
	if err != nil {
		return nil, err
	}
	return parseTargets(data)
}

// authorities returns who must sign role: each of them its threshold. A new root needs the keys of the old one too.
func (g *staging) authorities(role Role) ([]authority, error) {
	if role.delegator() == RoleTargets {
		top, err := g.nextTargets(RoleTargets)
		return []authority{delegatedAuthority(top, role)}, err
	}
	next, err := g.nextRoot()
	if err != nil {
		return nil, err
	}
	if next == nil {
		return nil, notInitialised(g)
	}
	all := []authority{rootAuthority(next, role)}
	if role == RoleRoot && g.root != nil && g.staged[RoleRoot] != nil {
		all = append(all, rootAuthority(g.root, role))
	}
	return all, nil
}

func notInitialised(g *staging) error {
	if g.root != nil || g.staged[RoleRoot] != nil {
		return nil
	}
	return BadInput("there is no repository here: make one with init")
}

// Pending is one staged role.
type Pending struct {
	Role      Role      `json:"role"`
	Version   int64     `json:"version"`
	Expires   time.Time `json:"expires"`
	Threshold int       `json:"threshold"`
	SignedBy  []KeyID   `json:"signed_by"`
	Missing   int       `json:"missing"` // signatures that are outstanding
	MayNow    []KeyID   `json:"may_sign"`
	Changes   []string  `json:"changes"` // what publishing it does, a line each
}

// Pending returns what is staged and how many signatures each role lacks.
func (r *Repository) Pending() ([]Pending, error) {
	g, err := r.loadStaged()
	if err != nil {
		return nil, err
	}
	return r.pending(g)
}

func (r *Repository) pending(g *staging) ([]Pending, error) {
	all := []Pending{}
	for _, role := range Roles() {
		if g.staged[role] == nil {
			continue
		}
		p, err := g.pendingRole(role)
		if err != nil {
			return nil, err
		}
		p.Changes, err = r.changes(g, role)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

func (g *staging) pendingRole(role Role) (Pending, error) {
	e := g.staged[role]
	h, err := e.header()
	if err != nil {
		return Pending{}, err
	}
	authorities, err := g.authorities(role)
	if err != nil {
		return Pending{}, err
	}
	p := Pending{Role: role, Version: h.Version, Expires: h.Expires, SignedBy: []KeyID{}, MayNow: []KeyID{}}
	for _, a := range authorities {
		signed, err := e.signedBy(a)
		if err != nil {
			return Pending{}, err
		}
		p.Threshold = max(p.Threshold, a.Threshold)
		p.Missing = max(p.Missing, a.Threshold-len(signed))
		p.SignedBy = append(p.SignedBy, signed...)
		p.MayNow = append(p.MayNow, a.ids()...)
	}
	p.SignedBy, p.MayNow = unique(p.SignedBy), unique(p.MayNow)
	p.MayNow = slices.DeleteFunc(p.MayNow, func(id KeyID) bool { return slices.Contains(p.SignedBy, id) })
	return p, nil
}

func unique(ids []KeyID) []KeyID {
	slices.Sort(ids)
	return slices.Compact(ids)
}

// stage writes the next version of a role. Signatures of an earlier draft are void, for they were for other bytes.
func (r *Repository) stage(role Role, e *envelope) error {
	data, err := e.encode()
	if err != nil {
		return fmt.Errorf("cannot stage %s: %w", role, err)
	}
	return durable.WriteFile(r.o.FS, r.at(stagedName(role)), data)
}

// stageTargets writes the next version of targets or a delegated role with these contents.
func (r *Repository) stageTargets(g *staging, role Role, targets map[string]*metadata.TargetFiles, d *metadata.Delegations) error {
	now := r.now()
	signed := metadata.TargetsType{
		Type: metadata.TARGETS, SpecVersion: specVersion, Version: g.version(role) + 1, Expires: r.expires(role, now),
		Targets: targets, Delegations: d, UnrecognizedFields: issued(now),
	}
	e, err := newEnvelope(signed)
	if err != nil {
		return err
	}
	g.staged[role] = e
	return r.stage(role, e)
}

// Discard throws away everything that is staged.
func (r *Repository) Discard() ([]Role, error) {
	unlock, err := r.o.Lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	roles := []Role{}
	for _, role := range Roles() {
		// Without looking inside: what is damaged must be removable.
		ok, err := r.exists(stagedName(role))
		if err != nil {
			return nil, err
		}
		if ok {
			if err := durable.Remove(r.o.FS, r.at(stagedName(role))); err != nil {
				return nil, err
			}
			roles = append(roles, role)
		}
	}
	return roles, r.removeStagedTargets()
}

// removeStagedTargets removes all files in staged/targets.
func (r *Repository) removeStagedTargets() error {
	names, err := r.o.FS.List(r.at(stagedTargets))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot list what is staged: %w", err)
	}
	for _, name := range names {
		if err := durable.Remove(r.o.FS, r.at(stagedTargets, name)); err != nil {
			return err
		}
	}
	return nil
}

// stagedTarget is where a target waits for publishing: by its digest, so that no name can clash.
func stagedTarget(sha256 string) string { return path.Join(stagedTargets, sha256) }

// stagedPack is where a pack waits for publishing.
func stagedPack(im release.Image) string { return path.Join(stagedTargets, path.Base(im.Pack)) }

// putTarget stages the bytes of a small target.
func (r *Repository) putTarget(data []byte) (*metadata.TargetFiles, error) {
	f := targetFile(data)
	return f, durable.WriteFile(r.o.FS, r.at(stagedTarget(digestOf(f).String())), data)
}

// readTarget reads a small target, staged or published, and checks its digest.
func (r *Repository) readTarget(name string, f *metadata.TargetFiles) ([]byte, error) {
	sum := digestOf(f).String()
	where := stagedTarget(sum)
	data, err := r.o.FS.ReadFile(r.at(where))
	if errors.Is(err, fs.ErrNotExist) {
		where = path.Join(targetsDir, targetPath(name, sum))
		data, err = r.readMeta(where)
	}
	if err != nil {
		return nil, err
	}
	if err := f.VerifyLengthHashes(data); err != nil {
		return nil, Problem{Where: where, What: err.Error(), Hint: "restore it from a copy"}
	}
	return data, nil
}
