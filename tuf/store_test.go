package tuf_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/tuf"
)

// storeFiles returns the files of the store, by path.
func storeFiles(t *testing.T, disk *fixtures.FS) []string {
	t.Helper()
	var all []string
	for _, dir := range []string{store, store + "/targets"} {
		names, err := disk.List(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for _, n := range names {
			all = append(all, filepath.Join(dir, n))
		}
	}
	slices.Sort(all)
	return all
}

// damages are what a power cut, a bad flash cell or a curious person does to a file. Nil: the file is gone.
var damages = map[string]func([]byte) []byte{
	"missing":      func([]byte) []byte { return nil },
	"empty":        func([]byte) []byte { return []byte{} },
	"truncated":    func(b []byte) []byte { return b[:len(b)/2] },
	"zeros":        func(b []byte) []byte { return make([]byte, len(b)) },
	"zeros at end": func(b []byte) []byte { return append(bytes.Clone(b[:len(b)-9]), make([]byte, 9)...) },
	"flipped bit":  func(b []byte) []byte { c := bytes.Clone(b); c[len(c)*2/3] ^= 1; return c },
	"other JSON":   func([]byte) []byte { return []byte(`{"signed":{},"signatures":null,"schema":0,"files":{"root":null}}`) },
	"null":         func([]byte) []byte { return []byte("null") },
}

// TestDamagedStore damages each file in each way: the client opens, warns, goes back to nothing older than what it
// trusted, and is whole again after the next refresh.
func TestDamagedStore(t *testing.T) {
	w := newWorld(t)
	w.direct = true
	old := w.repo.Files()
	w.mustRefresh()
	publish3(w)
	w.mustRefresh()
	good, whole := w.repo.Files(), w.disk
	files := storeFiles(t, whole)
	if len(files) < 9 {
		t.Fatalf("the store holds only %q", files)
	}
	for _, file := range files {
		for name, damage := range damages {
			t.Run(strings.TrimPrefix(file, store+"/")+" "+name, func(t *testing.T) {
				w.t, w.warned, w.disk = t, nil, whole.Crash(fixtures.CrashKeepAll)
				data, err := w.disk.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if data = damage(data); data == nil {
					_ = w.disk.Remove(file)
				} else {
					w.disk.Put(file, data)
				}
				w.repo.Restore(old)
				if err := w.refresh(); err == nil || !strings.Contains(err.Error(), "older than") && !strings.Contains(err.Error(), "must be >=") {
					t.Errorf("a rollback after the damage: %v, want it refused", err)
				}
				w.repo.Restore(good)
				c := w.mustRefresh()
				if got := serials(t, c); !slices.Equal(got, []uint64{1, 2, 3}) {
					t.Errorf("offers = %v", got)
				}
				if name != "missing" && name != "flipped bit" {
					w.mustWarn(file)
				}
				w.warned = nil
				w.repo.Restore(nil)
				if got := serials(t, w.open()); !slices.Equal(got, []uint64{1, 2, 3}) {
					t.Errorf("offers after a restart without a network = %v", got)
				}
				w.mustNotWarn()
			})
		}
	}
}

// TestMarksSurviveNoFlippedBit flips many single bits of the marks: none becomes a version that no repository can reach.
func TestMarksSurviveNoFlippedBit(t *testing.T) {
	w := newWorld(t)
	w.mustRefresh()
	data, err := w.disk.ReadFile(store + "/marks")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(data)*8; i += 29 {
		flipped := bytes.Clone(data)
		flipped[i/8] ^= 1 << (i % 8)
		w.disk.Put(store+"/marks", flipped)
		c := w.open()
		for role, version := range c.Report().Marks {
			if version > 2 {
				t.Fatalf("bit %d: the mark of %s is %d", i, role, version)
			}
		}
	}
	w.mustRefresh()
}

// TestLostStore: with everything gone, trust starts again from the image's root.
func TestLostStore(t *testing.T) {
	w := newWorld(t)
	w.mustRefresh()
	w.disk = fixtures.NewFS()
	c := w.open()
	if _, err := c.Offers(context.Background()); !errors.Is(err, tuf.ErrTrust) || !strings.Contains(err.Error(), "never verified") {
		t.Errorf("offers of a lost store: %v", err)
	}
	if r := c.Report(); len(r.Roles) != 1 || r.Roles[0].Name != "root" || r.Roles[0].Version != 1 {
		t.Errorf("report of a lost store: %+v", r.Roles)
	}
	if got := serials(t, w.mustRefresh()); len(got) != 2 {
		t.Errorf("offers = %v", got)
	}
}

// TestRefreshSurvivesEveryCut cuts the power after each step that writes, of a first refresh and of one that follows a
// root rotation and a new release. The set in force afterwards is the old or the new one, the next refresh works, and
// what a cut refresh had verified cannot be rolled back.
func TestRefreshSurvivesEveryCut(t *testing.T) {
	for name, before := range map[string]bool{"first refresh": false, "update": true} {
		t.Run(name, func(t *testing.T) {
			seen := map[string]bool{}
			for n, done := 0, false; !done; n++ {
				done = cutRefresh(t, n, before, seen)
				if n > 500 {
					t.Fatal("a refresh takes more than 500 steps")
				}
			}
		})
	}
}

// cutRefresh cuts after n steps. What was seen on a disk before need not be tried again.
func cutRefresh(t *testing.T, n int, before bool, seen map[string]bool) (done bool) {
	w := newWorld(t)
	w.direct = true
	wants := [][]uint64{nil, {1, 2}}
	if before {
		w.mustRefresh()
		w.repo.SetKeys("root", 1, fixtures.NewKey("root 2"))
		w.repo.SetKeys("timestamp", 1, fixtures.NewKey("timestamp 2"))
		w.repo.PublishRoot()
		publish3(w)
		wants = [][]uint64{{1, 2}, {1, 2, 3}}
	}
	last := wants[1]
	w.disk.CutAfter(n)
	err := w.refresh()
	if err != nil && !errors.Is(err, fixtures.ErrPowerCut) {
		t.Fatalf("cut after %d steps: %v", n, err)
	}
	for _, how := range fixtures.Crashes() {
		after := *w
		after.disk = w.disk.Crash(how)
		key := after.disk.Content()
		if err != nil && seen[key] {
			continue
		}
		seen[key] = true
		c := after.open()
		rels, oerr := c.Offers(context.Background())
		var got []uint64
		for _, r := range rels {
			got = append(got, r.Serial)
		}
		fetched := len(got) < len(last) && len(c.Report().Problems) > 0 // the set is new, a release not yet in the cache
		if !slices.Equal(got, wants[0]) && !slices.Equal(got, last) && !fetched {
			t.Fatalf("cut after %d steps, %v: offers %v, %v", n, how, got, oerr)
		}
		if err == nil && !slices.Equal(got, last) && !fetched {
			t.Fatalf("cut after %d steps, %v: the refresh was done, and the offers are %v", n, how, got)
		}
		if got := serials(t, after.mustRefresh()); !slices.Equal(got, last) {
			t.Fatalf("cut after %d steps, %v: offers %v after the next refresh", n, how, got)
		}
		for _, file := range storeFiles(t, after.disk) {
			if strings.Contains(file, "unfinished") {
				t.Errorf("cut after %d steps, %v: %s is left for ever", n, how, file)
			}
		}
	}
	return err == nil
}

// TestFullDisk: a refresh that cannot save fails, and what was trusted stays in force.
func TestFullDisk(t *testing.T) {
	w := newWorld(t)
	c := w.mustRefresh()
	w.disk.Limit(0)
	publish3(w)
	if err := c.Refresh(context.Background()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("refresh: %v, want a full disk", err)
	}
	if got := serials(t, c); !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("offers = %v", got)
	}
	w.disk.Limit(-1)
	if got := serials(t, w.mustRefresh()); !slices.Equal(got, []uint64{1, 2, 3}) {
		t.Errorf("offers = %v after there was room again", got)
	}
}

