package repo

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/internal/durable"
	"github.com/evenkeel-os/evenkeel/release"
)

// Source is the image of one role, as it lies on the publisher's disk.
type Source struct {
	Role  release.Role
	Kind  release.Kind
	Name  string // release.KindFile: the file's name in the slot's directory
	Bytes io.ReaderAt
	Size  int64
}

// Draft is a release as its maker describes it. Rel.Images is filled from Sources.
type Draft struct {
	Rel     release.Release
	Sources []Source
}

// Added is what Add did.
type Added struct {
	Release release.Release `json:"release"`
	Target  string          `json:"target"`
	Images  []AddedImage    `json:"images"`
	Voided  int             `json:"voided_signatures"` // of the draft that was staged before: it must be signed again
}

// AddedImage is one image of an added release.
type AddedImage struct {
	Role     release.Role `json:"role"`
	Size     int64        `json:"size"`
	PackSize int64        `json:"pack_size"`
	Reused   bool         `json:"reused"` // an earlier release has the same image
}

// Add makes the files of a release and stages the next version of the role "releases" that names it.
func (r *Repository) Add(ctx context.Context, d Draft) (Added, error) {
	unlock, err := r.o.Lock()
	if err != nil {
		return Added{}, err
	}
	defer unlock()
	g, err := r.loadForStaging(RoleReleases)
	if err != nil {
		return Added{}, err
	}
	rel, err := describe(ctx, d)
	if err != nil {
		return Added{}, err
	}
	if err := rel.Check(); err != nil {
		return Added{}, BadInput("%w", err)
	}
	if err := r.checkOrder(g, rel); err != nil {
		return Added{}, err
	}
	if err := r.sweepStaged(); err != nil {
		return Added{}, err
	}
	return r.add(ctx, g, rel, d.Sources)
}

// loadForStaging reads everything, and refuses what keeps role from being staged.
func (r *Repository) loadForStaging(role Role) (*staging, error) {
	g, err := r.loadStaged()
	if err != nil {
		return nil, err
	}
	if err := notInitialised(g); err != nil {
		return nil, err
	}
	if !g.published() {
		return nil, BadInput("the repository was never published: sign and publish it first")
	}
	if _, ok := g.targets[role]; !ok {
		return nil, BadInput("the repository has no role %s", role)
	}
	return g, r.clockSane(g.state, r.now())
}

// describe hashes the sources and completes the release.
func describe(ctx context.Context, d Draft) (release.Release, error) {
	rel := d.Rel
	rel.Images = nil
	for _, src := range d.Sources {
		sum, err := digest(ctx, src.Bytes, src.Size)
		if err != nil {
			return rel, fmt.Errorf("cannot read the image of role %s: %w", src.Role, err)
		}
		rel.Images = append(rel.Images, release.Image{
			Role: src.Role, Kind: src.Kind, Name: src.Name, Size: src.Size, SHA256: sum,
			Index: release.IndexName(sum), Pack: release.PackName(sum),
		})
	}
	return rel, nil
}

func digest(ctx context.Context, src io.ReaderAt, size int64) (release.Digest, error) {
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(buf)) {
		if err := ctx.Err(); err != nil {
			return release.Digest{}, err
		}
		part := buf[:min(int64(len(buf)), size-off)]
		if n, err := src.ReadAt(part, off); n < len(part) {
			return release.Digest{}, fmt.Errorf("it ends at byte %d of %d: %w", off+int64(n), size, err)
		}
		h.Write(part)
	}
	return release.Digest(h.Sum(nil)), nil
}

// checkOrder refuses a serial that does not grow, and a version that stands for two releases.
func (r *Repository) checkOrder(g *staging, rel release.Release) error {
	all, err := r.releases(g, rel.Product)
	if err != nil {
		return err
	}
	for _, other := range all {
		if other.Serial >= rel.Serial {
			last := all[len(all)-1]
			return BadInput("serial %d does not grow: %s %s has serial %d, so use %d or more",
				rel.Serial, last.Product, last.Version, last.Serial, last.Serial+1)
		}
	}
	for _, other := range all {
		same := other.Version == rel.Version && other.Architecture == rel.Architecture
		if same && slices.ContainsFunc(rel.Compatible, func(c string) bool { return slices.Contains(other.Compatible, c) }) {
			return BadInput("version %s exists already, with serial %d, for %s on %s: give the new release a version of its own",
				rel.Version, other.Serial, strings.Join(other.Compatible, ", "), other.Architecture)
		}
	}
	return nil
}

// releases returns the releases of a product that the next version of "releases" names, in the order of their serials; of
// all products where product is empty.
func (r *Repository) releases(g *staging, product string) ([]release.Release, error) {
	m, err := g.nextTargets(RoleReleases)
	if err != nil || m == nil {
		return nil, err
	}
	return r.releasesIn(m.Signed.Targets, product)
}

func (r *Repository) releasesIn(targets map[string]*metadata.TargetFiles, product string) ([]release.Release, error) {
	var all []release.Release
	for name, f := range targets {
		p, ok := productOf(name)
		if !ok || product != "" && p != product {
			continue
		}
		rel, err := r.readRelease(name, f)
		if err != nil {
			return nil, err
		}
		all = append(all, rel)
	}
	slices.SortFunc(all, func(a, b release.Release) int {
		if a.Product != b.Product {
			return strings.Compare(a.Product, b.Product)
		}
		if a.Serial < b.Serial {
			return -1
		}
		return 1
	})
	return all, nil
}

