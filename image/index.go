package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// MinSize and MaxSize bound segments and frames, in bytes.
	MinSize = 64 << 10
	MaxSize = 4 << 20

	// DefaultSize is the size of segments and frames unless the publisher says otherwise.
	DefaultSize = 1 << 20

	// MaxIndexSize bounds an index, in bytes: enough for 380 GiB in segments of 1 MiB.
	MaxIndexSize = 16 << 20

	magic       = "EVKINDEX"
	version     = 1
	headerSize  = 64
	segmentSize = sha256.Size + hintSize
	lengthSize  = 4
	hintSize    = 8
	hintSpan    = 4096
	maxImage    = 1 << 48
)

type (
	digest [sha256.Size]byte
	hint   [hintSize]byte
)

// Index is the signed authority over one image: its size, its digest, and the digest of each of its segments. It does
// not change once it is made.
type Index struct {
	size           int64
	sum            digest
	segment, frame int64
	segments       []segment
	frames         []int64 // where each frame begins in the pack, and where the last one ends
}

// segment is what the index says of one segment. The zero value: it is all zeros.
type segment struct {
	sum  digest
	hint hint
}

// Size is the size of the image in bytes.
func (ix *Index) Size() int64 { return ix.size }

// SHA256 is the digest of the whole image.
func (ix *Index) SHA256() [32]byte { return ix.sum }

// SegmentSize is the size of all segments but perhaps the last, in bytes.
func (ix *Index) SegmentSize() int { return int(ix.segment) }

// FrameSize is how many bytes of the image a frame of the pack holds; the last one may hold fewer.
func (ix *Index) FrameSize() int { return int(ix.frame) }

// Segments is how many segments the image has.
func (ix *Index) Segments() int { return len(ix.segments) }

// Frames is how many frames the pack has.
func (ix *Index) Frames() int { return len(ix.frames) - 1 }

// Segment returns where segment seg lies in the image.
func (ix *Index) Segment(seg int) (off, n int64) { return span(seg, ix.segment, ix.size) }

// Zero reports whether segment seg is all zeros.
func (ix *Index) Zero(seg int) bool { return ix.segments[seg] == segment{} }

// Frame returns where frame lies in the pack.
func (ix *Index) Frame(frame int) (off, n int64) {
	return ix.frames[frame], ix.frames[frame+1] - ix.frames[frame]
}

// PackSize is the size of the pack in bytes.
func (ix *Index) PackSize() int64 { return ix.frames[len(ix.frames)-1] }

// MaxFrame is the longest that a frame of n bytes may be in the pack: what zstd needs for bytes it cannot compress.
func MaxFrame(n int64) int64 { return n + n>>8 + 64 }

// span returns the place of piece i when size bytes are cut into pieces.
func span(i int, piece, size int64) (off, n int64) {
	off = int64(i) * piece
	return off, min(piece, size-off)
}

// pieces is how many pieces size bytes are cut into.
func pieces(size, piece int64) int64 { return (size + piece - 1) / piece }

// right reports whether b is what the index says of segment seg.
func (ix *Index) right(seg int, b []byte) bool {
	if _, n := ix.Segment(seg); int64(len(b)) != n {
		return false
	}
	if ix.Zero(seg) {
		return allZero(b)
	}
	return sha256.Sum256(b) == ix.segments[seg].sum
}

// mayBeRight reports whether a segment that begins with head may be right; false is certain. head is at least the part of
// the segment that hints cover.
func (ix *Index) mayBeRight(seg int, head []byte) bool {
	_, n := ix.Segment(seg)
	head = head[:min(n, hintSpan)]
	if ix.Zero(seg) {
		return allZero(head)
	}
	return hintOf(head) == ix.segments[seg].hint
}

func hintOf(b []byte) hint {
	sum := sha256.Sum256(b[:min(len(b), hintSpan)])
	return hint(sum[:hintSize])
}

func allZero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}

// describe returns what an index says of a segment that holds b.
func describe(b []byte) segment {
	if allZero(b) {
		return segment{}
	}
	return segment{sum: sha256.Sum256(b), hint: hintOf(b)}
}

