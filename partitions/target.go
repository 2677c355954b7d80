package partitions

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// target is a range of a device or file that never lets a byte outside of it be touched. It implements
// updater.TargetCloser.
//
// Direct I/O wants offsets, lengths and memory aligned. What is not goes through a bounce buffer; what begins or ends
// within a block is read, changed and written back. Where the file system cannot do direct I/O, the page cache is used,
// and Reread drops it.
type target struct {
	place
	plain   *os.File // opened without O_DIRECT: ioctls, fsync, and everything where direct I/O is not possible
	direct  *os.File // nil where it is not possible
	broken  atomic.Bool
	edge    sync.Mutex // one read-change-write at a time
	bounces sync.Pool
	onSync  func() error

	mu     sync.Mutex
	extras []*os.File // opened by Reread
}

func openTarget(at place, flags int, direct bool) (*target, error) {
	plain, err := os.OpenFile(at.path, flags, 0)
	if err != nil {
		return nil, err
	}
	t := &target{place: at, plain: plain}
	if direct && at.align > 0 {
		// Without O_EXCL: the claim of the first descriptor is ours, a second one would be refused.
		if f, err := os.OpenFile(at.path, flags&^unix.O_EXCL|unix.O_DIRECT, 0); err == nil {
			t.direct = f
		}
	}
	return t, nil
}

// Size implements image.Target.
func (t *target) Size() int64 { return t.at.Size }

// Close gives everything back. It does not sync.
func (t *target) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	errs := []error{t.plain.Close()}
	if t.direct != nil {
		errs = append(errs, t.direct.Close())
	}
	for _, f := range t.extras {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

func (t *target) readOnly() bool {
	if !t.block {
		return false
	}
	ro, err := unix.IoctlGetInt(int(t.plain.Fd()), unix.BLKROGET)
	return err == nil && ro != 0
}

// ReadAt implements io.ReaderAt.
func (t *target) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("cannot read at byte %d: before the start", off)
	}
	if off >= t.at.Size {
		return 0, io.EOF
	}
	want := min(int64(len(p)), t.at.Size-off)
	n, err := t.read(p[:want], t.at.Start+off, t.usable())
	if err == nil && int64(n) == want && want < int64(len(p)) {
		err = io.EOF
	}
	return n, err
}

// WriteAt implements io.WriterAt. It refuses what does not fit as a whole.
func (t *target) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > t.at.Size || int64(len(p)) > t.at.Size-off {
		return 0, fmt.Errorf("cannot write %d bytes at byte %d of %s: only %d bytes are ours", len(p), off, t.path, t.at.Size)
	}
	f := t.usable()
	if f == nil {
		return t.plain.WriteAt(p, t.at.Start+off)
	}
	n, err := t.writeDirect(f, p, t.at.Start+off)
	if refused(err) {
		t.broken.Store(true)
		return t.plain.WriteAt(p, t.at.Start+off)
	}
	return n, err
}

// usable returns the descriptor for direct I/O, or nil.
func (t *target) usable() *os.File {
	if t.broken.Load() {
		return nil
	}
	return t.direct
}

// refused reports that a device or file system does not do direct I/O after all; some say so only at the first read.
func refused(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)
}

func (t *target) read(p []byte, pos int64, f *os.File) (int, error) {
	if f == nil {
		return t.plain.ReadAt(p, pos)
	}
	n, err := t.readDirect(f, p, pos)
	if refused(err) {
		t.broken.Store(true)
		return t.plain.ReadAt(p, pos)
	}
	return n, err
}

// bounceSize bounds the memory of one transfer. It is a multiple of every alignment.
const bounceSize = 1 << 20

// bounce returns an aligned buffer; release gives it back. The pool holds pointers, for a slice would be allocated anew.
func (t *target) bounce() (b *[]byte, release func()) {
	b, ok := t.bounces.Get().(*[]byte)
	if !ok {
		fresh := alignedBuffer(bounceSize)
		b = &fresh
	}
	return b, func() { t.bounces.Put(b) }
}

func alignedBuffer(n int) []byte {
	b := make([]byte, n+page)
	skip := (page - int(uintptr(unsafe.Pointer(&b[0]))%page)) % page
	return b[skip : skip+n : skip+n]
}

func alignedMemory(p []byte, align int64) bool {
	return len(p) > 0 && uintptr(unsafe.Pointer(&p[0]))%uintptr(align) == 0
}

