package tuf_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/tuf"
)

// TestRotation replaces the keys of each role: hosts that know the old ones follow, and the old ones are worth nothing.
func TestRotation(t *testing.T) {
	fresh := func(role string) *fixtures.Key { return fixtures.NewKey(role + " 2") }
	for _, role := range []string{"root", "timestamp", "snapshot", "targets"} {
		t.Run(role, func(t *testing.T) {
			w := newWorld(t)
			c := w.mustRefresh()
			old := w.repo.Keys[role]
			w.repo.SetKeys(role, 1, fresh(role))
			w.repo.PublishRoot()
			publish3(w)
			if err := c.Refresh(context.Background()); err != nil {
				t.Fatal(err)
			}
			if got := serials(t, c); !slices.Equal(got, []uint64{1, 2, 3}) {
				t.Errorf("offers = %v", got)
			}
			w.repo.Keys[role] = old
			if role == "root" {
				w.repo.PublishRoot()
			}
			w.repo.Publish()
			if err := w.refresh(); !errors.Is(err, tuf.ErrTrust) {
				t.Errorf("refresh with the old key: %v, want it refused", err)
			}
			w.mustNotWarn()
		})
	}
	t.Run("releases", func(t *testing.T) {
		w := newWorld(t)
		w.mustRefresh()
		old := w.repo.Keys["releases"]
		w.repo.SetDelegatedKeys("releases", 1, fresh("releases"))
		publish3(w)
		if got := serials(t, w.mustRefresh()); len(got) != 3 {
			t.Errorf("offers = %v", got)
		}
		w.repo.Keys["releases"] = old
		w.repo.Publish()
		if err := w.refresh(); !errors.Is(err, tuf.ErrTrust) {
			t.Errorf("refresh with the old key: %v, want it refused", err)
		}
	})
}

// TestLongRootChain: a host that slept through years of rotations follows all of them, expired ones in between included.
func TestLongRootChain(t *testing.T) {
	w := newWorld(t)
	w.mustRefresh()
	for n := range 40 {
		w.repo.SetKeys("root", 1, fixtures.NewKey(fmt.Sprint("root ", n)))
		w.repo.Root.Version++
		w.repo.Root.Expires = start.Add(-time.Minute)
		if n == 39 {
			w.repo.Root.Expires = start.Add(time.Hour)
		}
		w.repo.ServeRoot()
	}
	w.repo.Publish()
	if got := version(w.mustRefresh(), "root"); got != 41 {
		t.Errorf("root version = %d, want 41", got)
	}
}

func TestNextRootForbiddenEndsTheChain(t *testing.T) {
	for _, code := range []int{http.StatusNotFound, http.StatusForbidden, http.StatusGone} {
		w := newWorld(t)
		w.repo.Answer("metadata/2.root.json", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(code) })
		w.mustRefresh()
	}
	w := newWorld(t)
	w.repo.Answer("metadata/2.root.json", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(500) })
	if err := w.refresh(); err == nil || errors.Is(err, tuf.ErrTrust) || !strings.Contains(err.Error(), "500") {
		t.Errorf("refresh: %v, want a server error that is no matter of trust", err)
	}
}

// TestHiddenRoots: after the stored root is lost, a network that hides the newer roots cannot bring the old keys back.
func TestHiddenRoots(t *testing.T) {
	w := newWorld(t)
	old := w.repo.Files()
	w.repo.SetKeys("timestamp", 1, fixtures.NewKey("timestamp 2"))
	w.repo.PublishRoot()
	w.repo.Publish()
	w.mustRefresh()
	w.disk.Put(store+"/root.json", nil)
	w.repo.Restore(old)
	if err := w.refresh(); err == nil || !strings.Contains(err.Error(), "version 1 of root is older than version 2") {
		t.Errorf("refresh: %v", err)
	}
}

