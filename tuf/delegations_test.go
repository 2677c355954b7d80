package tuf_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/tuf"
)

// role is a delegation as a test writes it: "name: path path", "!" in front of the name for terminating.
func role(s string) metadata.DelegatedRole {
	name, paths, _ := strings.Cut(s, ": ")
	r := metadata.DelegatedRole{Threshold: 1, Name: strings.TrimPrefix(name, "!"), Terminating: strings.HasPrefix(name, "!")}
	for _, p := range strings.Fields(paths) {
		if prefix, ok := strings.CutPrefix(p, "#"); ok {
			r.PathHashPrefixes = append(r.PathHashPrefixes, prefix)
		} else {
			r.Paths = append(r.Paths, p)
		}
	}
	return r
}

// graph builds a repository whose targets role delegates as edges say: delegator -> roles, in order. Each role names the
// targets that names say, with the role's name as content.
func graph(t *testing.T, edges map[string][]string, names map[string][]string) *world {
	t.Helper()
	w := newWorld(t)
	w.repo.Targets["targets"].Delegations = nil
	for name := range w.repo.Targets {
		if name != "targets" {
			delete(w.repo.Targets, name)
			delete(w.repo.Snapshot.Meta, name+".json")
		}
	}
	for delegator, roles := range edges {
		if w.repo.Targets[delegator] == nil {
			w.repo.AddRole(delegator)
		}
		for _, r := range roles {
			d := role(r)
			w.repo.Delegate(delegator, d, fixtures.NewKey(d.Name))
		}
	}
	for r, targets := range names {
		for _, name := range targets {
			w.repo.AddTarget(r, name, []byte(r))
		}
	}
	w.repo.Publish()
	return w
}

func TestDelegations(t *testing.T) {
	const name = "a/b/file"
	sum := sha256.Sum256([]byte(name))
	digest := hex.EncodeToString(sum[:])
	for title, tc := range map[string]struct {
		edges map[string][]string
		names map[string][]string
		want  string // the role that is believed; empty: none
	}{
		"top level first":                   {map[string][]string{"targets": {"x: a/b/*"}}, map[string][]string{"targets": {name}, "x": {name}}, "targets"},
		"first in order":                    {map[string][]string{"targets": {"x: a/b/*", "y: a/b/*"}}, map[string][]string{"x": {name}, "y": {name}}, "x"},
		"second, if the first lacks it":     {map[string][]string{"targets": {"x: a/b/*", "y: a/b/*"}}, map[string][]string{"y": {name}}, "y"},
		"depth before breadth":              {map[string][]string{"targets": {"x: a/b/*", "y: a/b/*"}, "x": {"z: a/b/*"}}, map[string][]string{"z": {name}, "y": {name}}, "z"},
		"path does not cover":               {map[string][]string{"targets": {"x: a/*"}}, map[string][]string{"x": {name}}, ""},
		"star is one directory":             {map[string][]string{"targets": {"x: *"}}, map[string][]string{"x": {name}}, ""},
		"stars":                             {map[string][]string{"targets": {"x: */*/f*"}}, map[string][]string{"x": {name}}, "x"},
		"malformed pattern":                 {map[string][]string{"targets": {"x: a/b/[", "y: a/b/fil?"}}, map[string][]string{"x": {name}, "y": {name}}, "y"},
		"the child may not, the parent may": {map[string][]string{"targets": {"x: a/b/*"}, "x": {"z: c/*"}}, map[string][]string{"z": {name}}, ""},
		"the parent may not, the child may": {map[string][]string{"targets": {"x: c/*"}, "x": {"z: a/b/*"}}, map[string][]string{"z": {name}}, ""},
		"terminating":                       {map[string][]string{"targets": {"!x: a/b/*", "y: a/b/*"}}, map[string][]string{"y": {name}}, ""},
		"terminating, and has it":           {map[string][]string{"targets": {"!x: a/b/*", "y: a/b/*"}}, map[string][]string{"x": {name}, "y": {name}}, "x"},
		"terminating elsewhere":             {map[string][]string{"targets": {"!x: c/*", "y: a/b/*"}}, map[string][]string{"y": {name}}, "y"},
		"terminating, its child has it":     {map[string][]string{"targets": {"!x: a/b/*", "y: a/b/*"}, "x": {"z: a/b/*"}}, map[string][]string{"y": {name}, "z": {name}}, "z"},
		"cycle":                             {map[string][]string{"targets": {"x: a/b/*", "y: a/b/*"}, "x": {"x: a/b/*", "z: a/b/*"}, "z": {"x: a/b/*"}}, map[string][]string{"y": {name}}, "y"},
		"hash prefix in hex":                {map[string][]string{"targets": {"x: #" + digest[:3]}}, map[string][]string{"x": {name}}, "x"},
		"other hash prefix":                 {map[string][]string{"targets": {"x: #" + flip(digest[:3])}}, map[string][]string{"x": {name}}, ""},
		"whole hash":                        {map[string][]string{"targets": {"x: #" + digest}}, map[string][]string{"x": {name}}, "x"},
		"odd role names":                    {map[string][]string{"targets": {"?: a/b/*"}, "?": {"../x: a/b/*"}, "../x": {"/y z#: a/b/*"}}, map[string][]string{"/y z#": {name}}, "/y z#"},
	} {
		t.Run(title, func(t *testing.T) {
			w := graph(t, tc.edges, tc.names)
			c := w.mustRefresh()
			for _, c := range []*tuf.Client{c, w.open()} {
				got, err := c.Target(context.Background(), name, 100)
				if string(got) != tc.want || errors.Is(err, tuf.ErrNoTarget) != (tc.want == "") {
					t.Errorf("target is %q, %v; want %q", got, err, tc.want)
				}
			}
			for _, file := range storeFiles(t, w.disk) {
				if !strings.HasPrefix(file, store) || strings.Contains(file, "..") && !strings.Contains(file, "..%2F") {
					t.Errorf("a file at %s", file)
				}
			}
		})
	}
}

