package repo

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/internal/durable"
)

// killed is an operation of a publisher that is killed at every point.
type killed struct {
	name string
	// before brings the repository to where the operation starts.
	before func(*world)
	run    func(*world) error
	// old and new are the serials that hosts may see afterwards.
	old, new []uint64
}

func operations() []killed {
	publish := func(w *world) error { _, err := w.Publish(w.ctx(), w); return err }
	return []killed{
		{
			name:   "publish a release",
			before: func(w *world) { w.ready(); w.release(1); w.now = w.now.Add(time.Hour); w.add(2); w.signAll() },
			run:    publish, old: []uint64{1}, new: []uint64{1, 2},
		},
		{
			name: "publish a renewal of every role, root too",
			before: func(w *world) {
				w.ready()
				w.release(1)
				w.now = w.now.Add(time.Hour)
				_, err := w.Renew()
				w.must(err)
				w.signAll()
			},
			run: publish, old: []uint64{1}, new: []uint64{1},
		},
		{
			name:   "refresh",
			before: func(w *world) { w.ready(); w.release(1); w.now = w.now.Add(time.Hour) },
			run:    func(w *world) error { _, err := w.Refresh(w.ctx(), w, true); return err },
			old:    []uint64{1}, new: []uint64{1},
		},
		{
			name:   "add",
			before: func(w *world) { w.ready(); w.release(1); w.now = w.now.Add(time.Hour) },
			run:    func(w *world) error { _, err := w.Add(w.ctx(), draft(2)); return err },
			old:    []uint64{1}, new: []uint64{1},
		},
		{
			name: "withdraw, sign and publish",
			before: func(w *world) {
				w.ready()
				w.release(1)
				w.now = w.now.Add(time.Hour)
			},
			run: func(w *world) error {
				if _, err := w.Withdraw("", "1", "it eats disks"); err != nil {
					return err
				}
				for _, s := range w.keys[RoleReleases][:2] {
					if _, err := w.Sign(s); err != nil {
						return err
					}
				}
				return publish(w)
			},
			old: []uint64{1}, new: []uint64{1},
		},
	}
}

// TestKilledAnywhere cuts the power after every single step of every operation, in every way that a file system may lose
// what was not synced. A host that had seen the old repository, and one that had seen nothing, must accept what is left,
// as the old repository or the new one, whole; and doing the operation again must complete it.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	for _, op := range operations() {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			start := newWorld(t)
			op.before(start)
			steps := countSteps(t, op, start)
			if steps < 5 {
				t.Fatalf("only %d steps: this tests nothing", steps)
			}
			known := start.known()
			seen := map[string]bool{}
			for n := 0; n < steps; n += stride {
				eachState(t, op, start, n, seen, func(w *world, at string) { judge(t, op, known, w, at) })
			}
			t.Logf("%d steps, %d different states of the disk", steps, len(seen))
		})
	}
}

func countSteps(t *testing.T, op killed, start *world) int {
	w := start.copy(t)
	w.must(op.run(w))
	return w.fs.Steps()
}

// copy returns the same world on its own file system.
func (w *world) copy(t *testing.T) *world {
	c := &world{t: t, now: w.now, keys: w.keys}
	c.on(w.fs.Crash(fixtures.CrashKeepAll))
	return c
}

// eachState cuts the power after step n, and calls check with each state of the disk that this may leave and that was not
// seen yet.
func eachState(t *testing.T, op killed, start *world, n int, seen map[string]bool, check func(w *world, at string)) {
	t.Helper()
	dead := start.copy(t)
	dead.fs.CutAfter(n)
	if err := op.run(dead); !errors.Is(err, fixtures.ErrPowerCut) {
		t.Fatalf("killed after step %d: the operation says %v", n, err)
	}
	for _, how := range fixtures.Crashes() {
		w := &world{t: t, now: dead.now, keys: dead.keys}
		w.on(dead.fs.Crash(how))
		if state := w.fingerprint(); !seen[state] {
			seen[state] = true
			check(w, fmt.Sprintf("killed after step %d, leaving %s", n, how))
		}
	}
}

