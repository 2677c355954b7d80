package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
)

// BuildOptions say how Build cuts and compresses. The zero value is a good choice.
type BuildOptions struct {
	SegmentSize int // bytes, a power of two from MinSize to MaxSize; 0: DefaultSize
	FrameSize   int // likewise
	Level       int // of compression, 1 to 22 as the zstd program counts; 0: the best
	Workers     int // how many frames are compressed at a time; 0: 2. It does not change the result
}

const bestLevel = 22

// Build reads an image to its end, writes its pack, and returns its index. The same image, the same options and the same
// version of this program make the same bytes. Memory is a few segments or frames, whatever the size of the image.
func Build(ctx context.Context, src io.Reader, pack io.Writer, o BuildOptions) (*Index, error) {
	ix, err := build(ctx, src, pack, o.withDefaults())
	if err != nil {
		return nil, fmt.Errorf("cannot build image: %w", err)
	}
	return ix, nil
}

func (o BuildOptions) withDefaults() BuildOptions {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&o.SegmentSize, DefaultSize)
	set(&o.FrameSize, DefaultSize)
	set(&o.Level, bestLevel)
	set(&o.Workers, 2)
	return o
}

func (o BuildOptions) check() error {
	if o.Level < 1 || o.Level > bestLevel {
		return fmt.Errorf("compression level %d is not possible: use 1 to %d", o.Level, bestLevel)
	}
	if o.Workers < 1 {
		return fmt.Errorf("%d workers are not possible: use at least 1", o.Workers)
	}
	return errors.Join(checkSize("segment", int64(o.SegmentSize)), checkSize("frame", int64(o.FrameSize)))
}

// encoder makes frames that one call decodes: with their content size, and a window no larger than the frame.
func (o BuildOptions) encoder() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(o.Level)),
		zstd.WithEncoderConcurrency(o.Workers),
		zstd.WithWindowSize(o.FrameSize),
		zstd.WithSingleSegment(true), // else frames below 256 bytes do not tell their size
		zstd.WithEncoderCRC(true))    // for the zstd program; we have something better
}

func build(ctx context.Context, src io.Reader, pack io.Writer, o BuildOptions) (*Index, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	enc, err := o.encoder()
	if err != nil {
		return nil, err
	}
	defer enc.Close()
	b := &builder{
		ix:  &Index{segment: int64(o.SegmentSize), frame: int64(o.FrameSize), frames: []int64{0}},
		enc: enc, src: src, pack: pack, whole: sha256.New(),
	}
	chunks := make([]chunk, o.Workers+2)
	if err := ordered(ctx, chunks, o.Workers, b.read, b.compress, b.write); err != nil {
		return nil, err
	}
	return b.finish()
}

type builder struct {
	ix    *Index
	enc   *zstd.Encoder
	src   io.Reader
	pack  io.Writer
	whole hash.Hash
}

// chunk is as much of an image as holds whole segments and whole frames.
type chunk struct {
	raw      []byte
	segments []segment
	packed   bytes.Buffer
	lengths  []int64 // of the frames in packed
}

func (b *builder) read(_ context.Context, c *chunk) (bool, error) {
	if c.raw == nil {
		c.raw = make([]byte, b.ix.chunk())
	}
	n, err := io.ReadFull(b.src, c.raw[:b.ix.chunk()])
	c.raw = c.raw[:n]
	b.whole.Write(c.raw)
	b.ix.size += int64(n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return n > 0, err
}

func (b *builder) compress(_ context.Context, c *chunk) error {
	c.segments, c.lengths = c.segments[:0], c.lengths[:0]
	c.packed.Reset()
	for rest := range cut(c.raw, b.ix.segment) {
		c.segments = append(c.segments, describe(rest))
	}
	for rest := range cut(c.raw, b.ix.frame) {
		packed := b.enc.EncodeAll(rest, c.packed.AvailableBuffer())
		c.packed.Write(packed)
		c.lengths = append(c.lengths, int64(len(packed)))
	}
	return nil
}

// cut yields b in pieces.
func cut(b []byte, piece int64) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			n := min(int64(len(b)), piece)
			if !yield(b[:n]) {
				return
			}
			b = b[n:]
		}
	}
}

func (b *builder) write(c *chunk) error {
	b.ix.segments = append(b.ix.segments, c.segments...)
	for _, n := range c.lengths {
		b.ix.frames = append(b.ix.frames, b.ix.PackSize()+n)
	}
	_, err := b.pack.Write(c.packed.Bytes())
	return err
}

// finish checks what was built in the way that hosts will.
func (b *builder) finish() (*Index, error) {
	b.whole.Sum(b.ix.sum[:0])
	if b.ix.size == 0 {
		return nil, errors.New("it is empty")
	}
	return ParseIndex(b.ix.Bytes())
}
