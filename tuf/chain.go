package tuf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/evenkeel-os/evenkeel/internal/durable"
	"github.com/evenkeel-os/evenkeel/internal/transport"
)

// chain is one chain of trust from the root down, while it is built and afterwards. Its steps run in the order of the
// specification (5.3 to 5.6); trustedmetadata refuses any other.
//
// A step looks at the file that the store has, and fetches only what that cannot answer. Whatever a step fetched and
// verified is saved before the next step, so that a power cut loses nothing that protects from rollback.
type chain struct {
	c       *Client
	fetch   bool                     // may ask the repository
	local   func(role string) []byte // what is there already; nil: nothing
	trusted *trustedmetadata.TrustedMetadata
	root    *rootMeta
	marks   marks
	saved   marks // as in the store
	clock   Clock

	files    map[string][]byte // by role: what is verified, as served
	roles    map[string]*targetsMeta
	verified map[edge]bool
	targets  map[string]*metadata.TargetFiles // the product's releases by name
	names    map[string]bool                  // SHA-256 of every target that a loaded role names
}

// edge is a delegation: what verified for one delegator is not verified for another.
type edge struct{ role, delegator string }

// online returns a chain that starts from the store and asks the repository.
func (c *Client) online() *chain {
	t := c.newChain()
	t.fetch = true
	t.local = func(role string) []byte { return c.store.read(fileName(role)) }
	t.saved = c.store.readMarks()
	t.marks = t.saved.clone()
	return t
}

// offline returns a chain over files that were verified before. It does not judge their age.
func (c *Client) offline(files map[string][]byte) *chain {
	t := c.newChain()
	t.local = func(role string) []byte { return files[role] }
	t.marks = newMarks()
	return t
}

func (c *Client) newChain() *chain {
	return &chain{
		c: c, files: map[string][]byte{}, roles: map[string]*targetsMeta{}, verified: map[edge]bool{},
		targets: map[string]*metadata.TargetFiles{}, names: map[string]bool{},
		trusted: &trustedmetadata.TrustedMetadata{Targets: map[string]*targetsMeta{}},
	}
}

// build runs all steps.
func (t *chain) build(ctx context.Context) error {
	t.start()
	for _, step := range []func(context.Context) error{t.updateRoot, t.updateTimestamp, t.updateSnapshot, t.updateTargets} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if t.c.o.Product == "" {
		return nil
	}
	return t.list(ctx)
}

// start takes the newest root that is trusted already: the image's or the store's.
func (t *chain) start() {
	c := t.c
	m, _ := builtIn(c.o.Root)
	t.useRoot(m, c.o.Root)
	data := t.local(roleRoot)
	if data == nil || bytes.Equal(data, c.o.Root) {
		return
	}
	stored, err := builtIn(data)
	switch {
	case err != nil:
		c.store.damaged(fileName(roleRoot), err)
	case stored.Signed.Version > m.Signed.Version:
		t.useRoot(stored, data)
	case stored.Signed.Version == m.Signed.Version:
		c.o.Warn(fmt.Sprintf("the stored root metadata differs from the image's of the same version %d: trusting the image's", m.Signed.Version))
	}
}

func (t *chain) useRoot(m *rootMeta, data []byte) {
	t.root, t.trusted.Root = m, usableRoot(m)
	t.files[roleRoot] = data
}

// updateRoot follows the chain of roots to its end, and checks that the end is not before what was seen before.
func (t *chain) updateRoot(ctx context.Context) error {
	if t.fetch {
		if err := t.fetchRoots(ctx); err != nil {
			return err
		}
	}
	version := t.root.Signed.Version
	if err := t.marks.check(roleRoot, version); err != nil {
		return &Error{
			Role: roleRoot, Blame: BlameRepository, Err: err,
			Hint: "the repository must serve every root file from the image's version on",
		}
	}
	if err := t.forget(t.marks.void(t.root)); err != nil {
		return err
	}
	t.marks.raise(t.root, roleRoot, version, time.Time{})
	t.setClock(t.marks)
	if expires := t.root.Signed.Expires; t.fetch && !t.clock.Now.Before(expires) {
		return expiredError(roleRoot, "", expires, t.clock)
	}
	return nil
}

