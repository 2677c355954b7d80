package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
)

// tempMark stands in the name of every file that WriteFile has not finished.
const tempMark = ".unfinished-"

// WriteFile replaces the content of path by data. After a power cut at any moment the file holds the old bytes or the new
// ones; once WriteFile returned nil it holds the new ones. Its directory is made if it does not exist.
func WriteFile(fsys FS, path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := fsys.MkdirAll(dir); err != nil {
		return fmt.Errorf("cannot save %s: %w", path, err)
	}
	temp := filepath.Join(dir, "."+filepath.Base(path)+tempMark+unique())
	err := writeSynced(fsys, temp, data)
	if err == nil {
		err = fsys.Rename(temp, path)
	}
	if err != nil {
		// What cannot be removed now is removed by the next Sweep.
		_ = fsys.Remove(temp)
		return fmt.Errorf("cannot save %s: %w", path, err)
	}
	if err := fsys.SyncDir(dir); err != nil {
		return fmt.Errorf("cannot save %s: its directory cannot be synced: %w", path, err)
	}
	return nil
}

func writeSynced(fsys FS, path string, data []byte) error {
	f, err := fsys.Create(path)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		// Without this, ext4 and others may make the new name durable before the bytes, and a power cut leaves an
		// empty file where the old one was.
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// Sweep removes what WriteFile calls left unfinished in dir when the power was cut. The caller holds the lock that keeps
// other writers out.
func Sweep(fsys FS, dir string) error {
	names, err := fsys.List(dir)
	if err != nil {
		return fmt.Errorf("cannot look for unfinished files: %w", err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, ".") && strings.Contains(name, tempMark) {
			if err := fsys.Remove(filepath.Join(dir, name)); err != nil {
				return fmt.Errorf("cannot remove unfinished file: %w", err)
			}
		}
	}
	return nil
}

// Remove removes a file durably. A file that does not exist is no error.
func Remove(fsys FS, path string) error {
	if err := fsys.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove %s: %w", path, err)
	}
	return fsys.SyncDir(filepath.Dir(path))
}

// unique keeps two writers of the same file from sharing a temporary file, which one of them could rename while the
// other is still writing it.
func unique() string { return strconv.FormatUint(rand.Uint64(), 36) }
