package tuf

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// marks are the high-water marks: what was once verified, so that losing a file does not open the way back. They are kept
// in a file of their own, outside both slots, and never lowered but by the keys' owners.
type marks struct {
	Schema int             `json:"schema"`
	Roles  map[string]mark `json:"roles"`
}

// mark is what was verified of one role. It holds only while all of Keys still belong to the role: replacing a key is how a
// repository recovers from a thief who signed the version 2^62, or the year 2099 (the specification's fast-forward attack).
// For targets and delegated roles the version hangs on the keys of the snapshot, which is what vouches for it.
type mark struct {
	Version int64     `json:"version"`
	Issued  time.Time `json:"issued,omitzero"`
	Keys    []string  `json:"keys,omitempty"` // fingerprints
}

const marksSchema = 1

func newMarks() marks { return marks{Schema: marksSchema, Roles: map[string]mark{}} }

// sealed is the file. Unlike metadata, marks carry no signature: the digest keeps a flipped bit from becoming a version
// that no repository can reach.
type sealed struct {
	SHA256 string          `json:"sha256"`
	Marks  json.RawMessage `json:"marks"`
}

func (m marks) encode() ([]byte, error) {
	data, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return json.Marshal(sealed{SHA256: digestText(data), Marks: data})
}

func parseMarks(data []byte) (marks, error) {
	var s sealed
	if err := json.Unmarshal(data, &s); err != nil {
		return newMarks(), err
	}
	if digestText(s.Marks) != s.SHA256 {
		return newMarks(), errors.New("its digest is wrong")
	}
	var m marks
	if err := json.Unmarshal(s.Marks, &m); err != nil {
		return newMarks(), err
	}
	if m.Schema < 1 || m.Roles == nil {
		return newMarks(), fmt.Errorf("schema %d without roles", m.Schema)
	}
	for role, k := range m.Roles {
		if k.Version < 0 {
			return newMarks(), fmt.Errorf("role %.60q has version %d", role, k.Version)
		}
	}
	return m, nil
}

func (m marks) clone() marks { return marks{Schema: m.Schema, Roles: maps.Clone(m.Roles)} }

func (m marks) equal(o marks) bool {
	return maps.EqualFunc(m.Roles, o.Roles, func(a, b mark) bool {
		return a.Version == b.Version && a.Issued.Equal(b.Issued) && slices.Equal(a.Keys, b.Keys)
	})
}

// void removes what the replacement of keys in root voids, and names the roles whose stored files are void too.
func (m marks) void(root *rootMeta) (files []string) {
	if k, ok := m.Roles[roleTargets]; ok && replaced(k, root, roleTargets) {
		m.Roles[roleTargets] = mark{Version: k.Version, Keys: fingerprints(root, roleTargets)}
	}
	if replaced(m.Roles[roleTimestamp], root, roleTimestamp) {
		m.Roles[roleTimestamp] = mark{Keys: fingerprints(root, roleTimestamp)}
		files = append(files, roleTimestamp)
	}
	if !replaced(m.Roles[roleSnapshot], root, roleSnapshot) {
		return files
	}
	for role, k := range m.Roles {
		if role != roleRoot && role != roleTimestamp {
			k.Version = 0
			m.Roles[role] = k
		}
	}
	m.Roles[roleSnapshot] = mark{Keys: fingerprints(root, roleSnapshot)}
	return []string{roleTimestamp, roleSnapshot}
}

func replaced(k mark, root *rootMeta, role string) bool {
	now := fingerprints(root, role)
	return slices.ContainsFunc(k.Keys, func(key string) bool { return !slices.Contains(now, key) })
}

// raise notes what was verified of a role of root.
func (m marks) raise(root *rootMeta, role string, version int64, issued time.Time) {
	k := m.Roles[role]
	k.Version = max(k.Version, version)
	if issued.After(k.Issued) {
		k.Issued = issued.UTC()
	}
	if role != roleRoot {
		k.Keys = fingerprints(root, role)
	}
	m.Roles[role] = k
}

// raiseAll notes the versions that a verified snapshot names.
func (m marks) raiseAll(s *snapshotMeta) {
	for name, f := range s.Signed.Meta {
		role := strings.TrimSuffix(name, ".json")
		if role == roleRoot || role == roleTimestamp || role == roleSnapshot {
			continue
		}
		k := m.Roles[role]
		k.Version = max(k.Version, f.Version)
		m.Roles[role] = k
	}
}

// check refuses a version below the mark of role.
func (m marks) check(role string, version int64) error {
	if k := m.Roles[role]; version < k.Version {
		return fmt.Errorf("version %d of %s is older than version %d, which this host has verified before", version, role, k.Version)
	}
	return nil
}

// checkAll refuses a snapshot that names an older version of a role than the marks, or forgets one.
func (m marks) checkAll(s *snapshotMeta) error {
	for role, k := range m.Roles {
		if role == roleRoot || role == roleTimestamp || role == roleSnapshot || k.Version == 0 {
			continue
		}
		f := s.Signed.Meta[role+".json"]
		if f == nil {
			return fmt.Errorf("it does not name %s.json, of which this host has verified version %d before", role, k.Version)
		}
		if err := m.check(role, f.Version); err != nil {
			return err
		}
	}
	return nil
}

// Clock is the time that a decision was made by.
type Clock struct {
	System time.Time `json:"system"`
	Floor  time.Time `json:"floor"` // it is at least this late
	Now    time.Time `json:"now"`   // the later of the two
	Source string    `json:"source"`
}

// clock returns the trusted time: the system's, but not before the build nor before what verified metadata says.
func (m marks) clock(system, build time.Time) Clock {
	c := Clock{System: system, Floor: build, Now: system, Source: "the system clock"}
	why := "the build time of this image"
	for _, role := range []string{roleTimestamp, roleSnapshot, roleTargets} {
		if k := m.Roles[role]; k.Issued.After(c.Floor) {
			c.Floor, why = k.Issued, "the time that verified "+role+" metadata was issued"
		}
	}
	if c.Floor.After(system) {
		c.Now, c.Source = c.Floor, why+" (the system clock says "+utc(system)+", which is too early)"
	}
	return c
}