func flip(s string) string {
	return strings.Map(func(r rune) rune { return 'a' + 'f' - max(r, 'a') }, s)
}

func TestTooManyDelegations(t *testing.T) {
	edges := map[string][]string{}
	last := "targets"
	for n := range 40 {
		name := fmt.Sprint("r", n)
		edges[last] = []string{name + ": a/*"}
		last = name
	}
	w := graph(t, edges, map[string][]string{last: {"a/x"}, "r5": {"a/y"}})
	c := w.mustRefresh()
	if _, err := c.Target(context.Background(), "a/x", 100); err == nil || !strings.Contains(err.Error(), "more than 32 roles") {
		t.Errorf("a target 40 roles deep: %v", err)
	}
	if _, err := c.Target(context.Background(), "a/y", 100); err != nil {
		t.Errorf("a target 6 roles deep: %v", err)
	}
}

// TestEachDelegatorVerifies: a role that one delegator vouches for with its keys is not believed for another one's.
func TestEachDelegatorVerifies(t *testing.T) {
	w := graph(t, map[string][]string{"targets": {"x: a/*", "y: a/* b/*"}, "x": {"shared: a/*"}}, map[string][]string{"shared": {"a/1", "b/1"}})
	w.repo.Delegate("y", role("shared: a/* b/*"), fixtures.NewKey("other"))
	w.repo.Publish()
	c := w.mustRefresh()
	if got, err := c.Target(context.Background(), "a/1", 100); err != nil || string(got) != "shared" {
		t.Errorf("through the delegator whose keys signed: %q, %v", got, err)
	}
	if _, err := c.Target(context.Background(), "b/1", 100); !errors.Is(err, tuf.ErrTrust) {
		t.Errorf("through the other delegator: %v, want it refused", err)
	}
}

