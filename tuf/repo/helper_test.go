package repo

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"testing"
	"time"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/release"
)

// TestMain lets garbage lie for longer: these tests make a lot of it, and keep little.
func TestMain(m *testing.M) {
	debug.SetGCPercent(800)
	os.Exit(m.Run())
}

// world is a repository in memory, its keys, and a clock that tests move.
type world struct {
	*Repository
	t    *testing.T
	fs   *fixtures.FS
	now  time.Time
	keys map[Role][]Signer
}

// testKey is the same key in every run.
func testKey(t *testing.T, role Role, n int) Signer {
	t.Helper()
	seed := sha256.Sum256(fmt.Appendf(nil, "%s %d", role, n))
	s, err := NewSigner(fmt.Sprintf("%s-%d", role, n), ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newWorld returns an empty repository whose roles have the default quorums.
func newWorld(t *testing.T) *world {
	w := &world{t: t, now: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), keys: map[Role][]Signer{}}
	for _, role := range Roles() {
		for n := range DefaultQuorum(role).Keys {
			w.keys[role] = append(w.keys[role], testKey(t, role, n+1))
		}
	}
	w.on(fixtures.NewFS())
	return w
}

// on puts the repository on another file system.
func (w *world) on(fs *fixtures.FS) {
	w.fs = fs
	w.Repository = New(Options{Dir: "/repo", FS: fs, Now: func() time.Time { return w.now }, Build: image.BuildOptions{SegmentSize: image.MinSize, FrameSize: image.MinSize, Level: 1}})
}

// public returns the keys of every role as Init wants them.
func (w *world) public() map[Role]Keys {
	keys := map[Role]Keys{}
	for role, signers := range w.keys {
		k := Keys{Threshold: DefaultQuorum(role).Threshold}
		for _, s := range signers {
			k.Keys = append(k.Keys, s.Public)
		}
		keys[role] = k
	}
	return keys
}

// Signers implements Keyring.
func (w *world) Signers(role Role, _ []KeyID, need int) ([]Signer, error) {
	return w.keys[role][:need], nil
}

// signAll gives every staged role as many signatures as it needs.
func (w *world) signAll() {
	w.t.Helper()
	all, err := w.Pending()
	w.must(err)
	for _, p := range all {
		for _, s := range w.keys[p.Role][:p.Missing] {
			_, err := w.Sign(s, p.Role)
			w.must(err)
		}
	}
}

func (w *world) publish() Published {
	w.t.Helper()
	p, err := w.Publish(w.ctx(), w)
	w.must(err)
	return p
}

// ready initialises and publishes.
func (w *world) ready() {
	w.t.Helper()
	w.must(w.Init(w.public()))
	w.signAll()
	w.publish()
}

func (w *world) ctx() context.Context { return w.t.Context() }

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) wantErr(err error, kind error, part string) {
	w.t.Helper()
	if !errors.Is(err, kind) || !bytes.Contains([]byte(fmt.Sprint(err)), []byte(part)) {
		w.t.Fatalf("got error %v; want %q that says %q", err, kind, part)
	}
}

// draft is a release with a root partition and a kernel, whose bytes follow from the serial.
func draft(serial uint64) Draft {
	root, kernel := randomImage(100_000, serial), randomImage(9_000, 1)
	return Draft{
		Rel: release.Release{
			Product: "edge", Compatible: []string{"qemu-x86"}, Architecture: "amd64", Layout: 1,
			Version: fmt.Sprintf("1.%d.0", serial), Serial: serial,
			Boot: release.BootSpec{Kernel: "kernel", Cmdline: "root={root} ro"},
		},
		Sources: []Source{
			{Role: "root", Kind: release.KindPartition, Bytes: bytes.NewReader(root), Size: int64(len(root))},
			{Role: "kernel", Kind: release.KindFile, Name: "vmlinuz", Bytes: bytes.NewReader(kernel), Size: int64(len(kernel))},
		},
	}
}

// randomImage is half noise and half zeros.
func randomImage(size int, seed uint64) []byte {
	data := make([]byte, size)
	rng := rand.New(rand.NewPCG(seed, 7))
	for i := range size / 2 {
		data[i] = byte(rng.Uint32())
	}
	return data
}

// add stages a release.
func (w *world) add(serial uint64) Added {
	w.t.Helper()
	a, err := w.Add(w.ctx(), draft(serial))
	w.must(err)
	return a
}

// release adds, signs and publishes.
func (w *world) release(serial uint64) Published {
	w.t.Helper()
	w.add(serial)
	w.signAll()
	return w.publish()
}

// sound checks everything that is published, and returns the serials there.
func (w *world) sound() []uint64 {
	w.t.Helper()
	v, err := w.Verify(w.ctx(), VerifyOptions{})
	w.must(err)
	for _, p := range v.Problems {
		w.t.Errorf("problem: %v", p)
	}
	s, err := w.load()
	w.must(err)
	all, err := w.releasesIn(s.targets[RoleReleases].Signed.Targets, "")
	w.must(err)
	var serials []uint64
	for _, rel := range all {
		serials = append(serials, rel.Serial)
	}
	return serials
}
