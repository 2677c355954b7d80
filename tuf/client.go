package tuf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/internal/durable"
	"github.com/evenkeel-os/evenkeel/release"
)

// Transport fetches untrusted files of the repository; internal/transport implements it. Paths are slash-separated,
// percent-encoded and relative to the repository: metadata/..., targets/...
type Transport interface {
	// Get returns a file of at most limit bytes that satisfies check, from whichever mirror has one. The error satisfies
	// errors.Is(err, transport.ErrNotFound) where no mirror has the file. An error of check is returned as it is.
	Get(ctx context.Context, path string, limit int64, check func([]byte) error) ([]byte, error)
	// Blob returns a file that is read in ranges; size is -1 where it is not known.
	Blob(ctx context.Context, path string, size int64) (image.Blob, error)
	// URL shows path to people.
	URL(path string) string
}

// Options says what a Client trusts at first, and what it works with.
type Options struct {
	// Dir holds the store, on the state partition. It is made by the first Refresh.
	Dir string
	// Root is the root metadata in the image, of any version of the repository's chain.
	Root []byte
	// Product selects the releases: those named releases/PRODUCT/SERIAL.json. Empty: none are looked for.
	Product string
	// Transport reaches the repository. Nil: nothing can be refreshed.
	Transport Transport
	// BuildTime is when the running image was built: no clock that shows an earlier time is believed.
	BuildTime time.Time
	// Now is the system clock.
	Now func() time.Time
	// Warn receives sentences about what is odd and survivable. Nil: none.
	Warn func(string)
	// FS is the file system. Nil: the real one.
	FS durable.FS
	// Limits bounds what is accepted. Zero fields have defaults.
	Limits Limits
}

// Limits bounds what a hostile repository can make the client hold or do. Sizes are bytes.
type Limits struct {
	Root, Timestamp, Snapshot, Targets int64 // per file, where metadata does not name the length
	Release, Index                     int64 // per target
	RootRotations                      int   // in one refresh
	Delegations                        int   // roles visited for one target
	Releases                           int   // of the product
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Root: or(l.Root, 512<<10), Timestamp: or(l.Timestamp, 16<<10), Snapshot: or(l.Snapshot, 8<<20),
		Targets: or(l.Targets, 16<<20), Release: or(l.Release, 256<<10), Index: or(l.Index, image.MaxIndexSize),
		RootRotations: or(l.RootRotations, 256), Delegations: or(l.Delegations, 32), Releases: or(l.Releases, 10000),
	}
}

func or[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// Client is the trusted view of one repository. It implements updater.Source. It is safe for concurrent use within one
// process; between processes, one may Refresh at a time (the caller holds the agent's lock), and any may read.
type Client struct {
	o     Options
	store store

	work sync.Mutex        // one refresh or lookup at a time; it may be held while the network is slow
	set  *chain            // in force; nil: nothing is trusted yet but the root
	kept map[string][]byte // content of the complete file

	mu   sync.Mutex // guards view, and is never held for long: reading does not wait for the network
	view *view
}

// view is what readers see of the set in force.
type view struct {
	roles    []RoleReport
	releases []release.Release
	problems []string
}

// Open returns a client for the store in o.Dir. It reads, never writes, and needs no lock and no network: what an earlier
// Refresh left is in force. The only errors are those of Options, above all a root that cannot be used.
func Open(o Options) (*Client, error) {
	o.Limits = o.Limits.withDefaults()
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	if o.FS == nil {
		o.FS = durable.OS{}
	}
	c := &Client{o: o, store: store{fs: o.FS, dir: o.Dir, warn: o.Warn}}
	if o.Dir == "" {
		return nil, errors.New("cannot keep trusted metadata: no directory is configured")
	}
	if _, err := builtIn(o.Root); err != nil {
		return nil, &Error{Role: roleRoot, Blame: BlameHost, Err: err, Hint: "the root in this image is unusable: build the image with the repository's root.json"}
	}
	c.load()
	return c, nil
}

func builtIn(data []byte) (*rootMeta, error) {
	m, err := parseRoot(data)
	if err == nil {
		err = verifySelf(m)
	}
	return m, err
}

// load brings the complete set into force that the last successful refresh left, as far as it verifies.
func (c *Client) load() {
	c.kept = c.store.readComplete()
	if c.kept == nil {
		return
	}
	t := c.offline(c.kept)
	if err := t.build(context.Background()); err != nil {
		c.store.damaged(completeFile, err)
		return
	}
	c.use(t)
	rels, problems, _ := c.readReleases(context.Background(), t, false)
	c.show(rels, problems)
}

// Refresh brings the trusted metadata, and the releases that it names, up to date. On an error the set that was in force
// before stays in force, unless the metadata was complete and only releases could not be fetched.
func (c *Client) Refresh(ctx context.Context) error {
	c.work.Lock()
	defer c.work.Unlock()
	if c.o.Transport == nil {
		return errors.New("cannot refresh: no repository is configured")
	}
	t := c.online()
	if err := t.build(ctx); err != nil {
		return fmt.Errorf("cannot refresh the trusted metadata: %w", err)
	}
	if err := c.commit(t); err != nil {
		return err
	}
	rels, problems, err := c.readReleases(ctx, t, true)
	c.show(rels, problems)
	c.store.tidy(func(digest string) bool { return t.names[digest] })
	if err != nil {
		return fmt.Errorf("cannot fetch all releases: %w", err)
	}
	return nil
}

// commit makes a complete set the one in force. An unchanged one costs no write.
func (c *Client) commit(t *chain) error {
	if err := t.saveMarks(); err != nil {
		return err
	}
	if !maps.EqualFunc(c.kept, t.files, bytes.Equal) {
		if err := c.store.writeComplete(t.files); err != nil {
			return err
		}
		c.kept = maps.Clone(t.files)
	}
	c.use(t)
	return nil
}

// use puts a set into force. Roles that it has not loaded may be fetched when they are needed.
func (c *Client) use(t *chain) {
	t.fetch = c.o.Transport != nil
	c.set = t
}

// show makes the set in force visible to readers, with the releases that could be read.
func (c *Client) show(rels []release.Release, problems []string) {
	v := &view{roles: c.set.report(), releases: rels, problems: problems}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.view = v
}

func (c *Client) shown() *view {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view
}

// clock returns the trusted time by what is verified so far.
func (c *Client) clock(m marks) Clock { return m.clock(c.o.Now(), c.o.BuildTime) }
