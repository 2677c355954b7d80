package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/evenkeel-os/evenkeel/internal/durable"
)

// Keyring hands out the keys that sign at the moment of publishing: those of snapshot and timestamp.
type Keyring interface {
	// Signers returns at least need of the keys with these ids, or says why it cannot.
	Signers(role Role, ids []KeyID, need int) ([]Signer, error)
}

// Published is what a switch made public.
type Published struct {
	Roles []PublishedRole `json:"roles"`
	// Files is what was written, in the order in which a mirror or a CDN must receive it so that it is valid throughout.
	Files []string `json:"files"`
	// Warnings are about what was not published and needs care.
	Warnings []string `json:"warnings"`
}

// PublishedRole is the version of a role that became public.
type PublishedRole struct {
	Role    Role      `json:"role"`
	Version int64     `json:"version"`
	Expires time.Time `json:"expires"`
}

// Publish makes public everything that is staged, or only the named roles. It is ErrUnsigned when signatures are
// outstanding, and ErrInvalid when a host would refuse the result. Nothing changes for hosts until it is complete.
func (r *Repository) Publish(ctx context.Context, ring Keyring, only ...Role) (Published, error) {
	unlock, err := r.o.Lock()
	if err != nil {
		return Published{}, err
	}
	defer unlock()
	g, err := r.loadStaged()
	if err != nil {
		return Published{}, err
	}
	if err := notInitialised(g); err != nil {
		return Published{}, err
	}
	if err := r.choose(g, only); err != nil {
		return Published{}, err
	}
	if len(g.staged) == 0 {
		return r.nothingStaged(g)
	}
	if err := r.signedAndSound(ctx, g); err != nil {
		return Published{}, err
	}
	p, err := r.switchTo(ctx, g, ring, true)
	if err != nil {
		return Published{}, err
	}
	return p, r.unstage(append(slices.Collect(maps.Keys(g.staged)), g.done...))
}

// choose leaves in g.staged what is to be published.
func (r *Repository) choose(g *staging, only []Role) error {
	for _, role := range only {
		if g.staged[role] == nil && !slices.Contains(g.done, role) {
			return BadInput("nothing is staged for %s", role)
		}
	}
	maps.DeleteFunc(g.staged, func(role Role, _ *envelope) bool { return len(only) > 0 && !slices.Contains(only, role) })
	return nil
}

// nothingStaged finishes the work of a publisher that was killed after the switch, or says that there is nothing to do.
func (r *Repository) nothingStaged(g *staging) (Published, error) {
	if len(g.done) == 0 {
		return Published{}, BadInput("nothing is staged, so there is nothing to publish")
	}
	p := Published{Roles: []PublishedRole{}, Files: []string{}, Warnings: []string{"it was published already: only the staging area is tidied up"}}
	return p, r.unstage(g.done)
}

func (r *Repository) signedAndSound(ctx context.Context, g *staging) error {
	if err := r.clockSane(g.state, r.now()); err != nil {
		return err
	}
	all, err := r.pending(g)
	if err != nil {
		return err
	}
	if err := outstanding(all); err != nil {
		return err
	}
	return r.checkStagedImages(ctx, g)
}

// checkStagedImages decodes every pack that is about to be published: what an agent would refuse must not get out.
func (r *Repository) checkStagedImages(ctx context.Context, g *staging) error {
	if g.staged[RoleReleases] == nil {
		return nil
	}
	m, err := g.nextTargets(RoleReleases)
	if err != nil {
		return err
	}
	for _, name := range newTargets(g, m) {
		if _, ok := productOf(name); !ok {
			continue
		}
		rel, err := r.readRelease(name, m.Signed.Targets[name])
		if err != nil {
			return err
		}
		if err := rel.Check(); err != nil {
			return Problem{Where: name, What: err.Error()}
		}
		for _, im := range rel.Images {
			r.o.Say(fmt.Sprintf("checking %s %s, image %s", rel.Product, rel.Version, im.Role))
			if err := r.checkImage(ctx, m, im, true); err != nil {
				return err
			}
		}
	}
	return nil
}