// judge is the verdict on what a killed publisher left in w.
func judge(t *testing.T, op killed, known func() *host, w *world, at string) {
	t.Helper()
	if err := known().accept(w.ctx(), files{r: w.Repository}, w.now); err != nil {
		t.Fatalf("%s: a host that knew the old repository: %v", at, err)
	}
	if got := w.sound(); !slices.Equal(got, op.old) && !slices.Equal(got, op.new) {
		t.Fatalf("%s: hosts see the releases %v, neither old nor new", at, got)
	}
	if t.Failed() {
		t.Fatal(at)
	}
	redo(t, op, w, at)
}

// redo does the operation again, which must end as if nothing had happened.
func redo(t *testing.T, op killed, w *world, at string) {
	t.Helper()
	w.now = w.now.Add(time.Minute)
	// Where it was done already, it may say so.
	if err := op.run(w); err != nil && !errors.Is(err, ErrInput) {
		t.Fatalf("%s: doing it again: %v", at, err)
	}
	if got := w.sound(); !slices.Equal(got, op.new) {
		t.Fatalf("%s: after doing it again, hosts see the releases %v", at, got)
	}
}

// known returns how to make a host that has seen the repository as it is.
func (w *world) known() func() *host {
	fs, roots := fixtures.NewFS(), w.roots()
	on := func(fs *fixtures.FS) *host {
		h := newHost(roots, []string{"edge"})
		h.stores[0] = fs
		return h
	}
	w.must(on(fs).accept(w.ctx(), files{r: w.Repository}, w.now))
	return func() *host { return on(fs.Crash(fixtures.CrashKeepAll)) }
}

// roots returns the first root.
func (w *world) roots() []byte {
	s, err := w.load()
	w.must(err)
	return s.roots[0]
}

// TestFirstPublishKilled is the same for a repository that was never published: there is nothing yet for hosts to accept,
// and publishing again must complete it.
func TestFirstPublishKilled(t *testing.T) {
	t.Parallel()
	start := newWorld(t)
	start.must(start.Init(start.public()))
	start.signAll()
	op := killed{run: func(w *world) error { _, err := w.Publish(w.ctx(), w); return err }}
	seen := map[string]bool{}
	steps := countSteps(t, op, start)
	for n := 0; n < steps; n += stride {
		eachState(t, op, start, n, seen, func(w *world, at string) { redo(t, op, w, at) })
	}
}

// TestFullDisk fills the disk at every size.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	start := newWorld(t)
	start.ready()
	start.release(1)
	start.add(2)
	start.signAll()
	fitted := 0 // often enough to see that more room does no harm
	for limit := int64(0); fitted < 3; limit += 500 * stride {
		if limit > 1<<20 {
			t.Fatal("it never fits")
		}
		w := start.copy(t)
		var used int64
		for _, data := range w.files() {
			used += int64(len(data))
		}
		w.fs.Limit(used + limit)
		_, err := w.Publish(w.ctx(), w)
		w.fs.Limit(-1)
		if err == nil {
			fitted++
		}
		if got := w.sound(); err != nil && !slices.Equal(got, []uint64{1}) || err == nil && !slices.Equal(got, []uint64{1, 2}) {
			t.Fatalf("with %d bytes left, publish says %v and hosts see %v", limit, err, got)
		}
	}
}

// files returns the contents of all files.
func (w *world) files() map[string][]byte {
	all := map[string][]byte{}
	for _, dir := range []string{metadataDir, stagedMetadata, stagedTargets, "targets/packs", "targets/images", "targets/releases/edge"} {
		names, _ := w.fs.List(w.at(dir))
		for _, name := range names {
			data, err := w.fs.ReadFile(w.at(dir, name))
			w.must(err)
			all[dir+"/"+name] = data
		}
	}
	return all
}

// fingerprint is the same for file systems with the same files, whatever the names of unfinished ones.
func (w *world) fingerprint() string {
	var lines []string
	for name, data := range w.files() {
		name, _, _ = strings.Cut(name, ".unfinished-")
		lines = append(lines, fmt.Sprintf("%s %x", name, sha256.Sum256(data)))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

var _ FS = durable.Public{}
