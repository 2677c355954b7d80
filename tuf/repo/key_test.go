package repo

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/evenkeel-os/evenkeel/fixtures"
)

const (
	secret  = "correct horse"
	quickly = WorkFactor(2) // of scrypt, for tests
)

func TestKeyFile(t *testing.T) {
	f, made, err := NewKey("root-1", secret, quickly)
	if err != nil {
		t.Fatal(err)
	}
	data, err := f.Encode()
	if err != nil {
		t.Fatal(err)
	}
	read, err := ParseKeyFile(data)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := read.Open(secret)
	if err != nil {
		t.Fatal(err)
	}
	if opened.Public.ID != made.Public.ID || opened.Name != "root-1" {
		t.Errorf("opened %+v, made %+v", opened.Public.ID, made.Public.ID)
	}
	for _, wrong := range []string{"", "correct hors", "Correct horse", secret + " "} {
		if _, err := read.Open(wrong); !errors.Is(err, ErrPassphrase) {
			t.Errorf("passphrase %q: %v", wrong, err)
		}
	}
	sig, err := opened.sign([]byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	if !read.Public.verify([]byte("payload"), sig) || read.Public.verify([]byte("another"), sig) {
		t.Error("the signature of the opened key is not good for the public key in the file")
	}
}

func TestKeyFileRefuses(t *testing.T) {
	f, _, err := NewKey("mine", secret, quickly)
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := NewKey("other", secret, quickly)
	if err != nil {
		t.Fatal(err)
	}
	swapped := f
	swapped.Private = other.Private
	if _, err := swapped.Open(secret); err == nil || !strings.Contains(err.Error(), "does not belong") {
		t.Errorf("another private key in the file: %v", err)
	}
	torn := f
	torn.Private = f.Private[:len(f.Private)/2]
	if _, err := torn.Open(secret); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("half a file: %v", err)
	}
	for name, change := range map[string]func(*KeyFile){
		"another format":     func(f *KeyFile) { f.Format = 2 },
		"another id":         func(f *KeyFile) { f.ID = other.ID },
		"another public key": func(f *KeyFile) { f.Public = other.Public },
		"a path as name":     func(f *KeyFile) { f.Name = "../x" },
	} {
		changed := f
		change(&changed)
		data, err := changed.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseKeyFile(data); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, data := range []string{"", "{}", "null", "[]", `{"evenkeel_key":1}`, `{"evenkeel_key":1,"public":null}`, `{"evenkeel_key":1,"name":"x","public":{"keytype":"ed25519","scheme":"ed25519","keyval":{"public":"00"}}}`} {
		if _, err := ParseKeyFile([]byte(data)); err == nil {
			t.Errorf("%s: accepted", data)
		}
	}
}

func TestNewKeyRefuses(t *testing.T) {
	if _, _, err := NewKey("x", "1234567", quickly); err == nil {
		t.Error("a passphrase of 7 characters was accepted")
	}
	if _, _, err := NewKey("x", "ééééééé", quickly); err == nil {
		t.Error("14 bytes were taken for 14 characters")
	}
	for _, name := range []string{"", "a/b", "..", "-x", "a b"} {
		if _, _, err := NewKey(name, secret, quickly); err == nil {
			t.Errorf("the name %q was accepted", name)
		}
	}
}

// TestSchemes signs with every type of key, and has go-tuf verify, as every client does.
func TestSchemes(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"ed25519": ed, "ecdsa": p256, "rsa": rsaKey} {
		t.Run(name, func(t *testing.T) {
			_, s, err := SealKey("key", key, secret, quickly)
			if err != nil {
				t.Fatal(err)
			}
			root := metadata.Root()
			root.Signed.Keys[string(s.Public.ID)] = s.Public.key
			for _, role := range root.Signed.Roles {
				role.KeyIDs = []string{string(s.Public.ID)}
			}
			e, err := newEnvelope(root.Signed)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.sign(s); err != nil {
				t.Fatal(err)
			}
			data, err := e.encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := verifyRoot(nil, data); err != nil {
				t.Errorf("we refuse it: %v", err)
			}
			signed, err := metadata.Root().FromBytes(data)
			if err != nil {
				t.Fatal(err)
			}
			if err := root.VerifyDelegate("root", signed); err != nil {
				t.Errorf("go-tuf refuses it: %v", err)
			}
			signed.Signed.Version++
			if err := root.VerifyDelegate("root", signed); err == nil {
				t.Error("go-tuf accepts changed bytes")
			}
		})
	}
}