// newTargets returns the names of the targets in m that are not published as they are there.
func newTargets(g *staging, m *targetsMeta) []string {
	var names []string
	for name, f := range m.Signed.Targets {
		old := g.targets[RoleReleases]
		if old == nil || old.Signed.Targets[name] == nil || digestOf(old.Signed.Targets[name]) != digestOf(f) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Refresh renews timestamp, and snapshot when half of its lifetime is over or all is asked for. Nothing else changes. It
// needs the online keys only, and is meant for cron.
func (r *Repository) Refresh(ctx context.Context, ring Keyring, all bool) (Published, error) {
	unlock, err := r.o.Lock()
	if err != nil {
		return Published{}, err
	}
	defer unlock()
	s, err := r.load()
	if err != nil {
		return Published{}, err
	}
	if !s.published() {
		return Published{}, BadInput("there is no published repository in %s: init, sign and publish come first", r.o.Dir)
	}
	now := r.now()
	if err := r.clockSane(s, now); err != nil {
		return Published{}, err
	}
	old, _ := s.header(RoleSnapshot)
	half := r.expires(RoleSnapshot, now).Sub(now) / 2
	g := &staging{state: s, staged: map[Role]*envelope{}}
	return r.switchTo(ctx, g, ring, all || old.Expires.Sub(now) < half)
}

// change is one switch of what is public: every file, under its path in the repository.
type change struct {
	now      time.Time
	data     map[Role][]byte
	versions map[Role]int64
}

// switchTo makes g.staged public. See the package's documentation for why it may be killed anywhere.
func (r *Repository) switchTo(ctx context.Context, g *staging, ring Keyring, snapshot bool) (Published, error) {
	c, err := r.makeChange(g, ring, snapshot)
	if err != nil {
		return Published{}, err
	}
	moved, err := r.moveTargets(g)
	if err != nil {
		return Published{}, err
	}
	var files []string
	for _, role := range Roles() {
		if data := c.data[role]; data != nil && role != RoleRoot && role != RoleTimestamp {
			name := path.Join(metadataDir, metadataName(role, c.versions[role]))
			if err := durable.WriteFile(r.o.FS, r.at(name), data); err != nil {
				return Published{}, err
			}
			files = append(files, name)
		}
	}
	if err := r.acceptable(ctx, g, c); err != nil {
		return Published{}, err
	}
	for _, role := range []Role{RoleRoot, RoleTimestamp} {
		if data := c.data[role]; data != nil {
			name := path.Join(metadataDir, metadataName(role, c.versions[role]))
			if err := durable.WriteFile(r.o.FS, r.at(name), data); err != nil {
				return Published{}, err
			}
			files = append(files, name)
		}
	}
	return r.describeChange(g, c, append(moved, files...))
}

func (r *Repository) describeChange(g *staging, c *change, files []string) (Published, error) {
	p := Published{Roles: []PublishedRole{}, Files: files, Warnings: []string{}}
	for _, role := range Roles() {
		if c.data[role] == nil {
			if h, ok := g.header(role); ok && !c.now.Before(h.Expires) {
				p.Warnings = append(p.Warnings, fmt.Sprintf("%s expired at %s: renew it", role, h.Expires.Format(time.RFC3339)))
			}
			continue
		}
		e, err := parseEnvelope(c.data[role])
		if err != nil {
			return p, err
		}
		h, err := e.header()
		if err != nil {
			return p, err
		}
		p.Roles = append(p.Roles, PublishedRole{Role: role, Version: h.Version, Expires: h.Expires})
	}
	return p, nil
}

// makeChange prepares every file of a switch in memory.
func (r *Repository) makeChange(g *staging, ring Keyring, snapshot bool) (*change, error) {
	c := &change{now: r.now(), data: map[Role][]byte{}, versions: map[Role]int64{}}
	for role, e := range g.staged {
		data, err := e.encode()
		if err != nil {
			return nil, err
		}
		c.data[role], c.versions[role] = data, g.version(role)+1
	}
	root, err := g.nextRoot()
	if err != nil {
		return nil, err
	}
	if snapshot {
		if err := r.addSnapshot(g, c, root, ring); err != nil {
			return nil, err
		}
	}
	return c, r.addTimestamp(g, c, root, ring)
}

func (r *Repository) addSnapshot(g *staging, c *change, root *rootMeta, ring Keyring) error {
	meta := map[string]*metaFiles{}
	if g.snapshot != nil {
		maps.Copy(meta, g.snapshot.Signed.Meta)
	}
	for role, data := range c.data {
		if role != RoleRoot {
			meta[string(role)+".json"] = metaFile(c.versions[role], data)
		}
	}
	return r.signOnline(c, RoleSnapshot, g.version(RoleSnapshot)+1, root, ring, snapshotType{
		Type: metadata.SNAPSHOT, SpecVersion: specVersion, Version: g.version(RoleSnapshot) + 1,
		Expires: r.expires(RoleSnapshot, c.now), Meta: meta, UnrecognizedFields: issued(c.now),
	})
}

func (r *Repository) addTimestamp(g *staging, c *change, root *rootMeta, ring Keyring) error {
	var snapshot *metaFiles
	if data := c.data[RoleSnapshot]; data != nil {
		snapshot = metaFile(c.versions[RoleSnapshot], data)
	} else {
		snapshot = g.timestamp.Signed.Meta["snapshot.json"]
	}
	return r.signOnline(c, RoleTimestamp, g.version(RoleTimestamp)+1, root, ring, timestampType{
		Type: metadata.TIMESTAMP, SpecVersion: specVersion, Version: g.version(RoleTimestamp) + 1,
		Expires: r.expires(RoleTimestamp, c.now), Meta: map[string]*metaFiles{"snapshot.json": snapshot}, UnrecognizedFields: issued(c.now),
	})
}

func (r *Repository) signOnline(c *change, role Role, version int64, root *rootMeta, ring Keyring, signed any) error {
	e, err := newEnvelope(signed)
	if err != nil {
		return err
	}
	a := rootAuthority(root, role)
	signers, err := ring.Signers(role, a.ids(), a.Threshold)
	if err != nil {
		return fmt.Errorf("cannot sign %s: %w", role, err)
	}
	for _, s := range signers {
		if err := e.sign(s); err != nil {
			return err
		}
	}
	if err := e.enough(a); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnsigned, role, err)
	}
	c.versions[role] = version
	c.data[role], err = e.encode()
	return err
}

