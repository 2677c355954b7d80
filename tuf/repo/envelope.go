package repo

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/evenkeel-os/evenkeel/release"
)

// Short names for go-tuf's types.
type (
	rootMeta      = metadata.Metadata[metadata.RootType]
	timestampMeta = metadata.Metadata[metadata.TimestampType]
	snapshotMeta  = metadata.Metadata[metadata.SnapshotType]
	targetsMeta   = metadata.Metadata[metadata.TargetsType]

	rootType      = metadata.RootType
	timestampType = metadata.TimestampType
	snapshotType  = metadata.SnapshotType
	metaFiles     = metadata.MetaFiles
)

const specVersion = "1.0.33"

// envelope is a metadata file of any role: what is signed, and who signed it.
type envelope struct {
	Signed     json.RawMessage      `json:"signed"`
	Signatures []metadata.Signature `json:"signatures"`
}

// header is what every role's metadata begins with.
type header struct {
	Type    string    `json:"_type"`
	Version int64     `json:"version"`
	Expires time.Time `json:"expires"`
	Issued  time.Time `json:"issued"`
}

// newEnvelope wraps what is to be signed, without a signature.
func newEnvelope(signed any) (*envelope, error) {
	data, err := json.Marshal(signed)
	if err != nil {
		return nil, fmt.Errorf("cannot encode metadata: %w", err)
	}
	return &envelope{Signed: data, Signatures: []metadata.Signature{}}, nil
}

func parseEnvelope(data []byte) (*envelope, error) {
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, err
	}
	if len(e.Signed) == 0 {
		return nil, errors.New("it has no \"signed\" part")
	}
	return &e, nil
}

func (e *envelope) encode() ([]byte, error) {
	data, err := json.Marshal(e)
	return append(data, '\n'), err
}

func (e *envelope) header() (h header, err error) {
	return h, json.Unmarshal(e.Signed, &h)
}

// payload is the canonical form of what is signed.
func (e *envelope) payload() ([]byte, error) {
	return cjson.EncodeCanonical(e.Signed)
}

// sign adds the signature of s, in place of an earlier one of the same key.
func (e *envelope) sign(s Signer) error {
	payload, err := e.payload()
	if err != nil {
		return err
	}
	sig, err := s.sign(payload)
	if err != nil {
		return fmt.Errorf("key %s (%s) did not sign: %w", s.Name, s.Public.ID.Short(), err)
	}
	e.put(metadata.Signature{KeyID: string(s.Public.ID), Signature: sig})
	return nil
}

func (e *envelope) put(sig metadata.Signature) {
	e.Signatures = slices.DeleteFunc(e.Signatures, func(old metadata.Signature) bool { return old.KeyID == sig.KeyID })
	e.Signatures = append(e.Signatures, sig)
	slices.SortFunc(e.Signatures, func(a, b metadata.Signature) int {
		if a.KeyID < b.KeyID {
			return -1
		}
		return 1
	})
}

// authority is who may sign a role.
type authority struct {
	Threshold int
	Keys      []PublicKey
}

func (a authority) key(id KeyID) (PublicKey, bool) {
	for _, k := range a.Keys {
		if k.ID == id {
			return k, true
		}
	}
	return PublicKey{}, false
}

func (a authority) ids() []KeyID {
	ids := make([]KeyID, len(a.Keys))
	for i, k := range a.Keys {
		ids[i] = k.ID
	}
	return ids
}

// signedBy returns the keys of a that have validly signed e.
func (e *envelope) signedBy(a authority) ([]KeyID, error) {
	payload, err := e.payload()
	if err != nil {
		return nil, err
	}
	var ids []KeyID
	for _, s := range e.Signatures {
		id := KeyID(s.KeyID)
		if k, ok := a.key(id); ok && k.verify(payload, s.Signature) && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// enough returns an error unless the threshold of a is met.
func (e *envelope) enough(a authority) error {
	ids, err := e.signedBy(a)
	if err != nil {
		return err
	}
	if len(ids) < a.Threshold {
		return fmt.Errorf("it has %d of %d signatures", len(ids), a.Threshold)
	}
	return nil
}

// rootAuthority is who may sign r by root m.
func rootAuthority(m *rootMeta, r Role) authority {
	role := m.Signed.Roles[string(r)]
	if role == nil {
		return authority{Threshold: 1}
	}
	return newAuthority(role.Threshold, role.KeyIDs, m.Signed.Keys)
}

// delegatedAuthority is who may sign r by the delegations of m.
func delegatedAuthority(m *targetsMeta, r Role) authority {
	if m != nil && m.Signed.Delegations != nil {
		for _, d := range m.Signed.Delegations.Roles {
			if d.Name == string(r) {
				return newAuthority(d.Threshold, d.KeyIDs, m.Signed.Delegations.Keys)
			}
		}
	}
	return authority{Threshold: 1}
}

func newAuthority(threshold int, ids []string, keys map[string]*metadata.Key) authority {
	a := authority{Threshold: max(threshold, 1)}
	for _, id := range ids {
		if keys[id] == nil {
			continue
		}
		if k, err := newPublicKey(keys[id]); err == nil && string(k.ID) == id {
			a.Keys = append(a.Keys, k)
		}
	}
	return a
}

// parse reads metadata. go-tuf's parsers panic on some damaged files.
func parse[T metadata.Roles](data []byte, role string) (m *metadata.Metadata[T], err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it is malformed: %v", p)
		}
	}()
	m = &metadata.Metadata[T]{}
	if _, err := m.FromBytes(data); err != nil {
		return nil, err
	}
	e, err := parseEnvelope(data)
	if err != nil {
		return nil, err
	}
	h, err := e.header()
	if err != nil {
		return nil, err
	}
	if h.Type != role || h.Version < 1 {
		return nil, fmt.Errorf("it is version %d of %.40q, not of %q", h.Version, h.Type, role)
	}
	return m, nil
}

// parseTargets reads metadata of targets or of a role that it delegates to.
func parseTargets(data []byte) (*targetsMeta, error) {
	m, err := parse[metadata.TargetsType](data, metadata.TARGETS)
	if err != nil {
		return nil, err
	}
	for name, f := range m.Signed.Targets {
		if f == nil || len(f.Hashes["sha256"]) != sha256.Size {
			return nil, fmt.Errorf("its target %.100q has no SHA-256", name)
		}
	}
	return m, nil
}

func metaFile(version int64, data []byte) *metadata.MetaFiles {
	sum := sha256.Sum256(data)
	return &metadata.MetaFiles{Version: version, Length: int64(len(data)), Hashes: metadata.Hashes{"sha256": sum[:]}}
}

func targetFile(data []byte) *metadata.TargetFiles {
	sum := sha256.Sum256(data)
	return &metadata.TargetFiles{Length: int64(len(data)), Hashes: metadata.Hashes{"sha256": sum[:]}}
}

func digestOf(f *metadata.TargetFiles) (d release.Digest) {
	copy(d[:], f.Hashes["sha256"])
	return d
}

// issued is the field of ours that dates a file.
func issued(now time.Time) map[string]any {
	return map[string]any{"issued": now.Format(time.RFC3339)}
}