func (t *chain) fetchRoots(ctx context.Context) error {
	for range t.c.o.Limits.RootRotations {
		path := metadataPath(roleRoot, t.root.Signed.Version+1)
		_, err := t.c.o.Transport.Get(ctx, path, t.c.o.Limits.Root, func(data []byte) error {
			return t.blame(roleRoot, path, t.acceptRoot(data))
		})
		if errors.Is(err, transport.ErrNotFound) {
			if errors.Is(err, ErrTrust) {
				// One mirror has none, and another one nonsense: whoever can serve that could also serve nothing.
				t.c.o.Warn(err.Error())
			}
			break
		}
		if err == nil {
			err = t.save(roleRoot)
		}
		if err != nil {
			return err
		}
	}
	if !bytes.Equal(t.c.store.read(fileName(roleRoot)), t.files[roleRoot]) {
		return t.save(roleRoot)
	}
	return nil
}

// acceptRoot verifies the successor of the present root: signed by both. Its expiry does not matter, there may be another.
func (t *chain) acceptRoot(data []byte) error {
	m, err := parseRoot(data)
	if err != nil {
		return err
	}
	if want := t.root.Signed.Version + 1; m.Signed.Version != want {
		return fmt.Errorf("it has version %d, not %d", m.Signed.Version, want)
	}
	if err := guard(func() error { return t.trusted.Root.VerifyDelegate(roleRoot, m) }); err != nil {
		return fmt.Errorf("it is not signed by the keys of root version %d: %w", t.root.Signed.Version, err)
	}
	if err := verifySelf(m); err != nil {
		return err
	}
	if err := t.forget(t.marks.void(m)); err != nil {
		return err
	}
	t.marks.raise(m, roleRoot, m.Signed.Version, time.Time{})
	t.useRoot(m, data)
	return nil
}

func verifySelf(m *rootMeta) error {
	if err := guard(func() error { return usableRoot(m).VerifyDelegate(roleRoot, m) }); err != nil {
		return fmt.Errorf("it is not signed by its own keys: %w", err)
	}
	return nil
}

// forget removes the files of roles whose keys were replaced: the way back from a thief who signed a version that nobody
// can exceed.
func (t *chain) forget(voided []string) error {
	if !t.fetch {
		return nil
	}
	for _, role := range voided {
		if t.local(role) == nil {
			continue
		}
		if err := durable.Remove(t.c.store.fs, t.c.store.path(fileName(role))); err != nil {
			return err
		}
	}
	return nil
}

func (t *chain) updateTimestamp(ctx context.Context) error {
	if data := t.local(roleTimestamp); data != nil {
		if err := t.acceptLocalTimestamp(data); err != nil {
			t.c.store.damaged(fileName(roleTimestamp), err)
		}
	}
	if t.fetch {
		path := metadataPath(roleTimestamp, 0)
		data, err := t.c.o.Transport.Get(ctx, path, t.c.o.Limits.Timestamp, func(data []byte) error {
			return t.blame(roleTimestamp, path, t.acceptTimestamp(data))
		})
		if err != nil {
			return err
		}
		if bytes.Equal(data, t.files[roleTimestamp]) && !bytes.Equal(data, t.local(roleTimestamp)) {
			if err := t.save(roleTimestamp); err != nil {
				return err
			}
		}
	}
	if t.trusted.Timestamp == nil {
		return &Error{Role: roleTimestamp, Blame: BlameHost, Err: errors.New("the stored file is missing or does not verify")}
	}
	return nil
}

// acceptLocalTimestamp takes an older timestamp as the bar for the next one. It may have expired.
func (t *chain) acceptLocalTimestamp(data []byte) error {
	if _, _, err := parseTimestamp(data); err != nil {
		return err
	}
	err := guard(func() error { _, err := t.trusted.UpdateTimestamp(data); return err })
	if err != nil && !isExpired(err) {
		return err
	}
	t.files[roleTimestamp] = data
	return nil
}

func (t *chain) acceptTimestamp(data []byte) error {
	m, issued, err := parseTimestamp(data)
	if err != nil {
		return err
	}
	if err := guard(func() error { return t.trusted.Root.VerifyDelegate(roleTimestamp, m) }); err != nil {
		return err
	}
	if err := t.marks.check(roleTimestamp, m.Signed.Version); err != nil {
		return err
	}
	if err := t.marks.check(roleSnapshot, m.Signed.Meta["snapshot.json"].Version); err != nil {
		return err
	}
	marks := t.marks.clone()
	marks.raise(t.root, roleTimestamp, m.Signed.Version, issued)
	t.setClock(marks)
	if expires := t.root.Signed.Expires; !t.clock.Now.Before(expires) {
		// A thief of the timestamp's key who signs the year 2099 gets no further than this.
		return expiredError(roleRoot, "", expires, t.clock)
	}
	before := t.trusted.Timestamp
	err = guard(func() error { _, err := t.trusted.UpdateTimestamp(data); return err })
	if errors.Is(err, &metadata.ErrEqualVersionNumber{}) {
		m, data, err = before, t.files[roleTimestamp], nil
	}
	if err == nil && !t.clock.Now.Before(m.Signed.Expires) || isExpired(err) {
		err = expiredError(roleTimestamp, t.c.o.Transport.URL(metadataPath(roleTimestamp, 0)), m.Signed.Expires, t.clock)
	}
	if err != nil {
		t.trusted.Timestamp = before
		return err
	}
	t.marks, t.files[roleTimestamp] = marks, data
	return nil
}

