package tuf_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/tuf"
)

var thief = fixtures.NewKey("thief")

// edit changes bytes inside a served file, without signing it again.
func edit(w *world, file, from, to string) {
	w.t.Helper()
	data := string(w.repo.File(file))
	if !strings.Contains(data, from) {
		w.t.Fatalf("%s does not hold %q", file, from)
	}
	w.repo.Put(file, []byte(strings.Replace(data, from, to, 1)))
}

// publish3 publishes one more release, honestly.
func publish3(w *world) {
	w.repo.AddRelease(aRelease(3))
	w.repo.Publish()
}

// attacks are mutations of a repository that a host trusts at version 2 of everything but the root. want is part of the
// error.
var attacks = []struct {
	name   string
	attack func(*world)
	want   string
}{
	// Arbitrary software: somebody without keys.
	{"timestamp changed", func(w *world) {
		publish3(w)
		edit(w, "metadata/timestamp.json", `"version":3`, `"version":4`)
	}, "cannot trust timestamp from http"},
	{"timestamp of a thief", func(w *world) {
		w.repo.Keys["timestamp"] = []*fixtures.Key{thief}
		publish3(w)
	}, "not enough signatures"},
	{"timestamp with the thief's signature under the right key id", func(w *world) {
		fake := *thief
		fake.ID = w.repo.Keys["timestamp"][0].ID
		w.repo.Keys["timestamp"] = []*fixtures.Key{&fake}
		publish3(w)
	}, "not enough signatures"},
	{"timestamp without signatures", func(w *world) { w.repo.Keys["timestamp"] = nil; publish3(w) }, "not enough signatures"},
	{"snapshot of a thief", func(w *world) { w.repo.Keys["snapshot"] = []*fixtures.Key{thief}; publish3(w) }, "cannot trust snapshot"},
	{"targets of a thief", func(w *world) { w.repo.Keys["targets"] = []*fixtures.Key{thief}; publish3(w) }, "cannot trust targets"},
	{"releases of a thief", func(w *world) { w.repo.Keys["releases"] = []*fixtures.Key{thief}; publish3(w) }, "cannot trust releases"},
	{"next root of a thief", func(w *world) {
		w.repo.Keys["root"] = []*fixtures.Key{thief}
		w.repo.PublishRoot()
	}, "not signed by the keys of root version 1"},
	{"next root that names a thief, signed by the thief alone", func(w *world) {
		w.repo.SetKeys("root", 1, thief)
		w.repo.Old = nil
		w.repo.PublishRoot()
	}, "not signed by the keys of root version 1"},
	{"next root signed by its predecessor alone", func(w *world) {
		old := w.repo.Keys["root"]
		w.repo.SetKeys("root", 1, fixtures.NewKey("root 2"))
		w.repo.Keys["root"] = old
		w.repo.PublishRoot()
	}, "not signed by its own keys"},
	{"role key used for another role", func(w *world) { w.repo.Keys["timestamp"] = w.repo.Keys["snapshot"]; publish3(w) }, "not enough signatures"},

	// Rollback.
	{"older timestamp", func(w *world) {
		w.repo.Timestamp.Version = 0
		w.repo.PublishTimestamp()
	}, "older than version 2"},
	{"timestamp with an older snapshot", func(w *world) {
		w.repo.Snapshot.Version = 0
		w.repo.PublishSnapshot()
	}, "version 1 of snapshot is older than version 2"},
	{"snapshot with older targets", func(w *world) {
		w.repo.Targets["targets"].Version = 1
		w.repo.PublishSnapshot()
	}, "version 1 of targets is older than version 2"},
	{"snapshot with an older delegated role", func(w *world) {
		w.repo.Targets["releases"].Version = 1
		w.repo.PublishSnapshot()
	}, "version 1 of releases is older than version 2"},
	{"snapshot that forgets a role", func(w *world) {
		delete(w.repo.Snapshot.Meta, "brake.json")
		delete(w.repo.Targets, "brake")
		w.repo.PublishSnapshot()
	}, "does not name brake.json"},
	{"root version skipped", func(w *world) {
		w.repo.Root.Version++
		w.repo.PublishRoot()
		w.repo.Put("metadata/2.root.json", w.repo.File("metadata/3.root.json"))
	}, "has version 3, not 2"},
	{"the same root again under the next number", func(w *world) {
		w.repo.Put("metadata/2.root.json", w.repo.File("metadata/1.root.json"))
	}, "has version 1, not 2"},

	// Mix and match: files that are good, but not together.
	{"snapshot other than the timestamp says", func(w *world) {
		w.repo.PublishTimestamp()
		publish3(w)
		edit(w, "metadata/3.snapshot.json", `"version":3`, `"version":4`)
	}, "cannot trust snapshot"},
	{"snapshot of another version under the right name", func(w *world) {
		w.repo.Hashes = false
		publish3(w)
		w.repo.Put("metadata/3.snapshot.json", w.repo.File("metadata/2.snapshot.json"))
	}, "cannot trust snapshot"},
	{"targets of another version under the right name", func(w *world) {
		w.repo.Hashes = false
		publish3(w)
		w.repo.Put("metadata/3.targets.json", w.repo.File("metadata/2.targets.json"))
	}, "cannot trust targets"},
	{"releases of another version under the right name", func(w *world) {
		publish3(w)
		w.repo.Put("metadata/3.releases.json", w.repo.File("metadata/2.releases.json"))
	}, "cannot trust releases"},
	{"one role in the place of another", func(w *world) {
		publish3(w)
		w.repo.Put("metadata/3.releases.json", w.repo.File("metadata/3.policy.json"))
	}, "cannot trust releases"},
	{"snapshot in the place of the timestamp", func(w *world) {
		w.repo.Put("metadata/timestamp.json", w.repo.File("metadata/2.snapshot.json"))
	}, "cannot trust timestamp"},

	// Endless and oversized data.
	{"endless timestamp", func(w *world) { w.repo.Answer("metadata/timestamp.json", fixtures.Endless) }, "larger than it may be"},
	{"endless root", func(w *world) { w.repo.Answer("metadata/2.root.json", fixtures.Endless) }, "larger than it may be"},
	{"endless snapshot", func(w *world) { publish3(w); w.repo.Answer("metadata/3.snapshot.json", fixtures.Endless) }, "larger than it may be"},
	{"endless targets", func(w *world) { publish3(w); w.repo.Answer("metadata/3.targets.json", fixtures.Endless) }, "larger than it may be"},
	{"endless releases", func(w *world) { publish3(w); w.repo.Answer("metadata/3.releases.json", fixtures.Endless) }, "larger than it may be"},
	{"a signed length beyond the limit", func(w *world) {
		w.repo.Hashes = false
		publish3(w)
		w.repo.Timestamp.Meta["snapshot.json"].Length = 1 << 40
		w.repo.Timestamp.Version++
		w.repo.ServeTimestamp()
	}, "reads 8388608 at most"},

	// Malformed, signed or not.
	{"empty timestamp", func(w *world) { w.repo.Put("metadata/timestamp.json", nil) }, "cannot trust timestamp"},
	{"truncated timestamp", func(w *world) {
		d := w.repo.File("metadata/timestamp.json")
		w.repo.Put("metadata/timestamp.json", d[:len(d)/2])
	}, "cannot trust timestamp"},
	{"a byte of the timestamp changed", func(w *world) { publish3(w); w.repo.Tamper("metadata/timestamp.json") }, "cannot trust timestamp"},
	{"a byte of releases changed", func(w *world) { publish3(w); w.repo.Tamper("metadata/3.releases.json") }, "cannot trust releases"},
	{"truncated targets", func(w *world) { publish3(w); w.repo.Truncate("metadata/3.targets.json") }, "cannot trust targets"},
	{"a thief signs everything that is fresh", func(w *world) { w.repo.WrongKey("timestamp") }, "not enough signatures"},
	{"an earlier snapshot", func(w *world) { publish3(w); w.repo.MixAndMatch(2) }, "cannot trust snapshot"},
	{"expired an hour ago", func(w *world) { w.repo.Expire(w.clock.Add(-time.Hour)) }, "it expired at 2026-11-24T11:00:00Z"},
	{"zeros for a timestamp", func(w *world) { w.repo.Put("metadata/timestamp.json", make([]byte, 500)) }, "cannot trust timestamp"},
	{"a login page for a timestamp", func(w *world) {
		w.repo.Put("metadata/timestamp.json", []byte("<html>Welcome to our hotel</html>"))
	}, "cannot trust timestamp"},
	{"null target, which makes go-tuf panic", func(w *world) {
		w.repo.Hashes = false
		publish3(w)
		w.repo.Put("metadata/3.targets.json", []byte(`{"signed":{"_type":"targets","spec_version":"1.0","version":3,"expires":"2030-01-01T00:00:00Z","targets":{"a":null}},"signatures":[]}`))
	}, "malformed"},
	{"timestamp that names no snapshot", func(w *world) {
		w.repo.Timestamp.Meta = map[string]*metadata.MetaFiles{}
		w.repo.Timestamp.Version++
		w.repo.ServeTimestamp()
	}, "does not name a version of snapshot.json"},
	{"version zero", func(w *world) { w.repo.Timestamp.Version = 0; w.repo.ServeTimestamp() }, "versions start at 1"},
	{"specification 2", func(w *world) {
		w.repo.Timestamp.SpecVersion = "2.0.0"
		w.repo.PublishTimestamp()
	}, `specification "2.0.0"`},
	{"issued after it expires", func(w *world) {
		w.repo.Timestamp.UnrecognizedFields = map[string]any{"issued": "2099-01-01T00:00:00Z"}
		w.repo.Timestamp.Version++
		w.repo.ServeTimestamp()
	}, "it expired before"},
	{"issued is no time", func(w *world) {
		w.repo.Timestamp.UnrecognizedFields = map[string]any{"issued": 7}
		w.repo.Timestamp.Version++
		w.repo.ServeTimestamp()
	}, `"issued" field is no time`},
	{"root without a threshold for timestamp", func(w *world) {
		w.repo.Root.Roles["timestamp"].Threshold = 0
		w.repo.PublishRoot()
	}, "role timestamp has no keys or no threshold"},
	{"root with a null role", func(w *world) { w.repo.Root.Roles["snapshot"] = nil; w.repo.PublishRoot() }, "role snapshot has no keys"},
	{"a delegation to root", func(w *world) {
		w.repo.Delegate("targets", metadata.DelegatedRole{Name: "root", Threshold: 1, Paths: []string{"*"}}, thief)
		w.repo.Publish()
	}, "empty, reserved or twice"},
	{"a delegation to two roles of one name", func(w *world) {
		w.repo.Delegate("targets", metadata.DelegatedRole{Name: "releases", Threshold: 1, Paths: []string{"*"}}, thief)
		w.repo.Publish()
	}, "empty, reserved or twice"},

	// Thresholds.
	{"one signature where two are needed", func(w *world) {
		keys := []*fixtures.Key{fixtures.NewKey("r1"), fixtures.NewKey("r2"), fixtures.NewKey("r3")}
		w.repo.SetDelegatedKeys("releases", 2, keys...)
		w.repo.Keys["releases"] = keys[:1]
		publish3(w)
	}, "got 1, want 2"},
	{"one key under two ids", func(w *world) {
		one := fixtures.NewKey("r1")
		two := *one
		two.ID = strings.Repeat("ab", 32)
		w.repo.SetDelegatedKeys("releases", 2, one, &two)
		publish3(w)
	}, "got 1, want 2"},
	{"one key id twice in the role", func(w *world) {
		one := fixtures.NewKey("r1")
		w.repo.SetDelegatedKeys("releases", 2, one, one)
		publish3(w)
	}, "got 1, want 2"},
	{"threshold zero", func(w *world) { w.repo.SetDelegatedKeys("releases", 0, thief); publish3(w) }, "threshold"},
	{"a role without keys", func(w *world) { w.repo.SetDelegatedKeys("releases", 1); publish3(w) }, "cannot trust releases"},

	// Expired when it comes.
	{"expired timestamp", func(w *world) {
		publish3(w)
		w.repo.Timestamp.Expires = w.clock.Add(-time.Second)
		w.repo.Timestamp.Version++
		w.repo.ServeTimestamp()
	}, "it expired at 2026-11-24T11:59:59Z"},
	{"timestamp that expires this very second", func(w *world) {
		w.repo.Timestamp.Expires = w.clock
		w.repo.Timestamp.Version++
		w.repo.ServeTimestamp()
	}, "it expired at 2026-11-24T12:00:00Z"},
	{"expired snapshot", func(w *world) {
		w.repo.Publish()
		w.repo.Snapshot.Expires = w.clock.Add(-time.Second)
		w.repo.Snapshot.Version++
		w.repo.PublishTimestamp()
	}, "snapshot: it expired at"},
	{"expired targets", func(w *world) {
		w.repo.Targets["targets"].Version++
		w.repo.Targets["targets"].Expires = w.clock.Add(-time.Second)
		w.repo.PublishSnapshot()
	}, "targets: it expired at"},
	{"expired releases", func(w *world) {
		w.repo.Targets["releases"].Version++
		w.repo.Targets["releases"].Expires = w.clock.Add(-time.Second)
		w.repo.PublishSnapshot()
	}, "releases: it expired at"},
	{"expired root", func(w *world) {
		w.repo.Root.Version++
		w.repo.Root.Expires = w.clock.Add(-time.Second)
		w.repo.ServeRoot()
	}, "root: it expired at"},
}

