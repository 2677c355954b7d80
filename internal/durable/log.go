package durable

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"sync"
	"syscall"
)

// Log is an append-only log of JSON values that is bounded in size. It lives in two files, PATH and the older PATH.1; each
// entry is one line,
//
//	CRC-32C of the JSON, 8 hex digits | space | JSON without newlines | newline
//
// so that a torn, doubled or zero-filled end is told from an entry and skipped. When PATH reaches half of the bound it
// becomes PATH.1, and the old PATH.1 is gone. On a full disk the oldest entries make room for the newest: the log forgets,
// it does not fail.
//
// A Log may be used by several goroutines. One process writes; any process may read at the same time.
type Log struct {
	fs   FS
	path string
	half int64

	mu sync.Mutex
}

// maxEntry bounds a line, so that one entry cannot push out all others.
const maxEntry = 64 << 10

// NewLog returns the log at path, bounded to max bytes for both files together. It touches nothing; a log that was never
// written is empty.
func NewLog(fsys FS, path string, maxBytes int64) *Log {
	return &Log{fs: fsys, path: path, half: max(maxBytes/2, maxEntry)}
}

// Append adds v, encoded as JSON, and returns when it is durable.
func (l *Log) Append(v any) error {
	line, err := encodeEntry(v)
	if err != nil {
		return fmt.Errorf("cannot write to %s: %w", l.path, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	err = l.append(line)
	if errors.Is(err, syscall.ENOSPC) {
		err = l.makeRoom(line)
	}
	if err != nil {
		return fmt.Errorf("cannot write to %s: %w", l.path, err)
	}
	return nil
}

// Entries returns the JSON of every readable entry, oldest first. A log that does not exist is empty.
func (l *Log) Entries() ([]json.RawMessage, error) {
	var all []json.RawMessage
	for _, path := range []string{l.old(), l.path} {
		data, err := l.fs.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return all, fmt.Errorf("cannot read %s: %w", path, err)
		}
		for line := range bytes.SplitSeq(data, []byte{'\n'}) {
			if entry, ok := decodeEntry(line); ok {
				all = append(all, entry)
			}
		}
	}
	return all, nil
}

func (l *Log) old() string { return l.path + ".1" }

func (l *Log) append(line []byte) error {
	if err := l.fs.MkdirAll(filepath.Dir(l.path)); err != nil {
		return err
	}
	size, err := l.add(line)
	if err != nil || size < l.half {
		return err
	}
	if err := l.fs.Rename(l.path, l.old()); err != nil {
		return err
	}
	return l.fs.SyncDir(filepath.Dir(l.path))
}

// add writes line at the end of the file and returns its new size.
func (l *Log) add(line []byte) (int64, error) {
	f, err := l.fs.Open(l.path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	if !endsLine(f, size) {
		// A torn entry must not swallow this one.
		line = append([]byte{'\n'}, line...)
	}
	if _, err := f.WriteAt(line, size); err != nil {
		_ = f.Truncate(size)
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	if size == 0 {
		return int64(len(line)), l.fs.SyncDir(filepath.Dir(l.path))
	}
	return size + int64(len(line)), nil
}

func endsLine(f File, size int64) bool {
	var last [1]byte
	if size == 0 {
		return true
	}
	_, err := f.ReadAt(last[:], size-1)
	return err == nil && last[0] == '\n'
}

// makeRoom appends line to a log on a full disk: first the older file goes, then the older half of the newer one, whose
// blocks are written in place because there are no others to be had.
func (l *Log) makeRoom(line []byte) error {
	if err := Remove(l.fs, l.old()); err != nil {
		return err
	}
	err := l.append(line)
	if !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	f, err := l.fs.Open(l.path)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := l.fs.ReadFile(l.path)
	if err != nil {
		return err
	}
	data = append(newest(data, max(0, len(data)/2-len(line))), line...)
	if _, err := f.WriteAt(data, 0); err != nil {
		return err
	}
	if err := f.Truncate(int64(len(data))); err != nil {
		return err
	}
	return f.Sync()
}

// newest returns the last whole lines of data that fit n bytes, as a copy.
func newest(data []byte, n int) []byte {
	if len(data) == 0 || data[len(data)-1] != '\n' {
		data = append(bytes.Clone(data), '\n')
	}
	if n >= len(data) {
		return bytes.Clone(data)
	}
	tail := data[len(data)-n:]
	if i := bytes.IndexByte(tail, '\n'); i >= 0 && data[len(data)-n-1] != '\n' {
		tail = tail[i+1:]
	}
	return bytes.Clone(tail)
}

func encodeEntry(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(data) > maxEntry {
		return nil, fmt.Errorf("the entry has %d bytes, more than the %d that one may have", len(data), maxEntry)
	}
	return fmt.Appendf(nil, "%08x %s\n", checksum(data), data), nil
}

func decodeEntry(line []byte) (json.RawMessage, bool) {
	sum, data, ok := bytes.Cut(line, []byte{' '})
	if !ok || len(sum) != 8 || string(sum) != fmt.Sprintf("%08x", checksum(data)) || !json.Valid(data) {
		return nil, false
	}
	return json.RawMessage(bytes.Clone(data)), true
}

func checksum(data []byte) uint32 {
	return crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
}
