package repo

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/internal/durable"
)

// Errors that callers tell apart.
var (
	// ErrInvalid says that what is published, or about to be, is not what a host would accept.
	ErrInvalid = errors.New("the repository is not valid")
	// ErrUnsigned says that signatures are outstanding.
	ErrUnsigned = errors.New("signatures are outstanding")
	// ErrKey says that a key may not sign what it was asked to.
	ErrKey = errors.New("key refused")
	// ErrInput says that what the caller asked for makes no sense.
	ErrInput = errors.New("bad input")
)

// BadInput returns an error that is ErrInput without saying so: the text tells enough.
func BadInput(format string, args ...any) error { return inputError{fmt.Errorf(format, args...)} }

type inputError struct{ error }

func (e inputError) Unwrap() []error { return []error{ErrInput, e.error} }

// FS is the file system that holds a repository.
type FS interface {
	durable.FS
	// OpenRead opens a file that need not be writable, or fails with fs.ErrNotExist.
	OpenRead(name string) (durable.Reader, error)
}

// Options says where a repository is and what it works with.
type Options struct {
	// Dir is the directory of the repository.
	Dir string
	// FS is the file system. Nil: the real one.
	FS FS
	// Now is the clock. Nil: the system's.
	Now func() time.Time
	// Lifetimes says how long new metadata of a role is valid; roles that are absent have DefaultLifetime.
	Lifetimes map[Role]time.Duration
	// Lock keeps other publishers out until unlock is called. Nil: a lock file in staged/, on the real file system.
	Lock func() (unlock func(), err error)
	// Build says how images are cut and compressed.
	Build image.BuildOptions
	// Say is told what takes long. Nil: nobody.
	Say func(what string)
}

// Repository is one repository. Its methods are not for concurrent use; other processes are kept out by the lock.
type Repository struct {
	o Options
}

// New returns the repository in o.Dir. It reads nothing yet.
func New(o Options) *Repository {
	if o.FS == nil {
		o.FS = durable.Public{}
		if o.Lock == nil {
			o.Lock = lockFile(o.Dir)
		}
	}
	if o.Lock == nil {
		o.Lock = func() (func(), error) { return func() {}, nil }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Say == nil {
		o.Say = func(string) {}
	}
	return &Repository{o: o}
}

// Dir returns the directory of the repository.
func (r *Repository) Dir() string { return r.o.Dir }

func lockFile(dir string) func() (func(), error) {
	return func() (func(), error) {
		if err := makeStaged(dir); err != nil {
			return nil, fmt.Errorf("cannot lock the repository: %w", err)
		}
		l, err := durable.Lock(filepath.Join(dir, stagedDir, "lock"))
		if err != nil {
			return nil, err
		}
		return func() { _ = l.Unlock() }, nil
	}
}

// makeStaged makes the staging area on the real file system, private: what is staged is nobody's business yet.
func makeStaged(dir string) error {
	if err := (durable.Public{}).MkdirAll(dir); err != nil {
		return err
	}
	return durable.OS{}.MkdirAll(filepath.Join(dir, stagedDir))
}

// Names of directories in a repository.
const (
	metadataDir = "metadata"
	targetsDir  = "targets"
	stagedDir   = "staged"
)

// at turns a slash-separated path in the repository into one of the file system.
func (r *Repository) at(parts ...string) string {
	return filepath.Join(r.o.Dir, filepath.FromSlash(path.Join(parts...)))
}

func (r *Repository) now() time.Time { return r.o.Now().UTC().Truncate(time.Second) }

func (r *Repository) expires(role Role, now time.Time) time.Time {
	life := r.o.Lifetimes[role]
	if life == 0 {
		life = DefaultLifetime(role)
	}
	return now.Add(life).Truncate(time.Second)
}

// published returns the name of a role's metadata file below metadata/.
func metadataName(role Role, version int64) string {
	if role == RoleTimestamp {
		return "timestamp.json"
	}
	return fmt.Sprintf("%d.%s.json", version, role)
}

// targetPath returns where the target with this name and digest is, below targets/ or staged/targets/.
func targetPath(name, sha256 string) string {
	return path.Join(path.Dir(name), sha256+"."+path.Base(name))
}

// exists reports whether there is a file.
func (r *Repository) exists(parts ...string) (bool, error) {
	name := r.at(parts...)
	names, err := r.o.FS.List(filepath.Dir(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot look for %s: %w", name, err)
	}
	return slices.Contains(names, filepath.Base(name)), nil
}

// Problem is something wrong, and where.
type Problem struct {
	Where string `json:"where"` // a path in the repository, or a role
	What  string `json:"what"`
	Hint  string `json:"hint,omitempty"`
}

func (p Problem) Error() string {
	s := p.Where + ": " + p.What
	if p.Hint != "" {
		s += ": " + p.Hint
	}
	return s
}

// Unwrap makes errors.Is(p, ErrInvalid) true.
func (p Problem) Unwrap() error { return ErrInvalid }

// plural returns "1 thing" or "n things".
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	if strings.HasSuffix(thing, "x") {
		thing += "e"
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
