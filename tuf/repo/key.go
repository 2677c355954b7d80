package repo

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// KeyID identifies a public key: the hex SHA-256 of its canonical JSON, as TUF defines it.
type KeyID string

// Short returns enough of the id for people to tell keys apart.
func (id KeyID) Short() string { return string(id[:min(len(id), 12)]) }

// PublicKey is a public key as TUF writes it.
type PublicKey struct {
	ID  KeyID
	key *metadata.Key
}

// Signer is a private key that can sign, wherever it lives.
type Signer struct {
	Name   string // for people: the name of its file
	Public PublicKey
	signer crypto.Signer
}

// NewSigner makes a Signer of an ed25519, ECDSA P-256 or RSA key of at least 2048 bits.
func NewSigner(name string, s crypto.Signer) (Signer, error) {
	switch k := s.Public().(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return Signer{}, fmt.Errorf("key %s is ECDSA on curve %s: only P-256 is accepted", name, k.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		if k.Size() < 256 {
			return Signer{}, fmt.Errorf("key %s is RSA of %d bits: at least 2048 are needed", name, k.Size()*8)
		}
	}
	key, err := metadata.KeyFromPublicKey(s.Public())
	if err != nil {
		return Signer{}, fmt.Errorf("key %s is of no known type: use ed25519, ECDSA P-256 or RSA", name)
	}
	public, err := newPublicKey(key)
	if err != nil {
		return Signer{}, err
	}
	return Signer{Name: name, Public: public, signer: s}, nil
}

func newPublicKey(key *metadata.Key) (PublicKey, error) {
	// An ed25519 key of another length makes go-tuf panic, in every client.
	if key.Type == metadata.KeyTypeEd25519 && len(key.Value.PublicKey) != 2*ed25519.PublicKeySize {
		return PublicKey{}, errors.New("an ed25519 public key has 64 hex digits")
	}
	if _, err := key.ToPublicKey(); err != nil {
		return PublicKey{}, fmt.Errorf("cannot use public key: %w", err)
	}
	id, err := key.ID()
	if err != nil {
		return PublicKey{}, fmt.Errorf("cannot use public key: %w", err)
	}
	return PublicKey{ID: KeyID(id), key: key}, nil
}

// MarshalJSON writes the key as TUF does.
func (k PublicKey) MarshalJSON() ([]byte, error) { return json.Marshal(k.key) }

// UnmarshalJSON reads the key as TUF writes it.
func (k *PublicKey) UnmarshalJSON(data []byte) error {
	var key *metadata.Key
	if err := json.Unmarshal(data, &key); err != nil {
		return err
	}
	if key == nil {
		return errors.New("the public key is missing")
	}
	// Fields of other programs would change the key's id.
	plain := metadata.Key{Type: key.Type, Scheme: key.Scheme, Value: metadata.KeyVal{PublicKey: key.Value.PublicKey}}
	public, err := newPublicKey(&plain)
	if err != nil {
		return err
	}
	*k = public
	return nil
}

// sign signs payload by the scheme of the key.
func (s Signer) sign(payload []byte) ([]byte, error) {
	digest := sha256.Sum256(payload)
	switch s.signer.Public().(type) {
	case ed25519.PublicKey:
		return s.signer.Sign(rand.Reader, payload, crypto.Hash(0))
	case *rsa.PublicKey:
		return s.signer.Sign(rand.Reader, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
	}
	return s.signer.Sign(rand.Reader, digest[:], crypto.SHA256)
}

// verify reports whether sig is k's signature of payload.
func (k PublicKey) verify(payload, sig []byte) bool {
	public, err := k.key.ToPublicKey()
	if err != nil {
		return false
	}
	digest := sha256.Sum256(payload)
	switch p := public.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(p, payload, sig)
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(p, digest[:], sig)
	case *rsa.PublicKey:
		return rsa.VerifyPSS(p, crypto.SHA256, digest[:], sig, &rsa.PSSOptions{Hash: crypto.SHA256}) == nil
	}
	return false
}

// KeyFile is a private key at rest: everything but Private is public.
type KeyFile struct {
	Format  int       `json:"evenkeel_key"` // 1
	Name    string    `json:"name"`         // for people
	ID      KeyID     `json:"keyid"`
	Public  PublicKey `json:"public"`
	Private string    `json:"private"` // PKCS #8 DER, encrypted by age with a passphrase (scrypt), armored
}

// WorkFactor is the strength of the passphrase's scrypt: 2^WorkFactor rounds.
type WorkFactor int

// DefaultWorkFactor costs about a second and 256 MiB per guess.
const DefaultWorkFactor WorkFactor = 18

// MinPassphrase is the least number of characters of a passphrase for a new key.
const MinPassphrase = 8

var keyNameRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)

// ErrPassphrase says that a passphrase does not open a key. ErrWeak says that one must not protect a key.
var (
	ErrPassphrase = errors.New("wrong passphrase")
	ErrWeak       = fmt.Errorf("it is too short: use at least %d characters", MinPassphrase)
)

