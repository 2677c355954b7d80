package image

// Index is the signed authority over one image: its size, its digest, and the digest of each of its segments.
type Index struct{}

// DeltaRef names a delta that may exist: from which base, and where.
type DeltaRef struct {
	Base [32]byte // SHA-256 of the base image
	Blob Blob
}
