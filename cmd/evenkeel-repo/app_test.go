package main

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func encodings(t *testing.T, key ed25519.PrivateKey) map[string][]byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"DER": der, "hex": []byte(hex.EncodeToString(der)), "base64": []byte(base64.StdEncoding.EncodeToString(der)),
		"PEM": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	}
}

func TestParseDuration(t *testing.T) {
	good := map[string]time.Duration{"90d": 90 * 24 * time.Hour, "36h": 36 * time.Hour, "1m": time.Minute, "1h30m": 90 * time.Minute}
	for text, want := range good {
		if got, err := parseDuration(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "7", "7 d", "-7d", "1.5d", "d", "30s", "99999999d", "7dd", "week", "0d"} {
		if got, err := parseDuration(text); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

func TestWithin(t *testing.T) {
	for _, tt := range []struct {
		dir, parent string
		want        bool
	}{
		{"repo/keys", "repo", true},
		{"repo", "repo", true},
		{"keys", "repo", false},
		{"repo-keys", "repo", false},
		{"../keys", ".", false},
		{"keys", ".", true},
		{"..keys", ".", true},
		{"repo/../keys", "repo", false},
	} {
		if got, err := within(tt.dir, tt.parent); err != nil || got != tt.want {
			t.Errorf("is %s within %s: %v, %v", tt.dir, tt.parent, got, err)
		}
	}
}

func TestWithinFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"repo/keys"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "repo", "keys"), filepath.Join(dir, "keys")); err != nil {
		t.Fatal(err)
	}
	if got, err := within(filepath.Join(dir, "keys"), filepath.Join(dir, "repo")); err != nil || !got {
		t.Errorf("a link into the repository is not seen: %v, %v", got, err)
	}
}

func TestReleaseFileOverride(t *testing.T) {
	file := releaseFile{
		Product: "edge", Version: "1", Serial: 1, Compatible: []string{"a"},
		Images: []imageFile{{Role: "root", File: "old"}, {Role: "kernel", Name: "vmlinuz", File: "k"}},
	}
	got := file.overriddenBy(releaseFile{Version: "2", Serial: 2, Images: []imageFile{{Role: "root", File: "new"}}})
	if got.Product != "edge" || got.Version != "2" || got.Serial != 2 || got.Layout != 1 || !slices.Equal(got.Compatible, []string{"a"}) {
		t.Errorf("got %+v", got)
	}
	want := []imageFile{{Role: "kernel", Name: "vmlinuz", File: "k"}, {Role: "root", File: "new"}}
	if !slices.Equal(got.Images, want) {
		t.Errorf("images %+v, want %+v", got.Images, want)
	}
}