// TestAttacks runs each attack on a host that trusts version 2: the refresh fails with an error that says why, what was
// trusted stays in force, in the running agent and after its restart, and an honest repository is trusted again.
func TestAttacks(t *testing.T) {
	for _, tc := range attacks {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			c := w.mustRefresh()
			tc.attack(w)
			err := c.Refresh(context.Background())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("refresh: %v, want %q", err, tc.want)
			}
			if !errors.Is(err, tuf.ErrTrust) && !strings.Contains(tc.name, "endless") {
				t.Errorf("%v is no ErrTrust", err)
			}
			for name, c := range map[string]*tuf.Client{"running": c, "restarted": w.open()} {
				if got := serials(t, c); !slices.Equal(got, []uint64{1, 2}) {
					t.Errorf("%s: offers %v after the attack, want 1 and 2", name, got)
				}
				if got := version(c, "releases"); got != 2 {
					t.Errorf("%s: releases version %d after the attack, want 2", name, got)
				}
			}
			recovers(t, w)
		})
	}
}

// recovers builds the honest repository, at versions above all that the attack used, on the same disk.
func recovers(t *testing.T, w *world) {
	t.Helper()
	honest := fixtures.NewRepo(start.Add(-time.Hour))
	honest.Timestamp.Version, honest.Snapshot.Version = 10, 10
	for _, role := range honest.Targets {
		role.Version = 10
	}
	for n := range uint64(4) {
		honest.AddRelease(aRelease(n + 1))
	}
	for name := range w.repo.Snapshot.Meta {
		// A snapshot that the host verified may have named it, and the next one must.
		honest.Snapshot.Meta[name] = &metadata.MetaFiles{Version: 10}
	}
	honest.Publish()
	if w.open().Report().Marks["root"] == 2 {
		honest.Put("metadata/2.root.json", w.repo.File("metadata/2.root.json"))
		honest.Root.Version = 2
		honest.PublishRoot()
	}
	w.repo = honest
	w.server.Config.Handler = http.HandlerFunc(honest.ServeHTTP)
	c := w.open()
	if err := c.Refresh(context.Background()); err != nil {
		t.Fatalf("the honest repository is not trusted after the attack: %v", err)
	}
	if got := serials(t, c); !slices.Equal(got, []uint64{1, 2, 3, 4}) {
		t.Errorf("offers = %v after the honest refresh", got)
	}
}