// NewKey makes an ed25519 key, and its encrypted file.
func NewKey(name, passphrase string, work WorkFactor) (KeyFile, Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return KeyFile{}, Signer{}, fmt.Errorf("cannot make key %s: %w", name, err)
	}
	return SealKey(name, private, passphrase, work)
}

// SealKey encrypts an existing private key.
func SealKey(name string, private crypto.Signer, passphrase string, work WorkFactor) (KeyFile, Signer, error) {
	if !keyNameRule.MatchString(name) {
		return KeyFile{}, Signer{}, BadInput("key name %q is not legal: use up to 64 letters, digits and \"._@-\"", name)
	}
	if len([]rune(passphrase)) < MinPassphrase {
		return KeyFile{}, Signer{}, fmt.Errorf("cannot take the passphrase for key %s: %w", name, ErrWeak)
	}
	signer, err := NewSigner(name, private)
	if err != nil {
		return KeyFile{}, Signer{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return KeyFile{}, Signer{}, fmt.Errorf("cannot encode key %s: %w", name, err)
	}
	sealed, err := seal(der, passphrase, work)
	if err != nil {
		return KeyFile{}, Signer{}, fmt.Errorf("cannot encrypt key %s: %w", name, err)
	}
	return KeyFile{Format: 1, Name: name, ID: signer.Public.ID, Public: signer.Public, Private: sealed}, signer, nil
}

func seal(plain []byte, passphrase string, work WorkFactor) (string, error) {
	recipient, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return "", err
	}
	if work != 0 {
		recipient.SetWorkFactor(int(work))
	}
	var out bytes.Buffer
	armored := armor.NewWriter(&out)
	w, err := age.Encrypt(armored, recipient)
	if err != nil {
		return "", err
	}
	if _, err := w.Write(plain); err != nil {
		return "", err
	}
	if err := errors.Join(w.Close(), armored.Close()); err != nil {
		return "", err
	}
	return out.String(), nil
}

// ParseKeyFile reads a key file. Its private half stays encrypted.
func ParseKeyFile(data []byte) (KeyFile, error) {
	var f KeyFile
	if err := json.Unmarshal(data, &f); err != nil {
		return KeyFile{}, fmt.Errorf("it is no key file: %w", err)
	}
	switch {
	case f.Format != 1:
		return KeyFile{}, fmt.Errorf("it is no key file of format 1 (\"evenkeel_key\" is %d)", f.Format)
	case f.Public.key == nil || f.ID != f.Public.ID:
		return KeyFile{}, errors.New("its key id does not belong to its public key")
	case !keyNameRule.MatchString(f.Name):
		return KeyFile{}, fmt.Errorf("its name %.80q is not legal", f.Name)
	}
	return f, nil
}

// Encode returns the bytes of the file.
func (f KeyFile) Encode() ([]byte, error) {
	data, err := json.MarshalIndent(f, "", "  ")
	return append(data, '\n'), err
}

// Open decrypts the private key. A wrong passphrase is ErrPassphrase.
func (f KeyFile) Open(passphrase string) (Signer, error) {
	der, err := unseal(f.Private, passphrase)
	if err != nil {
		return Signer{}, fmt.Errorf("cannot open key %s: %w", f.Name, err)
	}
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return Signer{}, fmt.Errorf("cannot read key %s: %w", f.Name, err)
	}
	s, ok := private.(crypto.Signer)
	if !ok {
		return Signer{}, fmt.Errorf("key %s cannot sign", f.Name)
	}
	signer, err := NewSigner(f.Name, s)
	if err != nil {
		return Signer{}, err
	}
	if signer.Public.ID != f.ID {
		return Signer{}, fmt.Errorf("key %s: the private key in the file does not belong to the public one", f.Name)
	}
	return signer, nil
}

func unseal(sealed, passphrase string) ([]byte, error) {
	identity, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, ErrPassphrase
	}
	r, err := age.Decrypt(armor.NewReader(strings.NewReader(sealed)), identity)
	var mismatch *age.NoIdentityMatchError
	if errors.As(err, &mismatch) {
		return nil, ErrPassphrase
	}
	if err != nil {
		return nil, fmt.Errorf("its encrypted part is damaged: %w", err)
	}
	der, err := io.ReadAll(io.LimitReader(r, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("its encrypted part is damaged: %w", err)
	}
	return der, nil
}

// ParsePublicKey reads a public key: the file that key new writes beside the private one, or a key file.
func ParsePublicKey(data []byte) (PublicKey, error) {
	if f, err := ParseKeyFile(data); err == nil {
		return f.Public, nil
	}
	var k PublicKey
	if err := json.Unmarshal(data, &k); err != nil {
		return PublicKey{}, fmt.Errorf("it is no public key: %w", err)
	}
	return k, nil
}