// TestIdleRefreshWritesNothing: flash wears.
func TestIdleRefreshWritesNothing(t *testing.T) {
	w := newWorld(t)
	w.mustRefresh()
	steps := w.disk.Steps()
	w.repo.Requests()
	w.mustRefresh()
	if n := w.disk.Steps() - steps; n != 0 {
		t.Errorf("an idle refresh took %d writing steps", n)
	}
	if got := w.repo.Requests(); !slices.Equal(got, []string{"metadata/2.root.json", "metadata/timestamp.json"}) {
		t.Errorf("an idle refresh asked for %q", got)
	}
}

func TestWithdrawnFilesLeaveTheCache(t *testing.T) {
	w := newWorld(t)
	w.mustRefresh()
	before := len(storeFiles(t, w.disk))
	delete(w.repo.Targets["releases"].Targets, "releases/edge/1.json")
	w.repo.Publish()
	if got := serials(t, w.mustRefresh()); !slices.Equal(got, []uint64{2}) {
		t.Errorf("offers = %v", got)
	}
	if after := len(storeFiles(t, w.disk)); after != before-1 {
		t.Errorf("%d files before, %d after a release was removed", before, after)
	}
}

// TestStoreOnTheRealFileSystem runs over a directory instead of the twin.
func TestStoreOnTheRealFileSystem(t *testing.T) {
	w := newWorld(t)
	o := w.options()
	o.FS, o.Dir = nil, filepath.Join(t.TempDir(), "state", "tuf")
	for range 2 {
		c, err := tuf.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Refresh(context.Background()); err != nil {
			t.Fatal(err)
		}
		if got := serials(t, c); len(got) != 2 {
			t.Errorf("offers = %v", got)
		}
	}
	w.mustNotWarn()
}
