package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"time"

	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/internal/durable"
	"github.com/evenkeel-os/evenkeel/internal/transport"
	"github.com/evenkeel-os/evenkeel/tuf"
)

// oldRoots is how many of the newest roots a host may still have in its image. The very first is always tried too.
const oldRoots = 8

// acceptable runs the agent's own client against what will be public after the switch, and refuses what it refuses.
func (r *Repository) acceptable(ctx context.Context, g *staging, c *change) error {
	m, err := g.nextTargets(RoleReleases)
	if err != nil {
		return err
	}
	products := productsOf(m)
	next := files{r: r, over: c.overlay(RoleRoot, RoleTimestamp)}
	for _, root := range g.anchors(c) {
		host := newHost(root, products)
		if err := host.accept(ctx, next, c.now); err != nil {
			return err
		}
	}
	if !g.published() {
		return nil
	}
	return r.acceptableUpdate(ctx, g, c, next, products)
}

// acceptableUpdate plays a host that trusts what is published now, and sees the switch happen.
func (r *Repository) acceptableUpdate(ctx context.Context, g *staging, c *change, next files, products []string) error {
	host := newHost(g.roots[0], products)
	// At the time of the last publishing, since it may have expired meanwhile.
	then := g.newestIssued()
	if err := host.refresh(ctx, files{r: r}, then); err != nil {
		return fmt.Errorf("what is published now: %w", err)
	}
	if c.data[RoleRoot] != nil {
		// A new root is public before the timestamp is: what is old must stay valid below it.
		between := files{r: r, over: c.overlay(RoleRoot)}
		if err := newHost(g.roots[0], products).refresh(ctx, between, then); err != nil {
			return fmt.Errorf("the new root alone: %w", err)
		}
	}
	return host.accept(ctx, next, c.now)
}

// overlay returns files that are not written yet, under their paths.
func (c *change) overlay(roles ...Role) map[string][]byte {
	over := map[string][]byte{}
	for _, role := range roles {
		if c.data[role] != nil {
			over[path.Join(metadataDir, metadataName(role, c.versions[role]))] = c.data[role]
		}
	}
	return over
}

// anchors returns the roots that hosts may have in their images.
func (g *staging) anchors(c *change) [][]byte {
	roots := g.roots
	if data := c.data[RoleRoot]; data != nil {
		roots = append(slices.Clone(roots), data)
	}
	if len(roots) <= oldRoots {
		return roots
	}
	return append([][]byte{roots[0]}, roots[len(roots)-oldRoots:]...)
}

func productsOf(m *targetsMeta) []string {
	var products []string
	if m != nil {
		for name := range m.Signed.Targets {
			if p, ok := productOf(name); ok && !slices.Contains(products, p) {
				products = append(products, p)
			}
		}
	}
	if len(products) == 0 {
		// A host of any product can tell whether the metadata is good.
		return []string{"any"}
	}
	slices.Sort(products)
	return products
}

// host is a machine in the field, one of each product, with the agent's client.
type host struct {
	root     []byte
	products []string
	stores   []durable.FS
}

func newHost(root []byte, products []string) *host {
	h := &host{root: root, products: products}
	for range products {
		h.stores = append(h.stores, durable.NewMemory())
	}
	return h
}

func (h *host) refresh(ctx context.Context, served files, now time.Time) error {
	for i := range h.products {
		if _, err := h.client(ctx, i, served, now); err != nil {
			return err
		}
	}
	return nil
}

func (h *host) client(ctx context.Context, i int, served files, now time.Time) (*tuf.Client, error) {
	c, err := tuf.Open(tuf.Options{
		Dir: "tuf", Root: h.root, Product: h.products[i], Transport: served, FS: h.stores[i],
		Now: func() time.Time { return now },
	})
	if err == nil {
		err = c.Refresh(ctx)
	}
	if err != nil {
		return nil, refused(err)
	}
	return c, nil
}

// accept refreshes, and wants every release to be usable.
func (h *host) accept(ctx context.Context, served files, now time.Time) error {
	for i := range h.products {
		c, err := h.client(ctx, i, served, now)
		if err != nil {
			return err
		}
		if _, err := c.Offers(ctx); err != nil {
			return refused(err)
		}
		if problems := c.Report().Problems; len(problems) > 0 {
			return refused(errors.New(problems[0]))
		}
	}
	return nil
}

func refused(err error) error { return fmt.Errorf("%w: a host would refuse it: %w", ErrInvalid, err) }

// files is the repository as a host sees it, with some files as they will be. It implements tuf.Transport.
type files struct {
	r    *Repository
	over map[string][]byte
}

// Get implements tuf.Transport.
func (f files) Get(_ context.Context, escaped string, limit int64, check func([]byte) error) ([]byte, error) {
	name, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, err
	}
	data, ok := f.over[name]
	if !ok {
		if data, err = f.r.o.FS.ReadFile(f.r.at(name)); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot read %s: %w", name, transport.ErrNotFound)
		}
		if err != nil {
			return nil, err
		}
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("cannot read %s: %w", name, transport.ErrTooLarge)
	}
	if check != nil {
		err = check(data)
	}
	return data, err
}

// Blob implements tuf.Transport.
func (f files) Blob(_ context.Context, escaped string, _ int64) (image.Blob, error) {
	name, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, err
	}
	file, err := f.r.o.FS.OpenRead(f.r.at(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read %s: %w", name, transport.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	size, err := file.Size()
	return blob{file, size}, err
}

// URL implements tuf.Transport.
func (f files) URL(name string) string { return name }

// blob is an open file as an image.Blob.
type blob struct {
	file durable.Reader
	size int64
}

func (b blob) Size() int64 { return b.size }

func (b blob) Close() error { return b.file.Close() }

func (b blob) Range(_ context.Context, off, n int64) (io.ReadCloser, error) {
	if off < 0 || n < 0 || off+n > b.size {
		return nil, fmt.Errorf("bytes %d to %d are beyond the file's %d", off, off+n, b.size)
	}
	return io.NopCloser(io.NewSectionReader(b.file, off, n)), nil
}
