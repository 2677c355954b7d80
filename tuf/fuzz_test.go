package tuf

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/evenkeel-os/evenkeel/fixtures"
)

// hostile are bytes that make go-tuf's parsers panic, or that once made ours wrong.
var hostile = []string{
	``, `null`, `[]`, `{}`, `{"signed":null}`, `{"signed":{"_type":"targets","targets":{"a":null}}}`,
	`{"signed":{"_type":"timestamp","spec_version":"1.0","version":1,"expires":"2030-01-01T00:00:00Z","meta":null},"signatures":null}`,
	`{"signed":{"_type":"root","spec_version":"1.0","version":1,"expires":"2030-01-01T00:00:00Z","keys":{"a":null},"roles":{"root":null}}}`,
	`{"signed":{"_type":"root","spec_version":"1.0","version":1,"expires":"2030-01-01T00:00:00Z","keys":{"a":{"keytype":"ed25519","scheme":"ed25519","keyval":{"public":"00"}}},"roles":{"root":{"keyids":["a"],"threshold":1},"timestamp":{"keyids":["a"],"threshold":1},"snapshot":{"keyids":["a"],"threshold":1},"targets":{"keyids":["a"],"threshold":1}}},"signatures":[{"keyid":"a","sig":"00"}]}`,
	`{"signed":{"_type":"targets","spec_version":"1.0","version":1,"expires":"2030-01-01T00:00:00Z","targets":{},"delegations":{"keys":null,"succinct_roles":{"bit_length":33}}}}`,
	`{"signed":{"_type":"snapshot","spec_version":"1.0","version":1,"expires":"2030-01-01T00:00:00Z","meta":{"targets.json":null}}}`,
}

func seed(f *testing.F, files ...string) {
	repo := fixtures.NewRepo(time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC))
	for _, name := range files {
		f.Add(repo.File(name))
	}
	for _, s := range hostile {
		f.Add([]byte(s))
	}
}

func fuzzClient(t *testing.T) (*Client, *chain) {
	repo := fixtures.NewRepo(time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC))
	c, err := Open(Options{Dir: "/s", Root: repo.File("metadata/1.root.json"), Product: "edge", FS: fixtures.NewFS()})
	if err != nil {
		t.Fatal(err)
	}
	ch := c.offline(map[string][]byte{
		roleTimestamp: repo.File("metadata/timestamp.json"), roleSnapshot: repo.File("metadata/1.snapshot.json"),
		roleTargets: repo.File("metadata/1.targets.json"),
	})
	ch.start()
	return c, ch
}

func FuzzRoot(f *testing.F) {
	seed(f, "metadata/1.root.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		_, ch := fuzzClient(t)
		if ch.acceptRoot(data) == nil {
			t.Error("a root was accepted that nobody signed")
		}
		if m, err := parseRoot(data); err == nil {
			_ = verifySelf(m)
			newMarks().void(m)
			_ = fingerprints(m, roleTimestamp)
		}
	})
}

func FuzzTimestamp(f *testing.F) {
	seed(f, "metadata/timestamp.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		_, ch := fuzzClient(t)
		if err := ch.acceptLocalTimestamp(data); err == nil && ch.trusted.Timestamp.Signed.Version != 1 {
			t.Error("a timestamp was accepted that nobody signed")
		}
	})
}

func FuzzSnapshot(f *testing.F) {
	seed(f, "metadata/1.snapshot.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		_, ch := fuzzClient(t)
		if err := ch.updateTimestamp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := ch.acceptSnapshot(data, true); err == nil && ch.trusted.Snapshot.Signed.Version != 1 {
			t.Error("a snapshot was accepted that nobody signed")
		}
	})
}

func FuzzTargets(f *testing.F) {
	seed(f, "metadata/1.targets.json", "metadata/1.releases.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		c, ch := fuzzClient(t)
		for _, step := range []func() error{
			func() error { return ch.updateTimestamp(t.Context()) }, func() error { return ch.updateSnapshot(t.Context()) },
		} {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		_ = ch.acceptTargets(data, roleTargets, roleRoot)
		if m, _, err := parseTargets(data); err == nil {
			_ = guard(func() error { usableTargets(m); return nil })
			for name := range m.Signed.Targets {
				_, _ = delegates(m.Signed.Delegations, name)
				_, _ = c.serial(name)
				if path := c.targetPath(name, m.Signed.Targets[name]); path == "" {
					t.Error("no path")
				}
			}
			_ = c.listed(m.Signed.Delegations)
		}
	})
}

func FuzzRelease(f *testing.F) {
	f.Add([]byte(`{"product":"edge","serial":1,"version":"v1","images":[{"role":"root","kind":"partition","size":1}]}`))
	f.Add([]byte(`{"images":[{"sha256":"zz"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, _ := fuzzClient(t)
		r, err := c.parseRelease("releases/edge/1.json", data)
		if err != nil {
			return
		}
		if r.Serial != 1 || r.Product != "edge" {
			t.Errorf("serial %d of %q was accepted as edge/1", r.Serial, r.Product)
		}
		for _, im := range r.Images {
			if !safe(im.Index) || !safe(im.Pack) {
				t.Errorf("unsafe names %q, %q were accepted", im.Index, im.Pack)
			}
		}
	})
}

func FuzzMarks(f *testing.F) {
	m := newMarks()
	m.Roles[roleTimestamp] = mark{Version: 3, Keys: []string{"ab"}}
	good, _ := m.encode()
	f.Add(good)
	f.Add([]byte(`{"sha256":"","marks":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMarks(data)
		if m.Roles == nil {
			t.Fatal("no map")
		}
		if err != nil && len(m.Roles) != 0 {
			t.Errorf("damaged marks were kept: %v", m)
		}
	})
}

func FuzzComplete(f *testing.F) {
	data, _ := json.Marshal(complete{Schema: 1, Files: map[string][]byte{roleRoot: []byte("x")}})
	f.Add(data)
	f.Add([]byte(`{"schema":1,"files":{"root":null,"":""}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		disk := fixtures.NewFS()
		disk.Put("/s/complete", data)
		repo := fixtures.NewRepo(time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC))
		c, err := Open(Options{Dir: "/s", Root: repo.File("metadata/1.root.json"), Product: "edge", FS: disk})
		if err != nil {
			t.Fatal(err)
		}
		if rels, err := c.Offers(t.Context()); err == nil || len(rels) != 0 {
			t.Errorf("offers out of nothing: %v", rels)
		}
	})
}