func TestHashBins(t *testing.T) {
	for _, bits := range []int{1, 4, 10, 32} {
		t.Run(fmt.Sprint(bits, " bits"), func(t *testing.T) {
			w := graph(t, nil, nil)
			const name = "releases/edge/1.json"
			sum := sha256.Sum256([]byte(name))
			n := (uint64(sum[0])<<24 | uint64(sum[1])<<16 | uint64(sum[2])<<8 | uint64(sum[3])) >> (32 - bits)
			width := (bits + 3) / 4
			right := fmt.Sprintf("bin-%0*x", width, n)
			key := fixtures.NewKey("bins")
			w.repo.Targets["targets"].Delegations = &metadata.Delegations{
				Keys:          map[string]*metadata.Key{key.ID: key.Public},
				SuccinctRoles: &metadata.SuccinctRoles{KeyIDs: []string{key.ID}, Threshold: 1, BitLength: bits, NamePrefix: "bin"},
			}
			bins := []string{right}
			if bits <= 4 {
				bins = nil
				for n := range 1 << bits {
					bins = append(bins, fmt.Sprintf("bin-%0*x", width, n))
				}
			}
			for _, b := range bins {
				w.repo.AddRole(b)
				w.repo.Keys[b] = []*fixtures.Key{key}
			}
			w.repo.AddTarget(right, name, []byte("x"))
			w.repo.Publish()
			c := w.open()
			err := c.Refresh(context.Background())
			if bits > 4 {
				// So many bins are looked up, and never listed.
				if err == nil || !strings.Contains(err.Error(), "snapshot does not name") && !strings.Contains(err.Error(), "more than") {
					t.Errorf("listing %d bits of bins: %v", bits, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := c.Target(context.Background(), name, 100); err != nil || string(got) != "x" {
				t.Errorf("target = %q, %v", got, err)
			}
		})
	}
}

// TestKeyTypes signs every role with each kind of key that the specification names.
func TestKeyTypes(t *testing.T) {
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecdsaKey := func(k *ecdsa.PrivateKey, typ, scheme string, hash func([]byte) []byte) *fixtures.Key {
		key := fixtures.KeyOf(k.Public(), func(p []byte) []byte {
			sig, _ := ecdsa.SignASN1(rand.Reader, k, hash(p))
			return sig
		})
		key.Public.Type, key.Public.Scheme = typ, scheme
		return key
	}
	sha := func(p []byte) []byte { s := sha256.Sum256(p); return s[:] }
	sha384 := func(p []byte) []byte { s := sha512.Sum384(p); return s[:] }
	for name, key := range map[string]*fixtures.Key{
		"ecdsa P-256":           ecdsaKey(p256, "ecdsa", "ecdsa-sha2-nistp256", sha),
		"ecdsa P-256, old name": ecdsaKey(p256, "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256", sha),
		"ecdsa P-384":           ecdsaKey(p384, "ecdsa", "ecdsa-sha2-nistp384", sha384),
		"ecdsa P-384, old name": ecdsaKey(p384, "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384", sha384),
		"RSA-PSS": fixtures.KeyOf(rsaKey.Public(), func(p []byte) []byte {
			sig, _ := rsa.SignPSS(rand.Reader, rsaKey, crypto.SHA256, sha(p), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
			return sig
		}),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.mustRefresh()
			for _, r := range []string{"root", "timestamp", "snapshot", "targets"} {
				w.repo.SetKeys(r, 1, key)
			}
			w.repo.SetDelegatedKeys("releases", 1, key)
			w.repo.Old = []*fixtures.Key{fixtures.NewKey("root 1")}
			w.repo.PublishRoot()
			publish3(w)
			if got := serials(t, w.mustRefresh()); !slices.Equal(got, []uint64{1, 2, 3}) {
				t.Errorf("offers = %v", got)
			}
			w.repo.Keys["timestamp"] = []*fixtures.Key{thief}
			w.repo.PublishTimestamp()
			if err := w.refresh(); !errors.Is(err, tuf.ErrTrust) {
				t.Errorf("another signature: %v, want it refused", err)
			}
		})
	}
}

// TestThresholds: k of n, in every combination of signers.
func TestThresholds(t *testing.T) {
	keys := []*fixtures.Key{fixtures.NewKey("a"), fixtures.NewKey("b"), fixtures.NewKey("c")}
	for mask := range 1 << len(keys) {
		var signers []*fixtures.Key
		for i, k := range keys {
			if mask>>i&1 == 1 {
				signers = append(signers, k)
			}
		}
		w := newWorld(t)
		w.mustRefresh()
		w.repo.SetKeys("targets", 2, keys...)
		w.repo.PublishRoot()
		w.repo.Keys["targets"] = append(signers, thief)
		publish3(w)
		err := w.refresh()
		if (err == nil) != (len(signers) >= 2) {
			t.Errorf("%d of 3 signed, 2 needed: %v", len(signers), err)
		}
	}
}

// TestWithoutConsistentSnapshots: names without versions and hashes, as old repositories have.
func TestWithoutConsistentSnapshots(t *testing.T) {
	w := newWorld(t)
	w.repo.Root.ConsistentSnapshot = false
	w.repo.PublishRoot()
	for name, data := range w.repo.Files() {
		if rest, ok := strings.CutPrefix(name, "metadata/2."); ok && !strings.Contains(name, "root") {
			w.repo.Put("metadata/"+rest, data)
			w.repo.Remove(name)
		}
		if strings.HasPrefix(name, "targets/releases/edge/") {
			w.repo.Put("targets/releases/edge/"+name[len(name)-len("1.json"):], data)
			w.repo.Remove(name)
		}
	}
	if got := serials(t, w.mustRefresh()); !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("offers = %v", got)
	}
}