// TestImageWithANewerRoot and with an older one: the newer of image and store counts, so that neither an update nor an OS
// rollback takes trust back.
func TestImageWithANewerRoot(t *testing.T) {
	w := newWorld(t)
	first := w.root
	w.mustRefresh()
	w.repo.SetKeys("root", 1, fixtures.NewKey("root 2"))
	w.repo.PublishRoot()
	w.repo.SetKeys("root", 1, fixtures.NewKey("root 3"))
	w.repo.PublishRoot()
	w.root = w.repo.File("metadata/3.root.json")
	w.repo.Remove("metadata/2.root.json") // long gone
	c := w.mustRefresh()
	if got := version(c, "root"); got != 3 {
		t.Errorf("root version = %d, want the image's 3", got)
	}
	w.root = first
	c = w.open()
	if got := version(c, "root"); got != 3 {
		t.Errorf("root version = %d after an OS rollback, want 3", got)
	}
	if err := c.Refresh(context.Background()); err != nil {
		t.Errorf("refresh after an OS rollback: %v", err)
	}
	w.mustNotWarn()
}

func TestUnusableRootOfTheImage(t *testing.T) {
	for name, root := range map[string][]byte{
		"none": nil, "not JSON": []byte("hello"), "other role": fixtures.NewRepo(start).File("metadata/timestamp.json"),
		"not signed": fixtures.Signed(fixtures.NewRepo(start).Root), "null": []byte(`{"signed":null}`),
	} {
		w := newWorld(t)
		o := w.options()
		o.Root = root
		var te *tuf.Error
		if _, err := tuf.Open(o); !errors.As(err, &te) || te.Blame != tuf.BlameHost || te.Hint == "" {
			t.Errorf("%s: %v, want an error that blames the image and says what to do", name, err)
		}
	}
}

// TestFastForward: a thief of online keys signed versions that nobody can exceed. Replacing the keys is the way back.
func TestFastForward(t *testing.T) {
	const huge = 1 << 50
	key := func(role string) *fixtures.Key { return fixtures.NewKey(role + " after the theft") }
	for name, tc := range map[string]struct {
		attack, recover func(*fixtures.Repo)
	}{
		"timestamp": {
			func(r *fixtures.Repo) { r.Timestamp.Version = huge; r.PublishTimestamp() },
			func(r *fixtures.Repo) {
				r.SetKeys("timestamp", 1, key("timestamp"))
				r.Timestamp.Version = 5
			},
		},
		"snapshot": {
			func(r *fixtures.Repo) { r.Snapshot.Version = huge; r.PublishSnapshot() },
			func(r *fixtures.Repo) {
				r.SetKeys("timestamp", 1, key("timestamp"))
				r.SetKeys("snapshot", 1, key("snapshot"))
				r.Snapshot.Version = 5
			},
		},
		"snapshot, whose key alone is replaced": {
			func(r *fixtures.Repo) { r.Snapshot.Version = huge; r.PublishSnapshot() },
			func(r *fixtures.Repo) { r.SetKeys("snapshot", 1, key("snapshot")); r.Snapshot.Version = 5 },
		},
		"targets": {
			func(r *fixtures.Repo) { r.Targets["targets"].Version = huge; r.PublishSnapshot() },
			func(r *fixtures.Repo) { r.SetKeys("snapshot", 1, key("snapshot")); r.Targets["targets"].Version = 5 },
		},
		"delegated role": {
			func(r *fixtures.Repo) { r.Targets["releases"].Version = huge; r.PublishSnapshot() },
			func(r *fixtures.Repo) { r.SetKeys("snapshot", 1, key("snapshot")); r.Targets["releases"].Version = 5 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tc.attack(w.repo)
			w.mustRefresh()
			tc.recover(w.repo)
			w.repo.Publish()
			if err := w.refresh(); !errors.Is(err, tuf.ErrTrust) {
				t.Fatalf("refresh before the root is published: %v, want it refused", err)
			}
			w.repo.PublishRoot()
			publish3(w)
			if got := serials(t, w.mustRefresh()); len(got) != 3 {
				t.Errorf("offers = %v", got)
			}
			// The new marks hold as the old ones did.
			w.repo.Timestamp.Version = 1
			w.repo.ServeTimestamp()
			if err := w.refresh(); err == nil {
				t.Error("a rollback after the recovery was accepted")
			}
		})
	}
}