// readDirect reads p from pos, in whole blocks, through a bounce buffer where p is not aligned.
func (t *target) readDirect(f *os.File, p []byte, pos int64) (int, error) {
	align := t.align
	if pos%align == 0 && int64(len(p))%align == 0 && alignedMemory(p, align) {
		return f.ReadAt(p, pos)
	}
	b, release := t.bounce()
	defer release()
	n := 0
	for n < len(p) {
		from := pos + int64(n)
		low := from / align * align
		high := min((pos+int64(len(p))+align-1)/align*align, low+bounceSize)
		got, err := f.ReadAt((*b)[:high-low], low)
		if int64(got) > from-low {
			n += copy(p[n:], (*b)[from-low:got])
		}
		if n == len(p) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// writeDirect writes p at pos: the blocks at both ends by read, change and write, what is between as it is.
func (t *target) writeDirect(f *os.File, p []byte, pos int64) (int, error) {
	done := 0
	for done < len(p) {
		rest, at := p[done:], pos+int64(done)
		var n int
		var err error
		if in := at % t.align; in != 0 || int64(len(rest)) < t.align {
			n, err = t.writeEdge(f, rest[:min(int64(len(rest)), t.align-in)], at)
		} else {
			n, err = t.writeBlocks(f, rest[:int64(len(rest))/t.align*t.align], at)
		}
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (t *target) writeBlocks(f *os.File, p []byte, pos int64) (int, error) {
	if alignedMemory(p, t.align) {
		return f.WriteAt(p, pos)
	}
	b, release := t.bounce()
	defer release()
	n := copy(*b, p)
	return f.WriteAt((*b)[:n], pos)
}

// writeEdge changes a part of one block. The block lies within the target, because its ends are aligned.
func (t *target) writeEdge(f *os.File, p []byte, pos int64) (int, error) {
	t.edge.Lock()
	defer t.edge.Unlock()
	b, release := t.bounce()
	defer release()
	block, low := (*b)[:t.align], pos/t.align*t.align
	clear(block)
	if _, err := f.ReadAt(block, low); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	copy(block[pos-low:], p)
	if _, err := f.WriteAt(block, low); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Zero implements image.Target: the device or file system zeroes whole blocks by itself where it can; the rest is written.
func (t *target) Zero(off, n int64) error {
	if off < 0 || n < 0 || off > t.at.Size || n > t.at.Size-off {
		return fmt.Errorf("cannot zero %d bytes at byte %d of %s: only %d bytes are ours", n, off, t.path, t.at.Size)
	}
	unit := max(t.align, 512)
	low, high := (t.at.Start+off+unit-1)/unit*unit, (t.at.Start+off+n)/unit*unit
	if t.align == 0 || low >= high || t.zeroBlocks(low, high-low) != nil {
		return t.writeZeros(off, n)
	}
	if err := t.writeZeros(off, low-t.at.Start-off); err != nil {
		return err
	}
	return t.writeZeros(high-t.at.Start, off+n-(high-t.at.Start))
}

// zeroBlocks asks the device for zeros: BLKZEROOUT guarantees them (plain discard does not), and so do holes in a file.
func (t *target) zeroBlocks(pos, n int64) error {
	if t.block {
		arg := [2]uint64{uint64(pos), uint64(n)}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, t.plain.Fd(), unix.BLKZEROOUT, uintptr(unsafe.Pointer(&arg)))
		return errnoErr(errno)
	}
	return unix.Fallocate(int(t.plain.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, pos, n)
}

func errnoErr(e syscall.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

func (t *target) writeZeros(off, n int64) error {
	zeros := alignedBuffer(int(min(n, bounceSize)) + page)
	for n > 0 {
		m := min(n, bounceSize)
		if _, err := t.WriteAt(zeros[:m], off); err != nil {
			return err
		}
		off, n = off+m, n-m
	}
	return nil
}

// Sync implements image.Target. On a block device fsync also flushes the device's own cache.
func (t *target) Sync() error {
	if err := t.plain.Sync(); err != nil {
		return fmt.Errorf("cannot flush %s: %w", t.path, err)
	}
	if t.onSync != nil {
		return t.onSync()
	}
	return nil
}

// Reread implements image.Target. The reader is closed with the target.
func (t *target) Reread() (io.ReaderAt, error) {
	if err := t.Sync(); err != nil {
		return nil, err
	}
	if err := t.dropPages(); err != nil {
		return nil, err
	}
	again, err := openTarget(t.place, os.O_RDONLY, true)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s to read it back: %w", t.path, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.extras = append(t.extras, again.plain)
	if again.direct != nil {
		t.extras = append(t.extras, again.direct)
	}
	return again, nil
}

// dropPages throws away what the page cache holds of a range that is on stable storage. Where direct I/O is possible that
// only keeps other readers honest, and its failure does not matter.
func (t *target) dropPages() error {
	err := unix.Fadvise(int(t.plain.Fd()), t.at.Start, t.at.Size, unix.FADV_DONTNEED)
	if t.block {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, t.plain.Fd(), unix.BLKFLSBUF, 0)
		err = errors.Join(err, errnoErr(errno))
	}
	if err != nil && t.usable() == nil {
		return fmt.Errorf("cannot drop the page cache of %s, so that reading back would prove nothing: %w", t.path, err)
	}
	return nil
}
