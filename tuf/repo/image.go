package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/release"
)

// checkIndex wants an index to be of the image that a release names.
func checkIndex(data []byte, im release.Image) error {
	ix, err := image.ParseIndex(data)
	if err != nil {
		return err
	}
	if ix.Size() != im.Size || release.Digest(ix.SHA256()) != im.SHA256 {
		return fmt.Errorf("the index is of %d bytes with SHA-256 %s, not of %d bytes with %s: did the image change meanwhile?",
			ix.Size(), release.Digest(ix.SHA256()), im.Size, im.SHA256)
	}
	return nil
}

// checkPack wants every byte of a pack to be what its index says.
func checkPack(ctx context.Context, index []byte, pack image.Blob) error {
	ix, err := image.ParseIndex(index)
	if err != nil {
		return err
	}
	if got, want := pack.Size(), ix.PackSize(); got != want {
		return fmt.Errorf("it has %d bytes, not %d", got, want)
	}
	if err := image.CheckPack(ctx, ix, pack); err != nil {
		return err
	}
	// Every segment may be right and the image as a whole not: an index can contradict itself.
	r, err := newPackReader(ctx, index, pack)
	if err != nil {
		return err
	}
	defer r.dec.Close()
	return image.Verify(ctx, ix, r)
}

// packReader reads an image out of its pack, which was checked.
type packReader struct {
	ctx  context.Context // of the whole check
	ix   *image.Index
	pack image.Blob
	dec  *zstd.Decoder

	mu    sync.Mutex
	frame int // whose bytes are in plain; -1: none
	plain []byte
}

func newPackReader(ctx context.Context, index []byte, pack image.Blob) (*packReader, error) {
	ix, err := image.ParseIndex(index)
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxMemory(image.MaxSize), zstd.WithDecoderMaxWindow(image.MaxSize))
	if err != nil {
		return nil, fmt.Errorf("cannot read the pack: %w", err)
	}
	return &packReader{ctx: ctx, ix: ix, pack: pack, dec: dec, frame: -1}, nil
}

// ReadAt implements io.ReaderAt.
func (r *packReader) ReadAt(p []byte, off int64) (n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n < len(p) && off < r.ix.Size() {
		if err := r.load(int(off / int64(r.ix.FrameSize()))); err != nil {
			return n, err
		}
		m := copy(p[n:], r.plain[off%int64(r.ix.FrameSize()):])
		n, off = n+m, off+int64(m)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// load decodes a frame.
func (r *packReader) load(frame int) error {
	if r.frame == frame {
		return nil
	}
	r.frame = -1
	off, n := r.ix.Frame(frame)
	packed, err := readRange(r.ctx, r.pack, off, n)
	if err != nil {
		return err
	}
	r.plain, err = r.dec.DecodeAll(packed, r.plain[:0])
	if err != nil {
		return fmt.Errorf("frame %d, from byte %d on, does not decode: %w", frame, off, err)
	}
	size := int64(r.ix.FrameSize())
	if want := min(size, r.ix.Size()-int64(frame)*size); int64(len(r.plain)) != want {
		return fmt.Errorf("frame %d, from byte %d on, holds %d bytes, not %d", frame, off, len(r.plain), want)
	}
	r.frame = frame
	return nil
}

func readRange(ctx context.Context, b image.Blob, off, n int64) ([]byte, error) {
	body, err := b.Range(ctx, off, n)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data := make([]byte, n)
	_, err = io.ReadFull(body, data)
	return data, err
}

// ReadImage returns the bytes of an image of a published release, out of its pack. They are checked: a reader that comes
// to io.EOF has read what the release names, and any other error means that it has not.
func (r *Repository) ReadImage(ctx context.Context, im release.Image) (io.ReadCloser, error) {
	s, err := r.load()
	if err != nil {
		return nil, err
	}
	m := s.targets[RoleReleases]
	if m == nil {
		return nil, BadInput("there is no published repository in %s", r.o.Dir)
	}
	if err := r.checkImage(ctx, m, im, false); err != nil {
		return nil, err
	}
	index, err := r.readTarget(im.Index, m.Signed.Targets[im.Index])
	if err != nil {
		return nil, err
	}
	f, err := r.openPack(im, false)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err == nil {
		var pr *packReader
		if pr, err = newPackReader(ctx, index, blob{f, size}); err == nil {
			return imageReader{io.NewSectionReader(pr, 0, im.Size), pr, f}, nil
		}
	}
	return nil, errors.Join(err, f.Close())
}

// imageReader is an image out of a pack that was checked.
type imageReader struct {
	io.Reader
	pack *packReader
	file io.Closer
}

func (r imageReader) Close() error {
	r.pack.dec.Close()
	return r.file.Close()
}

// Published returns the published release that a person means by a version or a serial; product may be empty where there
// is only one. Without which it is the newest that is not withdrawn.
func (r *Repository) Published(product, which string) (release.Release, error) {
	s, err := r.load()
	if err != nil {
		return release.Release{}, err
	}
	g := &staging{state: s, staged: map[Role]*envelope{}}
	if which != "" {
		return r.find(g, product, which)
	}
	all, err := r.releases(g, product)
	if err != nil {
		return release.Release{}, err
	}
	var newest release.Release
	for _, rel := range all {
		if newest.Product != "" && newest.Product != rel.Product {
			return release.Release{}, BadInput("there are releases of %q and %q: name the product", newest.Product, rel.Product)
		}
		if rel.Withdrawn == "" {
			newest = rel
		}
	}
	if newest.Serial == 0 {
		return release.Release{}, BadInput("there is no published release%s", ofProduct(product))
	}
	return newest, nil
}