// TestAddedKeyVoidsNothing: a key more is no recovery.
func TestAddedKeyVoidsNothing(t *testing.T) {
	w := newWorld(t)
	w.mustRefresh()
	w.repo.SetKeys("timestamp", 1, w.repo.Keys["timestamp"][0], fixtures.NewKey("another"))
	w.repo.PublishRoot()
	w.repo.Timestamp.Version = 0
	w.repo.PublishTimestamp()
	if err := w.refresh(); err == nil || !strings.Contains(err.Error(), "older than version 2") {
		t.Errorf("refresh: %v, want a rollback", err)
	}
}

func TestClock(t *testing.T) {
	day := 24 * time.Hour
	for name, tc := range map[string]struct {
		clock time.Time // of the second refresh
		stale time.Duration
		want  string // part of the error; empty: none
		blame tuf.Blame
	}{
		"right":                                  {start, 0, "", ""},
		"1970, with a fresh timestamp":           {time.Unix(0, 0), 0, "", ""},
		"1970, with a timestamp that is too old": {time.Unix(0, 0), -30 * day, "by the time that verified timestamp metadata was issued", tuf.BlameRepository},
		"2099":                                   {time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC), 0, "the clock is probably wrong", tuf.BlameClock},
		"20 days ahead":                          {start.Add(20 * day), 0, "by the system clock", tuf.BlameEither},
		"an hour back":                           {start.Add(-time.Hour), 0, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.mustRefresh()
			w.clock = tc.clock
			w.repo.Now = start
			w.repo.PublishTimestamp()
			if tc.stale != 0 {
				w.repo.Timestamp.Expires = start.Add(-2 * time.Hour)
				w.repo.Timestamp.UnrecognizedFields = nil
				w.repo.ServeTimestamp()
			}
			err := w.refresh()
			if tc.want == "" {
				if err != nil {
					t.Fatal(err)
				}
			} else {
				var te *tuf.Error
				if !errors.As(err, &te) || te.Blame != tc.blame || !strings.Contains(err.Error(), tc.want) {
					t.Fatalf("refresh: %v (%+v), want %q, blame %q", err, te, tc.want, tc.blame)
				}
			}
			// The system clock is never kept: when it is right again, all is well.
			w.clock = start
			w.repo.PublishTimestamp()
			w.mustRefresh()
			if f := w.open().Report().Clock.Floor; f.After(start) {
				t.Errorf("the floor is %v, after any time that was signed", f)
			}
		})
	}
}

// TestClockBeforeTheBuild: the first refresh of a machine without a clock.
func TestClockBeforeTheBuild(t *testing.T) {
	w := newWorld(t)
	w.clock = time.Unix(0, 0)
	c := w.mustRefresh()
	clock := c.Report().Clock
	if want := start.Add(-time.Hour); !clock.Now.Equal(want) || !strings.Contains(clock.Source, "too early") {
		t.Errorf("clock = %+v, want the time that the timestamp was issued", clock)
	}
	w = newWorld(t)
	w.clock, w.build = time.Unix(0, 0), start.Add(30*24*time.Hour)
	err := w.refresh()
	var te *tuf.Error
	if !errors.As(err, &te) || te.Blame != tuf.BlameRepository || !strings.Contains(err.Error(), "build time") {
		t.Errorf("a timestamp from before the build: %v, want it refused by the build time", err)
	}
}

