package repo

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel-os/evenkeel/fixtures"
)

// TestVerifyFindsAnyDamage damages every published file in every way, and wants verify to name it.
func TestVerifyFindsAnyDamage(t *testing.T) {
	w := newWorld(t)
	w.ready()
	w.release(1)
	w.release(2)
	published := w.referenced()
	if len(published) < 14 {
		t.Fatalf("only %d files: %v", len(published), published)
	}
	damages := map[string]func(*fixtures.FS, string, []byte){
		"a flipped bit": func(fs *fixtures.FS, name string, data []byte) {
			data[len(data)/3] ^= 4
			fs.Put(name, data)
		},
		"cut off":        func(fs *fixtures.FS, name string, data []byte) { fs.Put(name, data[:len(data)/2]) },
		"an empty file":  func(fs *fixtures.FS, name string, _ []byte) { fs.Put(name, nil) },
		"all zeros":      func(fs *fixtures.FS, name string, data []byte) { fs.Put(name, make([]byte, len(data))) },
		"a missing file": func(fs *fixtures.FS, name string, _ []byte) { _ = fs.Remove(name) },
	}
	for _, name := range published {
		for how, damage := range damages {
			d := w.copy(t)
			damage(d.fs, d.at(name), bytes.Clone(w.files()[name]))
			if err := d.findDamage(name, how); err != nil {
				t.Errorf("%s of %s: %v", how, name, err)
			}
		}
	}
}

// referenced returns the files that hosts need.
func (w *world) referenced() []string {
	s, err := w.load()
	w.must(err)
	var names []string
	for name := range w.files() {
		old := name == "metadata/1.releases.json" || name == "metadata/2.releases.json" || strings.HasSuffix(name, ".snapshot.json")
		current := name == fmt.Sprintf("metadata/%d.snapshot.json", s.version(RoleSnapshot)) || name == fmt.Sprintf("metadata/%d.releases.json", s.version(RoleReleases))
		if !strings.HasPrefix(name, stagedDir) && (!old || current) {
			names = append(names, name)
		}
	}
	return names
}

func (w *world) findDamage(name, how string) error {
	v, err := w.Verify(w.ctx(), VerifyOptions{})
	missing := how == "a missing file" && (name == "metadata/timestamp.json" || name == "metadata/1.root.json")
	switch {
	case missing && errors.Is(err, ErrInput):
		return nil // as if it had never been published
	case err != nil:
		return err
	case len(v.Problems) == 0:
		return errors.New("nobody notices")
	case v.Problems[0].Where != name:
		return fmt.Errorf("the problem is said to be %w", v.Problems[0])
	}
	return nil
}

// TestPublishRefusesBadPack: bytes that a host would refuse do not get out.
func TestPublishRefusesBadPack(t *testing.T) {
	w := newWorld(t)
	w.ready()
	w.add(1)
	w.signAll()
	for name, data := range w.files() {
		if strings.HasPrefix(name, stagedTargets) && strings.HasSuffix(name, ".pack") {
			data[len(data)/2] ^= 1
			w.fs.Put(w.at(name), data)
			break
		}
	}
	_, err := w.Publish(w.ctx(), w)
	w.wantErr(err, ErrInvalid, ".pack")
	if got := w.sound(); len(got) > 0 {
		t.Errorf("hosts see %v", got)
	}
}

// TestQuickVerify leaves the bytes of packs out, and says nothing of them.
func TestQuickVerify(t *testing.T) {
	w := newWorld(t)
	w.ready()
	w.release(1)
	for name, data := range w.files() {
		if strings.HasSuffix(name, ".pack") {
			data[len(data)/2] ^= 1
			w.fs.Put(w.at(name), data)
		}
	}
	v, err := w.Verify(w.ctx(), VerifyOptions{Quick: true})
	w.must(err)
	if len(v.Problems) > 0 || v.Images != 2 || v.Releases != 1 {
		t.Errorf("quick: %+v", v)
	}
	v, err = w.Verify(w.ctx(), VerifyOptions{})
	w.must(err)
	if len(v.Problems) != 2 {
		t.Errorf("not quick: %+v", v.Problems)
	}
}

// TestExpiring is for monitoring: complain early.
func TestExpiring(t *testing.T) {
	w := newWorld(t)
	w.ready()
	for ahead, want := range map[int]int{6: 0, 7: 1, 29: 1, 30: 2, 364: 2, 365: 8} {
		v, err := w.Verify(w.ctx(), VerifyOptions{Ahead: day * time.Duration(ahead)})
		w.must(err)
		if len(v.Problems) != want {
			t.Errorf("%d days ahead: %d problems, want %d", ahead, len(v.Problems), want)
		}
	}
}
