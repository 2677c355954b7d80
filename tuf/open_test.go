package tuf_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/evenkeel-os/evenkeel/internal/transport"
	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/tuf"
)

// indexFile returns where the repository serves the index of im.
func indexFile(w *world, im release.Image) string {
	for name := range w.repo.Files() {
		if strings.HasPrefix(name, "targets/images/") && strings.HasSuffix(name, strings.TrimPrefix(im.Index, "images/")) {
			return name
		}
	}
	w.t.Fatalf("no file of %s", im.Index)
	return ""
}

// TestOpenRefuses: an index that is not named, not served, not what was signed, or not of the image.
func TestOpenRefuses(t *testing.T) {
	im := aRelease(1).Images[0]
	for name, tc := range map[string]struct {
		change func(*world, *release.Image)
		want   string
		trust  bool
	}{
		"not named by any role": {func(w *world, im *release.Image) { im.Index = "images/other.index" }, "no trusted role names it", false},
		"named by a role that may not": {func(w *world, im *release.Image) {
			im.Index = "images/policy.index"
			w.repo.AddTarget("policy", im.Index, []byte("x"))
		}, "no trusted role names it", false},
		"not served":               {func(w *world, im *release.Image) { w.repo.Remove(indexFile(w, *im)) }, "no such file", false},
		"changed":                  {func(w *world, im *release.Image) { w.repo.Tamper(indexFile(w, *im)) }, "mismatch", true},
		"cut off":                  {func(w *world, im *release.Image) { w.repo.Truncate(indexFile(w, *im)) }, "verification", true},
		"signed, and no index":     {func(*world, *release.Image) {}, "cannot trust " + im.Index, true},
		"a name that leads out":    {func(w *world, im *release.Image) { im.Index = "../../etc/shadow" }, "no safe name", false},
		"a pack that leads out":    {func(w *world, im *release.Image) { im.Pack = "packs/../../x" }, "no safe name", false},
		"a pack with a query":      {func(w *world, im *release.Image) { im.Pack = "packs/x?y=z" }, "no safe name", false},
		"larger than it may be":    {func(w *world, im *release.Image) { w.limit.Index = 3 }, "reads 3 at most", true},
		"never refreshed, no root": {func(w *world, im *release.Image) { w.repo.Gone() }, "refresh first", true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			im := im
			w.repo.AddTarget("releases", im.Index, []byte("this is no index"))
			tc.change(w, &im)
			if w.repo.File("metadata/1.root.json") != nil {
				w.repo.Publish()
			}
			c := w.open()
			_ = c.Refresh(context.Background())
			_, _, _, err := c.Open(context.Background(), im)
			if err == nil || !strings.Contains(err.Error(), tc.want) || errors.Is(err, tuf.ErrTrust) != tc.trust {
				t.Errorf("error = %v, want %q (trust: %v)", err, tc.want, tc.trust)
			}
			if err != nil && !strings.Contains(err.Error(), "image root") {
				t.Errorf("error %q does not name the image's role", err)
			}
		})
	}
}

// TestOpen hands out an index and a pack that belong together, needs no network for the index a second time, and does not
// ask for the size of the pack, which the index tells.
func TestOpen(t *testing.T) {
	w := newWorld(t)
	content := bytes.Repeat([]byte("evenkeel"), 300_000)
	rel := aRelease(3)
	rel.Images[0] = w.repo.AddImage(rel.Images[0], content)
	im := rel.Images[0]
	w.repo.AddRelease(rel)
	w.repo.Publish()
	c := w.mustRefresh()
	for n, requests := range []int{1, 0} {
		w.repo.Requests()
		ix, pack, _, err := c.Open(context.Background(), im)
		if err != nil {
			t.Fatal(err)
		}
		if got := w.repo.Requests(); len(got) != requests {
			t.Errorf("open number %d asked for %q", n, got)
		}
		if ix.Size() != int64(len(content)) || release.Digest(ix.SHA256()) != im.SHA256 || pack.Size() != ix.PackSize() {
			t.Errorf("index of %d bytes, %v, pack of %d", ix.Size(), release.Digest(ix.SHA256()), pack.Size())
		}
		off, size := ix.Frame(1)
		r, err := pack.Range(context.Background(), off, size)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if want := w.repo.File("targets/" + im.Pack)[off : off+size]; err != nil || !bytes.Equal(got, want) {
			t.Errorf("frame 1: %d bytes, %v", len(got), err)
		}
	}
}

// TestOpenOfAnotherImage: an index that is signed, but not of the image that the release means.
func TestOpenOfAnotherImage(t *testing.T) {
	w := newWorld(t)
	im := w.repo.AddImage(aRelease(1).Images[0], []byte("one image"))
	other := w.repo.AddImage(aRelease(1).Images[0], []byte("another image"))
	w.repo.Publish()
	c := w.mustRefresh()
	for name, wrong := range map[string]release.Image{
		"other digest": {Role: "root", Size: im.Size, SHA256: other.SHA256, Index: im.Index, Pack: im.Pack},
		"other size":   {Role: "root", Size: im.Size + 1, SHA256: im.SHA256, Index: im.Index, Pack: im.Pack},
	} {
		if _, _, _, err := c.Open(context.Background(), wrong); !errors.Is(err, tuf.ErrTrust) {
			t.Errorf("%s: %v, want it refused", name, err)
		}
	}
	if _, _, _, err := c.Open(context.Background(), im); err != nil {
		t.Error(err)
	}
}

// TestOpenWithAPackOfAnotherSize: the pack is untrusted, but its size is not.
func TestOpenWithAPackOfAnotherSize(t *testing.T) {
	w := newWorld(t)
	im := w.repo.AddImage(aRelease(1).Images[0], []byte("one image"))
	w.repo.Publish()
	w.repo.Truncate("targets/" + im.Pack)
	_, pack, _, err := w.mustRefresh().Open(context.Background(), im)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pack.Range(context.Background(), 0, pack.Size()); !errors.Is(err, transport.ErrChanged) {
		t.Errorf("error = %v, want one about the size", err)
	}
}