// TestStolenTimestampKeySignsTheFuture: what expires before that no longer counts, until the root replaces the key.
func TestStolenTimestampKeySignsTheFuture(t *testing.T) {
	w := newWorld(t)
	w.mustRefresh()
	w.repo.Timestamp.Version++
	w.repo.Timestamp.Expires = start.Add(90 * 24 * time.Hour)
	w.repo.Timestamp.UnrecognizedFields = map[string]any{"issued": start.Add(60 * 24 * time.Hour).Format(time.RFC3339)}
	w.repo.ServeTimestamp()
	if err := w.refresh(); err == nil || !strings.Contains(err.Error(), "snapshot: it expired") {
		t.Fatalf("refresh: %v, want the snapshot to be expired by the signed time", err)
	}
	w.repo.PublishTimestamp() // honest again, with the stolen key
	if err := w.refresh(); err == nil {
		t.Fatal("the floor fell by itself")
	}
	w.repo.SetKeys("timestamp", 1, fixtures.NewKey("timestamp 2"))
	w.repo.PublishRoot()
	publish3(w)
	if got := serials(t, w.mustRefresh()); len(got) != 3 {
		t.Errorf("offers = %v", got)
	}
	if f := w.open().Report().Clock.Floor; f.After(start) {
		t.Errorf("the floor is still %v", f)
	}
}

// TestStolenTimestampKeySigns2099: a time at which not even the root is valid is not believed at all.
func TestStolenTimestampKeySigns2099(t *testing.T) {
	w := newWorld(t)
	w.mustRefresh()
	w.repo.Timestamp.Version++
	w.repo.Timestamp.Expires = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	w.repo.Timestamp.UnrecognizedFields = map[string]any{"issued": "2099-01-01T00:00:00Z"}
	w.repo.ServeTimestamp()
	if err := w.refresh(); err == nil || !strings.Contains(err.Error(), "root: it expired") {
		t.Fatalf("refresh: %v, want the root to be expired by the signed time", err)
	}
	w.repo.PublishTimestamp()
	w.mustRefresh()
}

// TestUnknownKeys: keys that only newer agents can use stand beside ones that this agent can.
func TestUnknownKeys(t *testing.T) {
	strange := map[string]*metadata.Key{
		"unknown type":      {Type: "ml-dsa-65", Scheme: "ml-dsa-65", Value: metadata.KeyVal{PublicKey: "00"}},
		"unknown scheme":    {Type: "ed25519", Scheme: "ed25519ctx", Value: metadata.KeyVal{PublicKey: strings.Repeat("00", 32)}},
		"short ed25519 key": {Type: "ed25519", Scheme: "ed25519", Value: metadata.KeyVal{PublicKey: "0011"}},
		"not hex":           {Type: "ed25519", Scheme: "ed25519", Value: metadata.KeyVal{PublicKey: "hello"}},
		"no PEM":            {Type: "ecdsa", Scheme: "ecdsa-sha2-nistp256", Value: metadata.KeyVal{PublicKey: "hello"}},
		"null":              nil,
	}
	for name, public := range strange {
		k := &fixtures.Key{ID: strings.Repeat("cd", 32), Public: public, Sign: func([]byte) []byte { return []byte("?") }}
		for _, role := range []string{"root", "timestamp", "snapshot", "targets", "releases"} {
			t.Run(name+" in "+role, func(t *testing.T) {
				w := newWorld(t)
				w.mustRefresh()
				if role == "releases" {
					w.repo.SetDelegatedKeys(role, 1, k, w.repo.Keys[role][0])
				} else {
					w.repo.SetKeys(role, 1, k, w.repo.Keys[role][0])
				}
				w.repo.PublishRoot()
				publish3(w)
				if got := serials(t, w.mustRefresh()); len(got) != 3 {
					t.Errorf("offers = %v", got)
				}
				if role == "releases" {
					w.repo.SetDelegatedKeys(role, 2, w.repo.Keys[role]...)
					w.repo.Publish()
					if err := w.refresh(); !errors.Is(err, tuf.ErrTrust) {
						t.Errorf("a threshold that needs the strange key: %v, want it refused", err)
					}
				}
			})
		}
	}
}