// TestRepositoryGone: no matter of trust, and nothing changes.
func TestRepositoryGone(t *testing.T) {
	w := newWorld(t)
	c := w.mustRefresh()
	good := w.repo.Files()
	w.repo.Gone()
	if err := c.Refresh(context.Background()); err == nil || errors.Is(err, tuf.ErrTrust) || !strings.Contains(err.Error(), "timestamp.json: there is no such file") {
		t.Errorf("refresh: %v", err)
	}
	if got := serials(t, c); !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("offers = %v", got)
	}
	w.repo.Restore(good)
	w.mustRefresh()
}

// TestFreeze: a repository that serves old files until they expire. What was verified stays visible, but no longer counts.
func TestFreeze(t *testing.T) {
	w := newWorld(t)
	c := w.mustRefresh()
	w.clock = start.Add(8 * 24 * time.Hour)
	err := c.Refresh(context.Background())
	var te *tuf.Error
	if !errors.As(err, &te) || te.Role != "timestamp" || te.Blame != tuf.BlameEither {
		t.Fatalf("refresh: %v (%+v), want an expired timestamp", err, te)
	}
	rels, err := c.Offers(context.Background())
	if !errors.Is(err, tuf.ErrTrust) || len(rels) != 2 {
		t.Errorf("offers = %v, %v, want both and an error that they are too old", rels, err)
	}
	if r := c.Report(); r.Expired == "" || r.FirstToExpire().Name != "timestamp" {
		t.Errorf("report: expired %q, first %v", r.Expired, r.FirstToExpire())
	}
	w.repo.Now = w.clock
	w.repo.Publish()
	if err := c.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := serials(t, c); len(got) != 2 {
		t.Errorf("offers = %v", got)
	}
}

