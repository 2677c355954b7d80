package tuf

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/internal/transport"
	"github.com/evenkeel-os/evenkeel/release"
)

// Offers implements updater.Source. It needs no network. Beside an error, which says why the trusted metadata is none
// (there never was any) or is too old, the releases that it names are returned nevertheless, for showing.
func (c *Client) Offers(context.Context) ([]release.Release, error) {
	v := c.shown()
	if v == nil {
		return nil, &Error{Role: "the repository", Blame: BlameHost, Err: errors.New("its metadata was never verified on this host"), Hint: "refresh first"}
	}
	return slices.Clone(v.releases), c.fresh(v)
}

// fresh returns an error if what is shown has expired by now.
func (c *Client) fresh(v *view) error {
	clock := c.clock(c.store.readMarks())
	for _, r := range v.roles {
		if !clock.Now.Before(r.Expires) {
			return expiredError(r.Name, "", r.Expires, clock)
		}
	}
	return nil
}

// readReleases returns the releases that t names, from the cache or fetched, in ascending order of serial, and what is
// wrong with those that cannot be had. One bad release must not hide the others. The error is the network's.
func (c *Client) readReleases(ctx context.Context, t *chain, fetch bool) (rels []release.Release, problems []string, err error) {
	for _, name := range slices.Sorted(maps.Keys(t.targets)) {
		var rel release.Release
		data, ferr := c.target(ctx, t.targets[name], name, c.o.Limits.Release, fetch && err == nil)
		if ferr == nil {
			rel, ferr = c.parseRelease(name, data)
		}
		if ferr == nil {
			rels = append(rels, rel)
			continue
		}
		problems = append(problems, ferr.Error())
		var temp interface{ Temporary() bool }
		if ctx.Err() != nil || errors.As(ferr, &temp) && temp.Temporary() {
			err = ferr
		} else if fetch {
			c.o.Warn(ferr.Error())
		}
	}
	slices.SortFunc(rels, func(a, b release.Release) int { return cmp.Compare(a.Serial, b.Serial) })
	return rels, problems, err
}

var errNotCached = errors.New("it was not fetched yet")

// target returns the bytes of a small target, which t names as f, verified.
func (c *Client) target(ctx context.Context, f *metadata.TargetFiles, name string, limit int64, fetch bool) ([]byte, error) {
	digest := hex.EncodeToString(f.Hashes["sha256"])
	if data := c.store.target(digest); digest != "" && data != nil && int64(len(data)) == f.Length {
		return data, nil
	}
	if !fetch || c.o.Transport == nil {
		return nil, fmt.Errorf("cannot read %s: %w", name, errNotCached)
	}
	if f.Length > limit {
		return nil, &Error{Role: name, Blame: BlameRepository, Err: fmt.Errorf("it has %d bytes, and this agent reads %d at most", f.Length, limit)}
	}
	where := c.targetPath(name, f)
	data, err := c.o.Transport.Get(ctx, where, f.Length, func(data []byte) error {
		if err := guard(func() error { return f.VerifyLengthHashes(data) }); err != nil {
			return &Error{Role: name, URL: c.o.Transport.URL(where), Blame: BlameRepository, Err: err}
		}
		return nil
	})
	if errors.Is(err, transport.ErrTooLarge) {
		err = &Error{Role: name, Blame: BlameRepository, Err: err}
	}
	if err != nil || digest == "" {
		return data, err
	}
	if err := c.store.writeTarget(data); err != nil {
		c.o.Warn(err.Error() + ": it will be fetched again")
	}
	return data, nil
}

// targetPath is where the repository has a target.
func (c *Client) targetPath(name string, f *metadata.TargetFiles) string {
	dir, base := path.Split(name)
	prefix := ""
	if c.set == nil || c.set.root.Signed.ConsistentSnapshot {
		prefix = hashPrefix(f) + "."
	}
	var b strings.Builder
	b.WriteString("targets/")
	for part := range strings.SplitSeq(strings.TrimSuffix(dir, "/"), "/") {
		if dir != "" {
			b.WriteString(url.PathEscape(part) + "/")
		}
	}
	return b.String() + prefix + url.PathEscape(base)
}

// hashPrefix is the hash in a target's file name: SHA-256 where there is one.
func hashPrefix(f *metadata.TargetFiles) string {
	if h, ok := f.Hashes["sha256"]; ok {
		return h.String()
	}
	return f.Hashes["sha512"].String()
}

var (
	safeName   = regexp.MustCompile(`^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$`)
	safeSerial = regexp.MustCompile(`^(0|[1-9][0-9]{0,19})\.json$`)
)

// safe reports whether a name may be used as a path.
func safe(name string) bool {
	return len(name) <= 255 && safeName.MatchString(name) && path.Clean(name) == name && !strings.HasPrefix(name, "..")
}

// serial returns the serial of the product's release that a target's name stands for.
func (c *Client) serial(name string) (uint64, bool) {
	rest, ok := strings.CutPrefix(name, "releases/"+c.o.Product+"/")
	if !ok || !safeSerial.MatchString(rest) {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(rest, ".json"), 10, 64)
	return n, err == nil
}

// parseRelease reads the JSON of a release. Unknown fields are a newer publisher's; everything else must be right.
func (c *Client) parseRelease(name string, data []byte) (release.Release, error) {
	var r release.Release
	err := json.Unmarshal(data, &r)
	if err == nil {
		err = r.Check()
	}
	if n, _ := c.serial(name); err == nil && (r.Serial != n || r.Product != c.o.Product) {
		err = fmt.Errorf("it says that it is serial %d of product %q", r.Serial, r.Product)
	}
	if err != nil {
		return r, &Error{Role: name, Blame: BlameRepository, Err: fmt.Errorf("it is no usable release: %w", err)}
	}
	return r, nil
}

// Open implements updater.Source. The release that im is of may have been withdrawn since, but must still be named.
func (c *Client) Open(ctx context.Context, im release.Image) (*image.Index, image.Blob, []image.DeltaRef, error) {
	fail := func(err error) (*image.Index, image.Blob, []image.DeltaRef, error) {
		return nil, nil, nil, fmt.Errorf("cannot open image %s: %w", im.Role, err)
	}
	if !safe(im.Index) || !safe(im.Pack) {
		return fail(fmt.Errorf("its index or pack has no safe name: %.100q, %.100q", im.Index, im.Pack))
	}
	data, err := c.Target(ctx, im.Index, c.o.Limits.Index)
	if err != nil {
		return fail(err)
	}
	ix, err := parseIndex(data, im)
	if err != nil {
		return fail(&Error{Role: im.Index, Blame: BlameRepository, Err: err})
	}
	if c.o.Transport == nil {
		return fail(errors.New("no repository is configured"))
	}
	pack, err := c.o.Transport.Blob(ctx, "targets/"+im.Pack, ix.PackSize())
	if err != nil {
		return fail(err)
	}
	return ix, pack, nil, nil
}

// Target returns the verified bytes of any target of at most limit bytes, by the set in force. It is fetched if it is not
// in the cache. The error is ErrNoTarget where no role names it.
func (c *Client) Target(ctx context.Context, name string, limit int64) ([]byte, error) {
	c.work.Lock()
	defer c.work.Unlock()
	if c.set == nil {
		return nil, &Error{Role: name, Blame: BlameHost, Err: errors.New("no metadata was ever verified on this host"), Hint: "refresh first"}
	}
	f, err := c.set.lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	return c.target(ctx, f, name, limit, true)
}
