package tuf_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/internal/transport"
	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/tuf"
	"github.com/evenkeel-os/evenkeel/updater"
)

var _ updater.Source = (*tuf.Client)(nil)

const (
	product = "edge"
	store   = "/var/lib/evenkeel/tuf"
)

// start is when the world of a test begins.
var start = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// world is a repository, a host, and the network between them.
type world struct {
	t     *testing.T
	repo  *fixtures.Repo
	disk  *fixtures.FS
	root  []byte // in the image
	clock time.Time
	build time.Time
	limit tuf.Limits

	direct bool // without sockets, for tests that refresh hundreds of times
	server *httptest.Server
	warned []string
}

// newWorld has a repository with releases 1 and 2.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, repo: fixtures.NewRepo(start.Add(-time.Hour)), disk: fixtures.NewFS(),
		clock: start, build: start.Add(-24 * time.Hour),
	}
	w.root = w.repo.File("metadata/1.root.json")
	w.repo.AddRelease(aRelease(1))
	w.repo.AddRelease(aRelease(2))
	w.repo.Publish()
	w.server = httptest.NewServer(w.repo)
	t.Cleanup(w.server.Close)
	return w
}

func aRelease(serial uint64) release.Release {
	digest := release.Digest{1, byte(serial)}
	return release.Release{
		Product: product, Compatible: []string{"box"}, Architecture: "amd64", Layout: 1, Version: "v" + string('0'+rune(serial)),
		Serial: serial,
		Images: []release.Image{{
			Role: "root", Kind: release.KindPartition, Size: 4096, SHA256: digest,
			Index: "images/" + digest.String() + ".index", Pack: "packs/" + digest.String() + ".pack",
		}},
		Boot: release.BootSpec{Kernel: "root:/vmlinuz", Cmdline: "root={root}"},
	}
}

func (w *world) transport(mirrors ...string) *transport.Transport {
	w.t.Helper()
	if len(mirrors) == 0 {
		mirrors = []string{w.server.URL}
	}
	tr, err := transport.New(transport.Options{
		Mirrors: mirrors, Tries: 1, MinWait: time.Nanosecond, MaxWait: time.Nanosecond, Proxy: "none",
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return tr
}

// direct is a tuf.Transport to a repository in the same process.
type direct struct{ repo *fixtures.Repo }

func (d direct) Get(_ context.Context, path string, limit int64, check func([]byte) error) ([]byte, error) {
	data := d.repo.File(path)
	switch {
	case data == nil:
		return nil, transport.ErrNotFound
	case int64(len(data)) > limit:
		return nil, transport.ErrTooLarge
	}
	return data, check(data)
}

func (d direct) Blob(context.Context, string, int64) (image.Blob, error) {
	return nil, errors.New("no blobs here")
}

func (d direct) URL(path string) string { return path }

func (w *world) options() tuf.Options {
	var tr tuf.Transport = direct{w.repo}
	if !w.direct {
		tr = w.transport()
	}
	return tuf.Options{
		Dir: store, Root: w.root, Product: product, Transport: tr, BuildTime: w.build,
		Now: func() time.Time { return w.clock }, FS: w.disk, Limits: w.limit,
		Warn: func(s string) {
			w.warned = append(w.warned, s)
		},
	}
}

// open starts the agent anew.
func (w *world) open() *tuf.Client {
	w.t.Helper()
	c, err := tuf.Open(w.options())
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// refresh starts the agent anew and refreshes.
func (w *world) refresh() error { return w.open().Refresh(context.Background()) }

func (w *world) mustRefresh() *tuf.Client {
	w.t.Helper()
	c := w.open()
	if err := c.Refresh(context.Background()); err != nil {
		w.t.Fatalf("refresh: %v", err)
	}
	return c
}

// serials returns what is offered, as "1 2".
func serials(t *testing.T, c *tuf.Client) []uint64 {
	t.Helper()
	rels, err := c.Offers(context.Background())
	if err != nil {
		t.Fatalf("offers: %v", err)
	}
	var ns []uint64
	for _, r := range rels {
		ns = append(ns, r.Serial)
	}
	return ns
}

func version(c *tuf.Client, role string) int64 {
	for _, r := range c.Report().Roles {
		if r.Name == role {
			return r.Version
		}
	}
	return 0
}

func (w *world) mustWarn(text string) {
	w.t.Helper()
	if !strings.Contains(strings.Join(w.warned, "\n"), text) {
		w.t.Errorf("warnings = %q, want one about %q", w.warned, text)
	}
}

func (w *world) mustNotWarn() {
	w.t.Helper()
	if len(w.warned) != 0 {
		w.t.Errorf("warnings = %q, want none", w.warned)
	}
}

func mustOpen(t *testing.T, o tuf.Options) *tuf.Client {
	t.Helper()
	c, err := tuf.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
