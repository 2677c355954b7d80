package repo

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/evenkeel-os/evenkeel/internal/transport"
	"github.com/evenkeel-os/evenkeel/tuf"
)

// onDisk returns a world whose repository is a real directory.
func onDisk(t *testing.T) *world {
	w := newWorld(t)
	w.now = time.Now()
	w.Repository = New(Options{Dir: filepath.Join(t.TempDir(), "repo"), Now: func() time.Time { return w.now }, Build: w.o.Build})
	return w
}

// serve is any static HTTP server.
func (w *world) serve() (url string) {
	s := httptest.NewServer(http.FileServer(http.Dir(w.Dir())))
	w.t.Cleanup(s.Close)
	return s.URL
}

// TestServed reads the directory over HTTP with two clients that know nothing of the publisher: ours, and go-tuf's own.
func TestServed(t *testing.T) {
	w := onDisk(t)
	w.ready()
	w.release(1)
	w.release(2)
	url := w.serve()
	root, err := os.ReadFile(w.at("metadata/1.root.json"))
	w.must(err)

	tr, err := transport.New(transport.Options{Mirrors: []string{url}})
	w.must(err)
	c, err := tuf.Open(tuf.Options{Dir: t.TempDir(), Root: root, Product: "edge", Transport: tr})
	w.must(err)
	w.must(c.Refresh(w.ctx()))
	offers, err := c.Offers(w.ctx())
	w.must(err)
	if len(offers) != 2 || offers[1].Version != "1.2.0" {
		t.Fatalf("our client is offered %+v", offers)
	}
	_, pack, _, err := c.Open(w.ctx(), offers[1].Images[0])
	w.must(err)
	if pack.Size() == 0 {
		t.Error("the pack is empty")
	}

	cfg, err := config.New(url+"/metadata", root)
	w.must(err)
	cfg.LocalMetadataDir, cfg.LocalTargetsDir, cfg.RemoteTargetsURL = t.TempDir(), t.TempDir(), url+"/targets"
	u, err := updater.New(cfg)
	w.must(err)
	w.must(u.Refresh())
	for _, name := range []string{"releases/edge/2.json", offers[1].Images[0].Index} {
		info, err := u.GetTargetInfo(name)
		w.must(err)
		if _, _, err := u.DownloadTarget(info, "", ""); err != nil {
			t.Errorf("go-tuf's client cannot download %s: %v", name, err)
		}
	}
	if _, err := u.GetTargetInfo("policy/rollout.yaml"); err == nil {
		t.Error("go-tuf's client found a policy where there is none")
	}
}

// TestModes: what is served can be read by a web server of another user, what is staged cannot.
func TestModes(t *testing.T) {
	w := onDisk(t)
	w.ready()
	w.release(1)
	w.add(2)
	w.must(filepath.WalkDir(w.Dir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		rel, _ := filepath.Rel(w.Dir(), path)
		want := fs.FileMode(0o644)
		if d.IsDir() {
			want = 0o755
		}
		if rel == stagedDir {
			if st.Mode().Perm() != 0o700 {
				t.Errorf("%s has mode %v", rel, st.Mode())
			}
			return filepath.SkipDir
		}
		if st.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", rel, st.Mode().Perm(), want)
		}
		return err
	}))
}

// TestLockFile keeps a second publisher out, in the same process too.
func TestLockFile(t *testing.T) {
	w := onDisk(t)
	unlock, err := w.o.Lock()
	w.must(err)
	if err := w.Init(w.public()); err == nil {
		t.Fatal("two publishers at once")
	}
	unlock()
	w.must(w.Init(w.public()))
}

// TestOddNames: products and versions of every legal form survive URLs and file systems.
func TestOddNames(t *testing.T) {
	w := onDisk(t)
	w.ready()
	for i, product := range []string{"a", "A.b_c-d", "0", "x.json"} {
		d := draft(uint64(i + 1))
		d.Rel.Product, d.Rel.Version = product, fmt.Sprintf("1.%d~rc1+b", i)
		_, err := w.Add(w.ctx(), d)
		w.must(err)
	}
	w.signAll()
	w.publish()
	if v, err := w.Verify(w.ctx(), VerifyOptions{}); err != nil || len(v.Problems) > 0 || v.Releases != 4 {
		t.Errorf("%+v, %v", v, err)
	}
}