// TestBadRelease: a release that is damaged or malformed does not hide the others, and says why.
func TestBadRelease(t *testing.T) {
	file := func(w *world, serial string) string {
		for name := range w.repo.Files() {
			if strings.HasPrefix(name, "targets/releases/") && strings.HasSuffix(name, "."+serial+".json") {
				return name
			}
		}
		w.t.Fatal("no such release")
		return ""
	}
	for name, tc := range map[string]struct {
		attack func(*world)
		want   string
	}{
		"changed": {func(w *world) { f := file(w, "2"); w.repo.Put(f, append(w.repo.File(f), ' ')) }, "larger than"},
		"same length, other bytes": {func(w *world) {
			f := file(w, "2")
			w.repo.Put(f, []byte(strings.Replace(string(w.repo.File(f)), "v2", "v3", 1)))
		}, "mismatch"},
		"missing": {func(w *world) { w.repo.Remove(file(w, "2")) }, "no such file"},
		"endless": {func(w *world) { w.repo.Answer(file(w, "2"), fixtures.Endless) }, "larger than"},
		"not JSON": {func(w *world) {
			w.repo.AddTarget("releases", "releases/edge/2.json", []byte("hello"))
			w.repo.Publish()
		}, "no usable release"},
		"two values": {func(w *world) {
			w.repo.AddTarget("releases", "releases/edge/2.json", []byte("{}{}"))
			w.repo.Publish()
		}, "no usable release"},
		"another serial inside": {func(w *world) {
			data, _ := json.Marshal(aRelease(9))
			w.repo.AddTarget("releases", "releases/edge/2.json", data)
			w.repo.Publish()
		}, "serial 9"},
		"a path that leads out": {func(w *world) {
			r := aRelease(2)
			r.Images[0].Pack = "../../etc/passwd"
			w.repo.AddRelease(r)
			w.repo.Publish()
		}, "not packs/"},
		"a role twice": {func(w *world) {
			r := aRelease(2)
			r.Images = append(r.Images, r.Images[0])
			w.repo.AddRelease(r)
			w.repo.Publish()
		}, "two images"},
		"huge": {func(w *world) {
			w.repo.AddTarget("releases", "releases/edge/2.json", make([]byte, 1<<20))
			w.repo.Publish()
		}, "reads 262144 at most"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tc.attack(w)
			c := w.mustRefresh()
			if got := serials(t, c); !slices.Equal(got, []uint64{1}) {
				t.Errorf("offers = %v, want the good one", got)
			}
			w.mustWarn(tc.want)
			if p := c.Report().Problems; len(p) != 1 || !strings.Contains(p[0], tc.want) {
				t.Errorf("problems = %q, want one about %q", p, tc.want)
			}
		})
	}
}

func TestUnknownFieldsAreANewerPublishers(t *testing.T) {
	w := newWorld(t)
	data, _ := json.Marshal(aRelease(2))
	data = []byte(strings.Replace(string(data), "{", `{"stepping_stone":{"a":[1]},`, 1))
	w.repo.AddTarget("releases", "releases/edge/2.json", data)
	w.repo.Publish()
	if got := serials(t, w.mustRefresh()); len(got) != 2 {
		t.Errorf("offers = %v", got)
	}
}

// TestOnlyThisProduct: names that only look like releases of the product are none.
func TestOnlyThisProduct(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{
		"releases/other/5.json", "releases/edge/05.json", "releases/edge/x.json", "releases/edge/5.json.bak",
		"releases/edge/99999999999999999999999.json", "releases/edge/-1.json",
	} {
		w.repo.AddTarget("releases", name, []byte("{}"))
	}
	w.repo.AddTarget("policy", "releases/edge/7.json", []byte("{}")) // policy may not name releases
	w.repo.Publish()
	c := w.mustRefresh()
	if got := serials(t, c); !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("offers = %v", got)
	}
	if p := c.Report().Problems; len(p) != 0 {
		t.Errorf("problems = %q", p)
	}
}