func TestWeakKeys(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewSigner("x", p384); err == nil || !strings.Contains(err.Error(), "P-256") {
		t.Errorf("P-384: %v", err)
	}
	t.Setenv("GODEBUG", "rsa1024min=0")
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewSigner("x", small); err == nil || !strings.Contains(err.Error(), "2048") {
		t.Errorf("RSA of 1024 bits: %v", err)
	}
}

// TestPublicKeyID ignores fields that other programs add: they would change the id, and the key could never sign.
func TestPublicKeyID(t *testing.T) {
	s := testKey(t, RoleRoot, 1)
	plain, err := json.Marshal(s.Public)
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{string(plain), strings.Replace(string(plain), "{", `{"x-note":"of Alice",`, 1)} {
		k, err := ParsePublicKey([]byte(data))
		if err != nil || k.ID != s.Public.ID {
			t.Errorf("%s: id %s, %v", data, k.ID, err)
		}
	}
	for _, data := range []string{"", "null", "{}", `{"keytype":"ed25519","scheme":"ed25519","keyval":{"public":"ab"}}`, `{"keytype":"dsa","scheme":"dsa","keyval":{"public":"ab"}}`} {
		if _, err := ParsePublicKey([]byte(data)); err == nil {
			t.Errorf("%q: accepted", data)
		}
	}
}

func FuzzParseKeyFile(f *testing.F) {
	k, _, err := NewKey("fuzz", secret, quickly)
	if err != nil {
		f.Fatal(err)
	}
	data, err := k.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"evenkeel_key":1,"name":"x","keyid":"","public":{"keytype":"rsa","scheme":"x","keyval":{"public":"-----BEGIN"}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if k, err := ParseKeyFile(data); err == nil && k.ID != k.Public.ID {
			t.Error("accepted a file whose id is another key's")
		}
		if k, err := ParsePublicKey(data); err == nil && k.verify([]byte("x"), make([]byte, 64)) {
			t.Error("a signature of zeros verifies")
		}
	})
}

func TestKeyDir(t *testing.T) {
	d := &KeyDir{Dir: "/keys", FS: fixtures.NewFS()}
	asked := 0
	d.Open = func(f KeyFile, _ Role) (Signer, error) { asked++; return f.Open(secret) }
	if files, err := d.Files(); err != nil || len(files) != 0 {
		t.Fatalf("no directory: %v, %v", files, err)
	}
	var ids []KeyID
	for _, name := range []string{"a", "b", "c"} {
		f, _, err := NewKey(name, secret, quickly)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Save(f); err != nil {
			t.Fatal(err)
		}
		if err := d.Save(f); !errors.Is(err, ErrInput) {
			t.Fatalf("saved over another key: %v", err)
		}
		ids = append(ids, f.ID)
	}
	got, err := d.Signers(RoleSnapshot, ids[1:], 1)
	if err != nil || len(got) != 1 || got[0].Name != "b" || asked != 1 {
		t.Fatalf("got %v, %v after asking %d times", got, err, asked)
	}
	if got, err = d.Signers(RoleSnapshot, ids, 2); err != nil || len(got) != 2 || asked != 2 {
		t.Fatalf("got %v, %v after asking %d times; want the open key and one more", got, err, asked)
	}
	if _, err = d.Signers(RoleSnapshot, []KeyID{ids[0], "unknown"}, 2); !errors.Is(err, ErrKey) {
		t.Errorf("one key for two: %v", err)
	}
}