func (t *chain) updateSnapshot(ctx context.Context) error {
	if data := t.local(roleSnapshot); data != nil {
		err := t.acceptSnapshot(data, true)
		if err == nil {
			return nil
		}
		if _, _, perr := parseSnapshot(data); perr != nil || !t.fetch {
			t.c.store.damaged(fileName(roleSnapshot), err)
		}
	}
	if !t.fetch {
		return &Error{Role: roleSnapshot, Blame: BlameHost, Err: errors.New("the stored file is missing or does not verify")}
	}
	want := t.trusted.Timestamp.Signed.Meta["snapshot.json"]
	return t.fetchRole(ctx, roleSnapshot, want, t.c.o.Limits.Snapshot, func(data []byte) error {
		return t.acceptSnapshot(data, false)
	})
}

// acceptSnapshot verifies a snapshot. One that was trusted before and is not the current one stays as the bar for the next
// one, and the verdict is an error nevertheless.
func (t *chain) acceptSnapshot(data []byte, before bool) error {
	m, issued, err := parseSnapshot(data)
	if err != nil {
		return err
	}
	below := t.marks.checkAll(m)
	if below != nil && !before {
		return below
	}
	last := t.trusted.Snapshot
	err = guard(func() error { _, err := t.trusted.UpdateSnapshot(data, before); return err })
	if err != nil {
		if !before {
			t.trusted.Snapshot = last
		}
		if isExpired(err) {
			err = expiredError(roleSnapshot, "", m.Signed.Expires, t.clock)
		}
		return err
	}
	if below != nil {
		return below
	}
	t.marks.raise(t.root, roleSnapshot, m.Signed.Version, issued)
	t.marks.raiseAll(m)
	t.setClock(t.marks)
	t.files[roleSnapshot] = data
	return nil
}

func (t *chain) updateTargets(ctx context.Context) error {
	_, err := t.role(ctx, roleTargets, roleRoot)
	return err
}

// fetchRole fetches a file that metadata names: its version, and perhaps its length.
func (t *chain) fetchRole(ctx context.Context, role string, want *metadata.MetaFiles, limit int64, accept func([]byte) error) error {
	if want.Length > 0 {
		if want.Length > limit {
			return &Error{Role: role, Blame: BlameRepository, Err: fmt.Errorf("it has %d bytes, and this agent reads %d at most", want.Length, limit)}
		}
		limit = want.Length
	}
	var version int64
	if t.root.Signed.ConsistentSnapshot {
		version = want.Version
	}
	path := metadataPath(role, version)
	_, err := t.c.o.Transport.Get(ctx, path, limit, func(data []byte) error {
		return t.blame(role, path, accept(data))
	})
	if err != nil {
		return err
	}
	return t.save(role)
}

// save writes the verified file of a role to the store, and the marks if they rose.
func (t *chain) save(role string) error {
	if err := t.c.store.write(fileName(role), t.files[role]); err != nil {
		return err
	}
	return t.saveMarks()
}

func (t *chain) saveMarks() error {
	if t.marks.equal(t.saved) {
		return nil
	}
	if err := t.c.store.writeMarks(t.marks); err != nil {
		return err
	}
	t.saved = t.marks.clone()
	return nil
}

// setClock makes the trusted time the reference of all checks that follow. Metadata is expired from the very second that
// it names, while go-tuf compares with "after".
func (t *chain) setClock(m marks) {
	t.clock = t.c.clock(m)
	if t.fetch {
		t.trusted.RefTime = t.clock.Now.Add(time.Nanosecond)
	}
}

// blame wraps the verdict on fetched bytes.
func (t *chain) blame(role, path string, err error) error {
	var known *Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	return &Error{Role: role, URL: t.c.o.Transport.URL(path), Blame: BlameRepository, Err: err}
}

func isExpired(err error) bool { return errors.Is(err, &metadata.ErrExpiredMetadata{}) }

// metadataPath is where the repository has the file of a role; version 0: the one without a version in its name.
func metadataPath(role string, version int64) string {
	if version == 0 {
		return "metadata/" + fileName(role)
	}
	return "metadata/" + strconv.FormatInt(version, 10) + "." + fileName(role)
}
