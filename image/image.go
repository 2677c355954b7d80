package image

import (
	"context"
	"io"
)

// Target is where an image is written: a partition, or a file in a slot's directory. Offsets and sizes are bytes.
//
// WriteAt is only called with offsets and lengths that are multiples of the segment size, but for the last segment; the
// memory it is given is aligned to 4096 bytes wherever segments and frames are cut at the same places. The bytes a Target
// holds outside of what was written are undefined. Implementations need not be safe for concurrent writes to the same
// range; Fill never does that, but it does write different ranges at the same time, and reads others meanwhile.
type Target interface {
	io.ReaderAt
	io.WriterAt
	// Size is how many bytes the target can hold. It is at least the size of the image, or Fill refuses.
	Size() int64
	// Zero makes n bytes at off read as zeros, by discarding or by writing.
	Zero(off, n int64) error
	// Sync returns when everything written is on stable storage.
	Sync() error
	// Reread returns a reader that bypasses every cache above the device, for the last verification.
	Reread() (io.ReaderAt, error)
}

// Blob is a remote or local file of known size that can be read in ranges: a pack, a delta.
type Blob interface {
	Size() int64
	// Range returns n bytes from off. The caller closes it. It resumes broken connections by itself; an error means
	// that it gave up.
	Range(ctx context.Context, off, n int64) (io.ReadCloser, error)
}

// DeltaRef names a delta that may exist: from which base, and where.
type DeltaRef struct {
	Base [32]byte // SHA-256 of the base image
	Blob Blob
}

// Route is one way by which the bytes of segments can come. It is not trusted: Fill checks what it brings.
type Route interface {
	// Cost says what a segment costs on this route; false: the route does not have it. It is called once and again, and
	// may read a little of the base, but never the network.
	Cost(seg int) (Cost, bool)
	// Fetch hands the bytes of every segment in segs, which are in ascending order, to put: in any order, from several
	// goroutines at a time. put does not keep b. Segments that were put stay put, whatever error Fetch returns: only what is
	// missing then comes from elsewhere. An error of put is returned, perhaps wrapped.
	Fetch(ctx context.Context, segs []int, put func(seg int, b []byte) error) error
}

// Cost is what a segment costs on a Route.
type Cost struct {
	Fetch int64 // bytes over the network
	Read  int64 // bytes read from the base
}

// less: every byte over the network is dearer than any read, since it may be metered.
func (c Cost) less(d Cost) bool {
	if c.Fetch != d.Fetch {
		return c.Fetch < d.Fetch
	}
	return c.Read < d.Read
}

// Limits bound what Fill may take. A zero field is no limit.
type Limits struct {
	BytesPerSecond int64 // average bandwidth, over the network
	MaxFetch       int64 // bytes over the network in one call of Fill
}

// Stats count bytes. Reused, Zeroed and Written are bytes of the image and add up to Total at the end.
type Stats struct {
	Total   int64 // size of the image
	Reused  int64 // were right in the target already
	Zeroed  int64 // were made to read as zeros
	Written int64 // were written
	Fetched int64 // came over the network
	Copied  int64 // were read from the base for use in the target
}

// Done is how much of the image is in place.
func (s Stats) Done() int64 { return s.Reused + s.Zeroed + s.Written }

// Progress is where Fill is.
type Progress struct {
	Stats
	Verified int64 // bytes read back and compared, once all is Done
}
