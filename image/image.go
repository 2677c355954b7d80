// Package image is what an OS image is on the wire, and how it reaches a slot: bytes in, verdict out.
package image

import (
	"context"
	"io"
)

// Target is where an image is written: a partition, or a file in a slot's directory. Offsets and sizes are bytes.
//
// WriteAt is only called with offsets and lengths that are multiples of the segment size, but for the last segment.
// The bytes a Target holds outside of what was written are undefined. Implementations need not be safe for concurrent
// writes to the same range; Fill never does that, but it does write different ranges at the same time.
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