// moveTargets gives the staged files that the next metadata names their public names. It returns those names.
func (r *Repository) moveTargets(g *staging) ([]string, error) {
	var moved []string
	move := func(from, to string) error {
		did, err := r.move(from, to)
		if did {
			moved = append(moved, to)
		}
		return err
	}
	for _, role := range Roles() {
		if g.staged[role] == nil || role == RoleRoot {
			continue
		}
		m, err := g.nextTargets(role)
		if err != nil {
			return nil, err
		}
		for _, name := range slices.Sorted(maps.Keys(m.Signed.Targets)) {
			sum := digestOf(m.Signed.Targets[name]).String()
			if err := r.movePacks(name, m.Signed.Targets[name], move); err != nil {
				return nil, err
			}
			if err := move(stagedTarget(sum), path.Join(targetsDir, targetPath(name, sum))); err != nil {
				return nil, err
			}
		}
	}
	return moved, nil
}

// movePacks moves the packs of a release.
func (r *Repository) movePacks(name string, f *metadata.TargetFiles, move func(from, to string) error) error {
	if _, ok := productOf(name); !ok {
		return nil
	}
	if ok, err := r.exists(stagedTarget(digestOf(f).String())); !ok || err != nil {
		return err // published before
	}
	rel, err := r.readRelease(name, f)
	if err != nil {
		return err
	}
	for _, im := range rel.Images {
		if err := move(stagedPack(im), path.Join(targetsDir, im.Pack)); err != nil {
			return err
		}
	}
	return nil
}

// move renames a file durably. One that is not there was moved before.
func (r *Repository) move(from, to string) (bool, error) {
	if ok, err := r.exists(from); !ok || err != nil {
		return false, err
	}
	dir := path.Dir(to)
	if err := r.o.FS.MkdirAll(r.at(dir)); err != nil {
		return false, fmt.Errorf("cannot publish %s: %w", to, err)
	}
	if err := r.o.FS.Rename(r.at(from), r.at(to)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("cannot publish %s: %w", to, err)
	}
	if err := r.o.FS.SyncDir(r.at(dir)); err != nil {
		return false, fmt.Errorf("cannot publish %s: %w", to, err)
	}
	return true, nil
}

// unstage removes staged roles that are public now, and, when nothing else is staged, every file in the staging area.
func (r *Repository) unstage(roles []Role) error {
	for _, role := range roles {
		if err := durable.Remove(r.o.FS, r.at(stagedName(role))); err != nil {
			return err
		}
	}
	for _, role := range Roles() {
		if ok, err := r.exists(stagedName(role)); ok || err != nil {
			return err
		}
	}
	return r.removeStagedTargets()
}
