package tuf

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"maps"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// usableRoot returns a copy of m to verify others by: each role keeps only the keys that this agent can use. Otherwise one
// key of a type that only newer agents know would make a role unverifiable whose threshold is met without it. The copy's
// own signatures do not verify; it is a delegator only.
func usableRoot(m *rootMeta) *rootMeta {
	c := *m
	c.Signed.Keys = usableKeys(m.Signed.Keys)
	c.Signed.Roles = make(map[string]*metadata.Role, len(m.Signed.Roles))
	for name, r := range m.Signed.Roles {
		if r != nil {
			role := *r
			role.KeyIDs = known(role.KeyIDs, c.Signed.Keys)
			c.Signed.Roles[name] = &role
		}
	}
	return &c
}

// usableTargets is usableRoot for the delegations of a targets role.
func usableTargets(m *targetsMeta) *targetsMeta {
	if m.Signed.Delegations == nil {
		return m
	}
	c, d := *m, *m.Signed.Delegations
	d.Keys = usableKeys(d.Keys)
	d.Roles = slices.Clone(d.Roles)
	for i := range d.Roles {
		d.Roles[i].KeyIDs = known(d.Roles[i].KeyIDs, d.Keys)
	}
	if d.SuccinctRoles != nil {
		s := *d.SuccinctRoles
		s.KeyIDs = known(s.KeyIDs, d.Keys)
		d.SuccinctRoles = &s
	}
	c.Signed.Delegations = &d
	return &c
}

func known(ids []string, keys map[string]*metadata.Key) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return keys[id] == nil })
}

func usableKeys(keys map[string]*metadata.Key) map[string]*metadata.Key {
	usable := maps.Clone(keys)
	maps.DeleteFunc(usable, func(_ string, k *metadata.Key) bool { return k == nil || !schemeKnown(k) })
	for id, k := range usable {
		if k.Type == metadata.KeySchemeECDSA_SHA2_P384 {
			// The specification's older spelling, which go-tuf knows for P-256 only.
			same := *k
			same.Type = metadata.KeyTypeECDSA_SHA2_P256
			usable[id] = &same
		}
	}
	maps.DeleteFunc(usable, func(_ string, k *metadata.Key) bool { return guard(func() error { return decodable(k) }) != nil })
	return usable
}

func schemeKnown(k *metadata.Key) bool {
	switch k.Type {
	case metadata.KeyTypeEd25519:
		return k.Scheme == metadata.KeySchemeEd25519
	case metadata.KeyTypeRSASSA_PSS_SHA256:
		return k.Scheme == metadata.KeySchemeRSASSA_PSS_SHA256
	case metadata.KeyTypeECDSA_SHA2_P256, metadata.KeyTypeECDSA_SHA2_P256_COMPAT, metadata.KeySchemeECDSA_SHA2_P384:
		return k.Scheme == metadata.KeySchemeECDSA_SHA2_P256 || k.Scheme == metadata.KeySchemeECDSA_SHA2_P384
	}
	return false
}

// decodable reports whether the verification of a signature by k would get as far as looking at the signature.
func decodable(k *metadata.Key) error {
	if k.Type == metadata.KeyTypeEd25519 && len(k.Value.PublicKey) != 64 {
		return errors.New("an ed25519 key has 32 bytes")
	}
	public, err := k.ToPublicKey()
	if err != nil {
		return err
	}
	_, err = x509.MarshalPKIXPublicKey(public)
	return err
}

// fingerprints identifies the keys of a role by what they are, not by the ids that the metadata gives them.
func fingerprints(m *rootMeta, role string) []string {
	r := m.Signed.Roles[role]
	if r == nil {
		return nil
	}
	var prints []string
	for _, id := range r.KeyIDs {
		if k := m.Signed.Keys[id]; k != nil {
			prints = append(prints, digestText([]byte(k.Type+"\x00"+k.Scheme+"\x00"+k.Value.PublicKey)))
		}
	}
	slices.Sort(prints)
	return slices.Compact(prints)
}

func digestText(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
