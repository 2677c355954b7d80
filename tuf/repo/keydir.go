package repo

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/evenkeel-os/evenkeel/internal/durable"
)

// KeyDir is a directory of key files: NAME.key, encrypted, and NAME.pub for others. It implements Keyring.
type KeyDir struct {
	Dir string
	// Open decrypts a key of a role; it asks for the passphrase, and asks again when it is wrong.
	Open func(f KeyFile, role Role) (Signer, error)
	// FS is the file system. Nil: the real one, with files that only their owner can read.
	FS durable.FS

	opened map[KeyID]Signer
}

const (
	keySuffix    = ".key"
	publicSuffix = ".pub"
)

func (d *KeyDir) fs() durable.FS {
	if d.FS == nil {
		return durable.OS{}
	}
	return d.FS
}

// Path returns the path of the file of a key.
func (d *KeyDir) Path(name string) string { return filepath.Join(d.Dir, name+keySuffix) }

// Free refuses names that are taken.
func (d *KeyDir) Free(names ...string) error {
	taken, err := d.fs().List(d.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot look for keys: %w", err)
	}
	for _, name := range names {
		if slices.Contains(taken, name+keySuffix) || slices.Contains(taken, name+publicSuffix) {
			return BadInput("there is a key in %s already: a key is never overwritten", d.Path(name))
		}
	}
	return nil
}

// Save writes a new key and its public half, durably, and never over another.
func (d *KeyDir) Save(f KeyFile) error {
	if err := d.Free(f.Name); err != nil {
		return err
	}
	data, err := f.Encode()
	if err != nil {
		return fmt.Errorf("cannot save key %s: %w", f.Name, err)
	}
	public, err := f.Public.MarshalJSON()
	if err != nil {
		return fmt.Errorf("cannot save key %s: %w", f.Name, err)
	}
	if err := durable.WriteFile(d.fs(), d.Path(f.Name), data); err != nil {
		return err
	}
	return durable.WriteFile(d.fs(), filepath.Join(d.Dir, f.Name+publicSuffix), append(public, '\n'))
}

// Files returns all keys in the directory, by name. A directory that does not exist is empty.
func (d *KeyDir) Files() ([]KeyFile, error) {
	names, err := d.fs().List(d.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot look for keys: %w", err)
	}
	slices.Sort(names)
	var files []KeyFile
	for _, name := range names {
		if !strings.HasSuffix(name, keySuffix) {
			continue
		}
		f, err := d.Read(filepath.Join(d.Dir, name))
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// Read reads one key file, in the directory or not.
func (d *KeyDir) Read(path string) (KeyFile, error) {
	data, err := d.fs().ReadFile(path)
	if err != nil {
		return KeyFile{}, fmt.Errorf("cannot read key: %w", err)
	}
	f, err := ParseKeyFile(data)
	if err != nil {
		return KeyFile{}, fmt.Errorf("cannot use %s: %w", path, err)
	}
	return f, nil
}

// Signer decrypts a key, once.
func (d *KeyDir) Signer(f KeyFile, role Role) (Signer, error) {
	if s, ok := d.opened[f.ID]; ok {
		return s, nil
	}
	s, err := d.Open(f, role)
	if err != nil {
		return Signer{}, err
	}
	d.Add(s)
	return s, nil
}

// Add makes a key available that is open already.
func (d *KeyDir) Add(s Signer) {
	if d.opened == nil {
		d.opened = map[KeyID]Signer{}
	}
	d.opened[s.Public.ID] = s
}

// Signers implements Keyring. It decrypts no more keys than are needed, and prefers those that are open.
func (d *KeyDir) Signers(role Role, ids []KeyID, need int) ([]Signer, error) {
	var signers []Signer
	for _, id := range ids {
		if s, ok := d.opened[id]; ok && len(signers) < need {
			signers = append(signers, s)
		}
	}
	if len(signers) >= need {
		return signers, nil
	}
	files, err := d.Files()
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if _, open := d.opened[f.ID]; open || !slices.Contains(ids, f.ID) || len(signers) >= need {
			continue
		}
		s, err := d.Signer(f, role)
		if err != nil {
			return nil, err
		}
		signers = append(signers, s)
	}
	if len(signers) < need {
		return nil, fmt.Errorf("%w: role %s needs %s of %s, and there are %d in %s: say where they are",
			ErrKey, role, plural(need, "key"), shortIDs(ids), len(signers), d.Dir)
	}
	return signers, nil
}
