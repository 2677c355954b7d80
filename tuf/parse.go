package tuf

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Short names for go-tuf's types.
type (
	rootMeta      = metadata.Metadata[metadata.RootType]
	timestampMeta = metadata.Metadata[metadata.TimestampType]
	snapshotMeta  = metadata.Metadata[metadata.SnapshotType]
	targetsMeta   = metadata.Metadata[metadata.TargetsType]
)

// Role names of the specification.
const (
	roleRoot      = metadata.ROOT
	roleTimestamp = metadata.TIMESTAMP
	roleSnapshot  = metadata.SNAPSHOT
	roleTargets   = metadata.TARGETS
)

// issuedField is the field of ours, at the top level of "signed" in timestamp, snapshot and targets, that says when the
// metadata was made: RFC 3339, UTC. It only ever moves the trusted time forward.
const issuedField = "issued"

// guard turns a panic in a parser into an error. go-tuf's parsers panic on some hostile bytes, before any signature is
// checked.
func guard(parse func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it is malformed: %v", p)
		}
	}()
	return parse()
}

func parseRoot(data []byte) (*rootMeta, error) {
	m := &rootMeta{}
	err := guard(func() error {
		if _, err := m.FromBytes(data); err != nil {
			return err
		}
		s := m.Signed
		if err := checkCommon(roleRoot, s.Type, s.SpecVersion, s.Version, s.Expires); err != nil {
			return err
		}
		for _, role := range []string{roleRoot, roleTimestamp, roleSnapshot, roleTargets} {
			if r := s.Roles[role]; r == nil || r.Threshold < 1 || len(r.KeyIDs) == 0 {
				return fmt.Errorf("its role %s has no keys or no threshold", role)
			}
		}
		return nil
	})
	return m, err
}

func parseTimestamp(data []byte) (m *timestampMeta, issued time.Time, err error) {
	m = &timestampMeta{}
	err = guard(func() error {
		if _, err := m.FromBytes(data); err != nil {
			return err
		}
		s := m.Signed
		if err := checkCommon(roleTimestamp, s.Type, s.SpecVersion, s.Version, s.Expires); err != nil {
			return err
		}
		if f := s.Meta["snapshot.json"]; f == nil || f.Version < 1 || f.Length < 0 {
			return errors.New("it does not name a version of snapshot.json")
		}
		issued, err = issuedAt(s.UnrecognizedFields, s.Expires)
		return err
	})
	return m, issued, err
}

func parseSnapshot(data []byte) (m *snapshotMeta, issued time.Time, err error) {
	m = &snapshotMeta{}
	err = guard(func() error {
		if _, err := m.FromBytes(data); err != nil {
			return err
		}
		s := m.Signed
		if err := checkCommon(roleSnapshot, s.Type, s.SpecVersion, s.Version, s.Expires); err != nil {
			return err
		}
		for name, f := range s.Meta {
			if f == nil || f.Version < 1 || f.Length < 0 || !strings.HasSuffix(name, ".json") {
				return fmt.Errorf("its entry %.100q is no metadata file with a version", name)
			}
		}
		if s.Meta["targets.json"] == nil {
			return errors.New("it does not name targets.json")
		}
		issued, err = issuedAt(s.UnrecognizedFields, s.Expires)
		return err
	})
	return m, issued, err
}

func parseTargets(data []byte) (m *targetsMeta, issued time.Time, err error) {
	m = &targetsMeta{}
	err = guard(func() error {
		if _, err := m.FromBytes(data); err != nil {
			return err
		}
		s := m.Signed
		if err := checkCommon(roleTargets, s.Type, s.SpecVersion, s.Version, s.Expires); err != nil {
			return err
		}
		for name, f := range s.Targets {
			if f == nil || f.Length < 0 {
				return fmt.Errorf("its target %.100q has no length", name)
			}
		}
		if err := checkDelegations(s.Delegations); err != nil {
			return err
		}
		issued, err = issuedAt(s.UnrecognizedFields, s.Expires)
		return err
	})
	return m, issued, err
}

func checkCommon(role, typ, spec string, version int64, expires time.Time) error {
	switch {
	case typ != role:
		return fmt.Errorf("it is of type %.40q, not %q", typ, role)
	case version < 1:
		return fmt.Errorf("its version is %d, and versions start at 1", version)
	case expires.IsZero():
		return errors.New("it does not say when it expires")
	}
	major, rest, _ := strings.Cut(spec, ".")
	if major != "1" || rest == "" {
		return fmt.Errorf("it is of specification %.40q, and this agent knows version 1", spec)
	}
	return nil
}

// checkDelegations refuses what would make the meaning of a role's name ambiguous.
func checkDelegations(d *metadata.Delegations) error {
	if d == nil {
		return nil
	}
	if d.SuccinctRoles != nil && len(d.Roles) > 0 {
		return errors.New("it delegates both to named roles and to hash bins")
	}
	seen := map[string]bool{}
	for _, r := range d.Roles {
		top := slices.Contains([]string{roleRoot, roleTimestamp, roleSnapshot, roleTargets}, r.Name)
		if r.Name == "" || top || seen[r.Name] {
			return fmt.Errorf("it delegates to a role named %.100q: empty, reserved or twice", r.Name)
		}
		if len(r.Paths) > 0 && len(r.PathHashPrefixes) > 0 {
			return fmt.Errorf("its role %.100q has both paths and path_hash_prefixes", r.Name)
		}
		seen[r.Name] = true
	}
	return nil
}

// issuedAt reads the issued field. A missing one is the zero time; one that is not before the expiry is an error.
func issuedAt(fields map[string]any, expires time.Time) (time.Time, error) {
	v, ok := fields[issuedField]
	if !ok {
		return time.Time{}, nil
	}
	s, _ := v.(string)
	issued, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("its %q field is no time: %.60q", issuedField, s)
	}
	if !issued.Before(expires) {
		return time.Time{}, fmt.Errorf("it says that it was issued at %s, and that it expired before: at %s", utc(issued), utc(expires))
	}
	return issued, nil
}
