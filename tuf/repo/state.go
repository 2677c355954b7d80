package repo

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// state is what is published, every signature and digest of metadata checked. Expiry is not looked at: a publisher must be
// able to renew what has expired.
type state struct {
	roots     [][]byte // of version 1, 2, ...
	root      *rootMeta
	timestamp *timestampMeta
	snapshot  *snapshotMeta
	targets   map[Role]*targetsMeta // targets and what it delegates to
	data      map[Role][]byte       // of the files above, as they are
}

// load reads what is published. A repository that was never published, or only its root, is no error.
func (r *Repository) load() (*state, error) {
	s := &state{targets: map[Role]*targetsMeta{}, data: map[Role][]byte{}}
	if err := r.loadRoots(s); err != nil {
		return nil, err
	}
	if s.root == nil {
		return s, nil
	}
	done, err := r.loadTimestamp(s)
	if err != nil || !done {
		return s, err
	}
	if err := r.loadSnapshot(s); err != nil {
		return nil, err
	}
	for name := range s.snapshot.Signed.Meta {
		if err := r.loadTargets(s, Role(strings.TrimSuffix(name, ".json"))); err != nil {
			return nil, err
		}
	}
	return s, r.checkDelegated(s)
}

func (r *Repository) loadRoots(s *state) error {
	for n := int64(1); ; n++ {
		name := path.Join(metadataDir, metadataName(RoleRoot, n))
		data, err := r.o.FS.ReadFile(r.at(name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot read the repository: %w", err)
		}
		next, err := verifyRoot(s.root, data)
		if err == nil && next.Signed.Version != n {
			err = fmt.Errorf("it is version %d", next.Signed.Version)
		}
		if err != nil {
			return Problem{Where: name, What: err.Error(), Hint: "restore it from a copy"}
		}
		s.root, s.roots = next, append(s.roots, data)
		s.data[RoleRoot] = data
	}
}

// verifyRoot accepts a root that is signed by itself and by its predecessor, if there is one.
func verifyRoot(before *rootMeta, data []byte) (*rootMeta, error) {
	next, err := parse[rootType](data, string(RoleRoot))
	if err != nil {
		return nil, err
	}
	e, err := parseEnvelope(data)
	if err != nil {
		return nil, err
	}
	if err := e.enough(rootAuthority(next, RoleRoot)); err != nil {
		return nil, err
	}
	if before != nil {
		if err := e.enough(rootAuthority(before, RoleRoot)); err != nil {
			return nil, fmt.Errorf("by the keys of version %d, %w", before.Signed.Version, err)
		}
	}
	return next, nil
}

func (r *Repository) loadTimestamp(s *state) (done bool, err error) {
	name := path.Join(metadataDir, metadataName(RoleTimestamp, 0))
	data, err := r.o.FS.ReadFile(r.at(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot read the repository: %w", err)
	}
	m, err := parse[timestampType](data, string(RoleTimestamp))
	if err == nil && m.Signed.Meta["snapshot.json"] == nil {
		err = errors.New("it names no snapshot")
	}
	if err == nil {
		err = signedEnough(data, rootAuthority(s.root, RoleTimestamp))
	}
	if err != nil {
		return false, Problem{Where: name, What: err.Error(), Hint: "restore it from a copy"}
	}
	s.timestamp, s.data[RoleTimestamp] = m, data
	return true, nil
}

func (r *Repository) loadSnapshot(s *state) error {
	want := s.timestamp.Signed.Meta["snapshot.json"]
	name := path.Join(metadataDir, metadataName(RoleSnapshot, want.Version))
	data, err := r.readMeta(name)
	if err != nil {
		return err
	}
	m, err := parse[snapshotType](data, string(RoleSnapshot))
	if err == nil {
		err = want.VerifyLengthHashes(data)
	}
	if err == nil && m.Signed.Version != want.Version {
		err = fmt.Errorf("it is version %d", m.Signed.Version)
	}
	if err == nil {
		err = signedEnough(data, rootAuthority(s.root, RoleSnapshot))
	}
	for file, f := range snapshotEntries(m) {
		if err == nil && (f == nil || !strings.HasSuffix(file, ".json")) {
			err = fmt.Errorf("its entry %.100q is no metadata file", file)
		}
	}
	if err != nil {
		return Problem{Where: name, What: err.Error(), Hint: "restore it from a copy"}
	}
	s.snapshot, s.data[RoleSnapshot] = m, data
	return nil
}

// readMeta reads a metadata file that others name: its absence is a problem of the repository.
func (r *Repository) readMeta(name string) ([]byte, error) {
	data, err := r.o.FS.ReadFile(r.at(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Problem{Where: name, What: "it is missing", Hint: "restore it from a copy"}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the repository: %w", err)
	}
	return data, nil
}

func (r *Repository) loadTargets(s *state, role Role) error {
	want := s.snapshot.Signed.Meta[string(role)+".json"]
	name := path.Join(metadataDir, metadataName(role, want.Version))
	data, err := r.readMeta(name)
	if err != nil {
		return err
	}
	m, err := parseTargets(data)
	if err == nil {
		err = want.VerifyLengthHashes(data)
	}
	if err == nil && m.Signed.Version != want.Version {
		err = fmt.Errorf("it is version %d", m.Signed.Version)
	}
	if err == nil && role == RoleTargets {
		err = signedEnough(data, rootAuthority(s.root, role))
	}
	if err != nil {
		return Problem{Where: name, What: err.Error(), Hint: "restore it from a copy"}
	}
	s.targets[role], s.data[role] = m, data
	return nil
}

// checkDelegated checks the signatures of delegated roles, when all of them are read.
func (r *Repository) checkDelegated(s *state) error {
	top := s.targets[RoleTargets]
	if top == nil {
		return Problem{Where: path.Join(metadataDir, metadataName(RoleSnapshot, s.snapshot.Signed.Version)), What: "it does not name targets.json"}
	}
	for role, m := range s.targets {
		if role == RoleTargets {
			continue
		}
		if err := signedEnough(s.data[role], delegatedAuthority(top, role)); err != nil {
			return Problem{Where: path.Join(metadataDir, metadataName(role, m.Signed.Version)), What: err.Error()}
		}
	}
	return nil
}

func snapshotEntries(m *snapshotMeta) map[string]*metaFiles {
	if m == nil {
		return nil
	}
	return m.Signed.Meta
}

func signedEnough(data []byte, a authority) error {
	e, err := parseEnvelope(data)
	if err != nil {
		return err
	}
	return e.enough(a)
}

// published reports whether there is a repository that clients can use.
func (s *state) published() bool { return s.timestamp != nil }

// version returns the published version of a role, or 0.
func (s *state) version(role Role) int64 {
	switch {
	case role == RoleRoot && s.root != nil:
		return s.root.Signed.Version
	case role == RoleTimestamp && s.timestamp != nil:
		return s.timestamp.Signed.Version
	case role == RoleSnapshot && s.snapshot != nil:
		return s.snapshot.Signed.Version
	case s.targets[role] != nil:
		return s.targets[role].Signed.Version
	}
	return 0
}

// header returns the header of a published role.
func (s *state) header(role Role) (header, bool) {
	e, err := parseEnvelope(s.data[role])
	if err != nil {
		return header{}, false
	}
	h, err := e.header()
	return h, err == nil
}

// newestIssued returns the latest time at which anything published says that it was made.
func (s *state) newestIssued() (newest time.Time) {
	for role := range s.data {
		if h, ok := s.header(role); ok && h.Issued.After(newest) {
			newest = h.Issued
		}
	}
	return newest
}

// clockSane refuses a clock that would make metadata older than what is published.
func (r *Repository) clockSane(s *state, now time.Time) error {
	if newest := s.newestIssued(); now.Before(newest) {
		return BadInput("this machine's clock says %s, but the repository was changed at %s: set the clock",
			now.Format(time.RFC3339), newest.Format(time.RFC3339))
	}
	return nil
}

// roles returns the roles that are published, in the order of Roles, then any others by name.
func (s *state) roles() []Role {
	var others []Role
	for role := range s.data {
		if _, ok := factsOf(role); !ok {
			others = append(others, role)
		}
	}
	slices.Sort(others)
	known := slices.DeleteFunc(Roles(), func(role Role) bool { return s.data[role] == nil })
	return append(known, others...)
}
