package tuf_test

import (
	"context"
	"errors"
	"strings"
	"testing"

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
