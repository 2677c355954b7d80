package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/evenkeel-os/evenkeel/fixtures/appliance"
	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/tuf/repo"
)

// publisher is the real publisher over a real directory, with one key for each role.
type publisher struct {
	*repo.Repository
	t    *testing.T
	keys map[repo.Role]repo.Signer
}

func newPublisher(t *testing.T) *publisher {
	p := &publisher{t: t, keys: map[repo.Role]repo.Signer{}}
	p.Repository = repo.New(repo.Options{Dir: filepath.Join(t.TempDir(), "repo"), Build: image.BuildOptions{Level: 1}})
	public := map[repo.Role]repo.Keys{}
	for _, role := range repo.Roles() {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		p.must(err)
		p.keys[role], err = repo.NewSigner(string(role), key)
		p.must(err)
		public[role] = repo.Keys{Threshold: 1, Keys: []repo.PublicKey{p.keys[role].Public}}
	}
	p.must(p.Init(public))
	p.publish()
	return p
}

// Signers implements repo.Keyring.
func (p *publisher) Signers(role repo.Role, _ []repo.KeyID, _ int) ([]repo.Signer, error) {
	return []repo.Signer{p.keys[role]}, nil
}

func (p *publisher) publish() {
	p.t.Helper()
	pending, err := p.Pending()
	p.must(err)
	for _, x := range pending {
		_, err := p.Sign(p.keys[x.Role], x.Role)
		p.must(err)
	}
	_, err = p.Publish(p.t.Context(), p)
	p.must(err)
}

func (p *publisher) release(o appliance.OS) {
	p.t.Helper()
	root, kernel := o.Root(imageSize), o.Kernel()
	_, err := p.Add(p.t.Context(), repo.Draft{
		Rel: release.Release{
			Product: appliance.Product, Compatible: []string{appliance.Compatible}, Architecture: "amd64", Layout: 1,
			Version: o.Version, Serial: o.Serial, Boot: appliance.Spec,
		},
		Sources: []repo.Source{
			{Role: "root", Kind: release.KindPartition, Bytes: bytes.NewReader(root), Size: int64(len(root))},
			{Role: "kernel", Kind: release.KindFile, Name: "vmlinuz", Bytes: bytes.NewReader(kernel), Size: int64(len(kernel))},
		},
	})
	p.must(err)
	p.publish()
}

func (p *publisher) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// TestRealPublisher takes a machine from release to release with what the real publisher has written: the scripts use a
// repository in memory.
func TestRealPublisher(t *testing.T) {
	p := newPublisher(t)
	p.release(appliance.OS{Version: "1.1", Serial: 11, Behaviour: appliance.Good})
	url, err := appliance.Serve(t.Context(), p.Dir())
	p.must(err)
	root, err := os.ReadFile(filepath.Join(p.Dir(), "metadata/1.root.json"))
	p.must(err)
	program, err := exec.LookPath("evenkeel")
	p.must(err)
	console := &appliance.Console{}
	m, err := appliance.New(appliance.Options{
		Dir: filepath.Join(t.TempDir(), "m"), Program: program, Repository: url, Root: root, RootSize: imageSize,
		Factory: appliance.OS{Version: "1.0", Serial: 10, Behaviour: appliance.Good}, Mode: "auto", Poll: "1h", Console: console,
	})
	p.must(err)
	ctx, off := context.WithCancel(t.Context())
	down := make(chan error, 1)
	go func() { down <- m.Run(ctx) }()
	defer func() {
		off()
		p.must(<-down)
	}()
	wait := func(texts ...string) {
		t.Helper()
		for _, text := range texts {
			ctx, stop := context.WithTimeout(t.Context(), patience)
			defer stop()
			if err := console.Wait(ctx, text); err != nil {
				t.Fatalf("%v\n%s", err, console)
			}
		}
	}
	wait("confirmed: release 1.1", "look for releases")
	p.release(appliance.OS{Version: "1.2", Serial: 12, Behaviour: appliance.Sick})
	if out, err := m.Evenkeel(t.Context(), "check").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	wait("unhealthy: release 1.2", "look for releases")
	_, err = p.Withdraw(appliance.Product, "1.2", "its application does not start")
	p.must(err)
	p.release(appliance.OS{Version: "1.3", Serial: 13, Behaviour: appliance.Good})
	if out, err := m.Evenkeel(t.Context(), "check").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	wait("confirmed: release 1.3")
}