// Bytes returns the encoding of the index, as the package comment describes it.
func (ix *Index) Bytes() []byte {
	le := binary.LittleEndian
	b := make([]byte, 0, headerSize+len(ix.segments)*segmentSize+ix.Frames()*lengthSize)
	b = append(b, magic...)
	b = le.AppendUint32(b, version)
	b = le.AppendUint32(b, uint32(ix.segment))
	b = le.AppendUint32(b, uint32(ix.frame))
	b = le.AppendUint32(b, 0)
	b = le.AppendUint64(b, uint64(ix.size))
	b = append(b, ix.sum[:]...)
	for _, s := range ix.segments {
		b = append(b, s.sum[:]...)
		b = append(b, s.hint[:]...)
	}
	for i := range ix.Frames() {
		_, n := ix.Frame(i)
		b = le.AppendUint32(b, uint32(n))
	}
	return b
}

// ParseIndex reads an index. It does not keep data. The caller has verified that data is what the publisher signed;
// ParseIndex takes nothing for granted all the same.
func ParseIndex(data []byte) (*Index, error) {
	ix, err := parseIndex(data)
	if err != nil {
		return nil, fmt.Errorf("cannot read image index: %w", err)
	}
	return ix, nil
}

func parseIndex(data []byte) (*Index, error) {
	ix, err := parseHeader(data)
	if err != nil {
		return nil, err
	}
	segments, frames := pieces(ix.size, ix.segment), pieces(ix.size, ix.frame)
	if want := headerSize + segments*segmentSize + frames*lengthSize; int64(len(data)) != want {
		return nil, fmt.Errorf("it has %d bytes, but an image of %d bytes takes %d", len(data), ix.size, want)
	}
	rest := data[headerSize:]
	ix.segments = make([]segment, segments)
	for i := range ix.segments {
		s := &ix.segments[i]
		rest = rest[copy(s.sum[:], rest):]
		rest = rest[copy(s.hint[:], rest):]
		if s.sum == (digest{}) && s.hint != (hint{}) {
			return nil, fmt.Errorf("segment %d is marked as zeros, but has a hint", i)
		}
	}
	return ix, ix.parseFrames(rest, int(frames))
}

func parseHeader(data []byte) (*Index, error) {
	if len(data) > MaxIndexSize {
		return nil, fmt.Errorf("it has %d bytes, more than the %d that are allowed", len(data), MaxIndexSize)
	}
	if len(data) < headerSize || string(data[:len(magic)]) != magic {
		return nil, fmt.Errorf("it is no index: it does not begin with a header and %q", magic)
	}
	le := binary.LittleEndian
	if v := le.Uint32(data[8:]); v != version {
		return nil, fmt.Errorf("its format is version %d, this program reads version %d: update in smaller steps", v, version)
	}
	ix := &Index{segment: int64(le.Uint32(data[12:])), frame: int64(le.Uint32(data[16:])), sum: digest(data[32:])}
	if err := errors.Join(checkSize("segment", ix.segment), checkSize("frame", ix.frame)); err != nil {
		return nil, err
	}
	if v := le.Uint32(data[20:]); v != 0 {
		return nil, fmt.Errorf("bytes 20 to 23 are %#x, not zero", v)
	}
	size := le.Uint64(data[24:])
	if size == 0 || size > maxImage {
		return nil, fmt.Errorf("an image of %d bytes is not possible: 1 to %d are", size, uint64(maxImage))
	}
	ix.size = int64(size)
	return ix, nil
}

func checkSize(what string, n int64) error {
	if n < MinSize || n > MaxSize || n&(n-1) != 0 {
		return fmt.Errorf("a %s size of %d bytes is not possible: use a power of two from %d to %d", what, n, MinSize, MaxSize)
	}
	return nil
}

func (ix *Index) parseFrames(lengths []byte, count int) error {
	ix.frames = make([]int64, 1, count+1)
	for i := range count {
		_, plain := span(i, ix.frame, ix.size)
		n := int64(binary.LittleEndian.Uint32(lengths[i*lengthSize:]))
		if n == 0 || n > MaxFrame(plain) {
			return fmt.Errorf("frame %d has %d bytes in the pack: 1 to %d are possible", i, n, MaxFrame(plain))
		}
		ix.frames = append(ix.frames, ix.PackSize()+n)
	}
	return nil
}

// chunk is the size of the smallest piece of the image that holds whole segments and whole frames.
func (ix *Index) chunk() int64 { return max(ix.segment, ix.frame) }