func (r *Repository) readRelease(name string, f *metadata.TargetFiles) (release.Release, error) {
	data, err := r.readTarget(name, f)
	if err != nil {
		return release.Release{}, err
	}
	var rel release.Release
	if err := json.Unmarshal(data, &rel); err != nil {
		return release.Release{}, Problem{Where: name, What: "it is no release: " + err.Error()}
	}
	if release.TargetName(rel.Product, rel.Serial) != name {
		return release.Release{}, Problem{Where: name, What: fmt.Sprintf("it holds serial %d of product %q", rel.Serial, rel.Product)}
	}
	return rel, nil
}

// productOf returns the product of releases/PRODUCT/SERIAL.json; other targets have none.
func productOf(name string) (product string, ok bool) {
	parts := strings.Split(name, "/")
	if len(parts) != 3 || parts[0] != "releases" {
		return "", false
	}
	number, found := strings.CutSuffix(parts[2], ".json")
	_, err := strconv.ParseUint(number, 10, 64)
	return parts[1], found && err == nil
}

// sweepStaged removes what a killed publisher left half written.
func (r *Repository) sweepStaged() error {
	if err := r.o.FS.MkdirAll(r.at(stagedTargets)); err != nil {
		return fmt.Errorf("cannot stage files: %w", err)
	}
	return durable.Sweep(r.o.FS, r.at(stagedTargets))
}

func (r *Repository) add(ctx context.Context, g *staging, rel release.Release, sources []Source) (Added, error) {
	m, err := g.nextTargets(RoleReleases)
	if err != nil {
		return Added{}, err
	}
	targets := maps.Clone(m.Signed.Targets)
	added := Added{Release: rel, Target: release.TargetName(rel.Product, rel.Serial)}
	for i, src := range sources {
		img, err := r.addImage(ctx, targets, rel.Images[i], src)
		if err != nil {
			return Added{}, fmt.Errorf("image of role %s: %w", src.Role, err)
		}
		added.Images = append(added.Images, img)
	}
	if targets[added.Target], err = r.putRelease(rel, r.now()); err != nil {
		return Added{}, err
	}
	if added.Voided, err = g.signatures(RoleReleases); err != nil {
		return Added{}, err
	}
	return added, r.stageTargets(g, RoleReleases, targets, m.Signed.Delegations)
}

// custom is what the metadata says of a release beside its digest. It is for the publisher's own lists.
type custom struct {
	Added time.Time `json:"added,omitzero"`
}

func (r *Repository) putRelease(rel release.Release, when time.Time) (*metadata.TargetFiles, error) {
	data, err := json.MarshalIndent(rel, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("cannot encode the release: %w", err)
	}
	note, err := json.Marshal(custom{Added: when})
	if err != nil {
		return nil, fmt.Errorf("cannot encode the release: %w", err)
	}
	f, err := r.putTarget(append(data, '\n'))
	if err == nil {
		f.Custom = (*json.RawMessage)(&note)
	}
	return f, err
}

// addedAt returns when a release was added, or the zero time where that is not known.
func addedAt(f *metadata.TargetFiles) time.Time {
	var c custom
	if f != nil && f.Custom != nil && json.Unmarshal(*f.Custom, &c) != nil {
		return time.Time{}
	}
	return c.Added
}

// signatures returns how many valid signatures the staged version of role has.
func (g *staging) signatures(role Role) (int, error) {
	if g.staged[role] == nil {
		return 0, nil
	}
	p, err := g.pendingRole(role)
	return len(p.SignedBy), err
}

// addImage makes index and pack of an image, unless an earlier release has the very same one.
func (r *Repository) addImage(ctx context.Context, targets map[string]*metadata.TargetFiles, im release.Image, src Source) (AddedImage, error) {
	size, err := r.packSize(im, true)
	if err != nil {
		return AddedImage{}, err
	}
	if targets[im.Index] != nil && size > 0 {
		return AddedImage{Role: im.Role, Size: im.Size, PackSize: size, Reused: true}, nil
	}
	index, size, err := r.buildImage(ctx, im, src)
	if err != nil {
		return AddedImage{}, err
	}
	targets[im.Index], err = r.putTarget(index)
	return AddedImage{Role: im.Role, Size: im.Size, PackSize: size}, err
}

// packSize returns the size of a pack, or 0 when there is none.
func (r *Repository) packSize(im release.Image, staged bool) (int64, error) {
	f, err := r.openPack(im, staged)
	if f == nil || err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Size()
}

func (r *Repository) buildImage(ctx context.Context, im release.Image, src Source) (index []byte, size int64, err error) {
	r.o.Say(fmt.Sprintf("making the pack of %s", im.Role))
	w, err := durable.NewStream(r.o.FS, r.at(stagedTargets))
	if err != nil {
		return nil, 0, err
	}
	defer w.Abort() //nolint:errcheck // what cannot be removed now, the next Sweep removes
	count := &counter{w: w}
	ix, err := image.Build(ctx, io.NewSectionReader(src.Bytes, 0, src.Size), count, r.o.Build)
	if err != nil {
		return nil, 0, err
	}
	index = ix.Bytes()
	if err := checkIndex(index, im); err != nil {
		return nil, 0, err
	}
	return index, count.n, w.Commit(r.at(stagedPack(im)))
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
