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

	"github.com/evenkeel-os/evenkeel/internal/durable"
	"github.com/evenkeel-os/evenkeel/release"
)

// VerifyOptions says what Verify looks at.
type VerifyOptions struct {
	// Quick leaves out the bytes of the packs.
	Quick bool
	// Ahead makes metadata a problem that expires within this time.
	Ahead time.Duration
}

// Verified is what Verify found.
type Verified struct {
	Roles    []ListedRole `json:"roles"`
	Releases int          `json:"releases"`
	Images   int          `json:"images"` // distinct ones
	Packs    int64        `json:"pack_bytes"`
	Problems []Problem    `json:"problems"`
}

// Verify looks at everything that is published as a host would, and further: every role and its expiry, every release,
// every index, every byte of every pack. The error is for what could not be looked at; what is wrong is in Problems.
func (r *Repository) Verify(ctx context.Context, o VerifyOptions) (Verified, error) {
	v := &verifier{r: r, o: o, images: map[release.Digest]bool{}}
	v.out = Verified{Roles: []ListedRole{}, Problems: []Problem{}}
	if err := v.run(ctx); err != nil {
		return v.out, err
	}
	return v.out, nil
}

type verifier struct {
	r      *Repository
	o      VerifyOptions
	out    Verified
	images map[release.Digest]bool
}

func (v *verifier) run(ctx context.Context) error {
	v.r.o.Say("metadata")
	s, err := v.r.load()
	if v.problem(metadataDir, err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !s.published() {
		return BadInput("there is no published repository in %s", v.r.o.Dir)
	}
	g := &staging{state: s, staged: map[Role]*envelope{}}
	v.roles(g)
	if err := v.targets(ctx, s); err != nil {
		return err
	}
	v.r.o.Say("as a host sees it")
	return v.host(ctx, g)
}

// problem notes err if it says that the repository is not valid. Errors of the disk are not problems of the repository.
func (v *verifier) problem(where string, err error) bool {
	var p Problem
	switch {
	case err == nil:
		return false
	case errors.As(err, &p):
	case errors.Is(err, ErrInvalid):
		p = Problem{Where: where, What: err.Error()}
	default:
		return false
	}
	if !slices.Contains(v.out.Problems, p) {
		v.out.Problems = append(v.out.Problems, p)
	}
	return true
}

func (v *verifier) roles(g *staging) {
	v.out.Roles = v.r.listRoles(g)
	for _, role := range v.out.Roles {
		where := path.Join(metadataDir, metadataName(role.Role, role.Version))
		left := role.Expires.Sub(v.r.now())
		switch {
		case role.Expired:
			v.problem(where, Problem{Where: where, What: "it expired at " + role.Expires.Format(time.RFC3339), Hint: renewHint(role.Role)})
		case left <= v.o.Ahead:
			v.problem(where, Problem{Where: where, What: "it expires at " + role.Expires.Format(time.RFC3339), Hint: renewHint(role.Role)})
		}
	}
	for _, role := range Roles() {
		if g.data[role] == nil {
			v.problem(metadataDir, Problem{Where: metadataDir, What: fmt.Sprintf("role %s is not published", role)})
		}
	}
}

func renewHint(role Role) string {
	if !role.staged() {
		return "run refresh"
	}
	return fmt.Sprintf("run renew %s, sign and publish", role)
}

// targets looks at every file that any role names.
func (v *verifier) targets(ctx context.Context, s *state) error {
	for _, role := range s.roles() {
		m := s.targets[role]
		if m == nil {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(m.Signed.Targets)) {
			if err := v.target(ctx, m, name); err != nil && !v.problem(name, err) {
				return err
			}
		}
	}
	return nil
}

func (v *verifier) target(ctx context.Context, m *targetsMeta, name string) error {
	f := m.Signed.Targets[name]
	where := path.Join(targetsDir, targetPath(name, digestOf(f).String()))
	data, err := v.r.readMeta(where)
	if err != nil {
		return err
	}
	if err := f.VerifyLengthHashes(data); err != nil {
		return Problem{Where: where, What: err.Error(), Hint: "restore it from a copy"}
	}
	if _, ok := productOf(name); !ok {
		return nil
	}
	rel, err := v.r.readRelease(name, f)
	if err != nil {
		return err
	}
	if err := rel.Check(); err != nil {
		return Problem{Where: where, What: err.Error()}
	}
	v.out.Releases++
	for _, im := range rel.Images {
		if err := v.image(ctx, m, rel, im); err != nil && !v.problem(im.Pack, err) {
			return err
		}
	}
	return nil
}

func (v *verifier) image(ctx context.Context, m *targetsMeta, rel release.Release, im release.Image) error {
	if v.images[im.SHA256] {
		return nil
	}
	v.images[im.SHA256] = true
	v.out.Images++
	v.r.o.Say(fmt.Sprintf("%s %s, image %s", rel.Product, rel.Version, im.Role))
	size, err := v.r.packSize(im, false)
	if err != nil {
		return err
	}
	v.out.Packs += size
	if v.o.Quick {
		return v.r.checkIndexOf(m, im, false)
	}
	return v.r.checkImage(ctx, m, im, false)
}

// host runs the agent's client over what is published, from every root that hosts may have.
func (v *verifier) host(ctx context.Context, g *staging) error {
	products := productsOf(g.targets[RoleReleases])
	for _, root := range g.anchors(&change{}) {
		err := newHost(root, products).accept(ctx, files{r: v.r}, v.r.now())
		if err != nil && !v.problem("client", err) {
			return err
		}
	}
	return nil
}

// checkImage checks the index of an image, and decodes its whole pack by it; staged files count, or not.
func (r *Repository) checkImage(ctx context.Context, m *targetsMeta, im release.Image, staged bool) error {
	if err := r.checkIndexOf(m, im, staged); err != nil {
		return err
	}
	index, err := r.readTarget(im.Index, m.Signed.Targets[im.Index])
	if err != nil {
		return err
	}
	f, err := r.openPack(im, staged)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", im.Pack, err)
	}
	if err := checkPack(ctx, index, blob{f, size}); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return Problem{Where: path.Join(targetsDir, im.Pack), What: err.Error(), Hint: "restore it from a copy"}
	}
	return nil
}

// checkIndexOf checks that the index of an image is named and is of that image, and that there is a pack.
func (r *Repository) checkIndexOf(m *targetsMeta, im release.Image, staged bool) error {
	f := m.Signed.Targets[im.Index]
	if f == nil {
		return Problem{Where: im.Index, What: "a release needs it, and no metadata names it"}
	}
	index, err := r.readTarget(im.Index, f)
	if err != nil {
		return err
	}
	if err := checkIndex(index, im); err != nil {
		return Problem{Where: path.Join(targetsDir, targetPath(im.Index, digestOf(f).String())), What: err.Error()}
	}
	pack, err := r.openPack(im, staged)
	if err != nil {
		return err
	}
	if pack == nil {
		return Problem{Where: path.Join(targetsDir, im.Pack), What: "it is missing", Hint: "restore it from a copy"}
	}
	return pack.Close()
}

// openPack opens the pack of an image: the staged one, if staged ones count and there is one, or else the published one.
// It is nil when there is none.
func (r *Repository) openPack(im release.Image, staged bool) (durable.Reader, error) {
	places := []string{path.Join(targetsDir, im.Pack)}
	if staged {
		places = []string{stagedPack(im), places[0]}
	}
	for _, name := range places {
		f, err := r.o.FS.OpenRead(r.at(name))
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot read %s: %w", name, err)
		}
	}
	return nil, nil
}
