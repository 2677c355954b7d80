package vmtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
)

// WriteLog is what QEMU's blklogwrites driver records of a disk, in the format of Linux's dm-log-writes: a superblock in the
// first sector, and then the entries, each a sector that describes it and the sectors that were written.
//
//	superblock   magic, version, number of entries (8 bytes each), sector size (4)
//	entry        first sector, number of sectors, flags, length of a mark (8 bytes each)
//
// All numbers are little-endian. What stands before a flush is durable; what stands behind the last one may have reached
// the disk or not, in any order, in part.
type WriteLog struct {
	f       *os.File
	sector  int64
	entries []logEntry
}

type logEntry struct {
	sector, count int64
	flags         uint64
	data          int64 // where in the log; meaningless for a flush or a discard
}

const (
	logMagic   = 0x6a736677736872
	logFlush   = 1
	logFUA     = 2
	logDiscard = 4
	logMark    = 8
)

// OpenWriteLog reads the entries of a log whose machine is off.
func OpenWriteLog(name string) (*WriteLog, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	l := &WriteLog{f: f}
	if err := l.load(); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot read the write log %s: %w", name, err)
	}
	return l, nil
}

// Close closes the file.
func (l *WriteLog) Close() error { return l.f.Close() }

// Len returns the number of entries.
func (l *WriteLog) Len() int { return len(l.entries) }

func (l *WriteLog) load() error {
	n, sector, err := readSuper(l.f)
	if err != nil {
		return err
	}
	l.sector = sector
	at := l.sector
	for range n {
		var b [32]byte
		if _, err := l.f.ReadAt(b[:], at); err != nil {
			return fmt.Errorf("entry %d: %w", len(l.entries), err)
		}
		e := logEntry{
			sector: int64(binary.LittleEndian.Uint64(b[0:])), count: int64(binary.LittleEndian.Uint64(b[8:])),
			flags: binary.LittleEndian.Uint64(b[16:]), data: at + l.sector,
		}
		if e.sector < 0 || e.count < 0 || e.count > 1<<32 {
			return fmt.Errorf("entry %d is none: %+v", len(l.entries), e)
		}
		at += l.sector
		switch {
		case e.flags&logMark != 0:
			at += (int64(binary.LittleEndian.Uint64(b[24:])) + l.sector - 1) / l.sector * l.sector
		case e.flags&logDiscard == 0:
			at += e.count * l.sector
		}
		l.entries = append(l.entries, e)
	}
	return nil
}

// readSuper returns the number of entries and the size of a sector.
func readSuper(f io.ReaderAt) (n uint64, sector int64, err error) {
	var b [28]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return 0, 0, err
	}
	if binary.LittleEndian.Uint64(b[0:]) != logMagic || binary.LittleEndian.Uint64(b[8:]) != 1 {
		return 0, 0, errors.New("it does not begin as one")
	}
	sector = int64(binary.LittleEndian.Uint32(b[24:]))
	if sector < 512 || sector > 4096 || sector&(sector-1) != 0 {
		return 0, 0, fmt.Errorf("it has sectors of %d bytes", sector)
	}
	return binary.LittleEndian.Uint64(b[16:]), sector, nil
}

// Entries returns how many entries a log has that is still written; before the first, there is nothing at all.
func Entries(name string) (int, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n, _, err := readSuper(f)
	if errors.Is(err, io.EOF) {
		return 0, nil
	}
	return int(n), err
}

// Replay is the disk of a machine that lost its power, at one moment after the other. The disk must be as it was when the
// log began.
type Replay struct {
	log     *WriteLog
	disk    *os.File
	durable int // entries that are on the disk
}

// NewReplay begins with the disk as it was.
func NewReplay(l *WriteLog, disk *os.File) *Replay { return &Replay{log: l, disk: disk} }

// CutAfter makes the disk what a cut after the first n entries may leave: what was flushed is there, and of the rest, rng
// decides for each write whether it is there, is not, or is torn between two sectors. What it returns undoes the latter,
// and must be called before the next cut, which must not be an earlier one.
func (r *Replay) CutAfter(n int, rng *rand.Rand) (undo func() error, err error) {
	if n < r.durable || n > r.log.Len() {
		return nil, fmt.Errorf("cannot cut after entry %d: %d are on the disk, %d in the log", n, r.durable, r.log.Len())
	}
	flushed := r.durable
	for i := r.durable; i < n; i++ {
		if r.log.entries[i].flags&logFlush != 0 {
			flushed = i + 1
		}
	}
	for ; r.durable < flushed; r.durable++ {
		e := r.log.entries[r.durable]
		if err := r.apply(e, 0, e.count); err != nil {
			return nil, err
		}
	}
	var old []saved
	for i := r.durable; i < n; i++ {
		e := r.log.entries[i]
		from, to := int64(0), e.count
		if e.flags&logFUA == 0 {
			from, to = fate(e.count, rng)
		}
		s, err := r.save(e, from, to)
		if err != nil {
			return nil, err
		}
		old = append(old, s)
		if err := r.apply(e, from, to); err != nil {
			return nil, err
		}
	}
	return func() error { return r.restore(old) }, nil
}

// fate says which sectors of a write that was not flushed have reached the disk.
func fate(count int64, rng *rand.Rand) (from, to int64) {
	switch rng.IntN(4) {
	case 0:
		return 0, 0
	case 1:
		return 0, rng.Int64N(count + 1)
	case 2:
		return rng.Int64N(count + 1), count
	}
	return 0, count
}

// apply writes the sectors from ≤ i < to of an entry.
func (r *Replay) apply(e logEntry, from, to int64) error {
	if from >= to || e.flags&logMark != 0 {
		return nil
	}
	data := make([]byte, (to-from)*r.log.sector)
	if e.flags&logDiscard == 0 {
		if _, err := r.log.f.ReadAt(data, e.data+from*r.log.sector); err != nil {
			return fmt.Errorf("the log ends in the middle of a write: %w", err)
		}
	}
	_, err := r.disk.WriteAt(data, (e.sector+from)*r.log.sector)
	return err
}

type saved struct {
	off  int64
	data []byte
}

func (r *Replay) save(e logEntry, from, to int64) (saved, error) {
	s := saved{(e.sector + from) * r.log.sector, make([]byte, (to-from)*r.log.sector)}
	_, err := r.disk.ReadAt(s.data, s.off)
	return s, err
}

func (r *Replay) restore(old []saved) error {
	for i := len(old) - 1; i >= 0; i-- {
		if _, err := r.disk.WriteAt(old[i].data, old[i].off); err != nil {
			return err
		}
	}
	return nil
}
