package tuf

import (
	"errors"
	"fmt"

	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/release"
)

// parseIndex reads a verified index, which must be of the very image that the release names.
func parseIndex(data []byte, im release.Image) (*image.Index, error) {
	ix, err := image.ParseIndex(data)
	switch {
	case err != nil:
		return nil, err
	case release.Digest(ix.SHA256()) != im.SHA256:
		return nil, errors.New("it is the index of another image than the release names")
	case ix.Size() != im.Size:
		return nil, fmt.Errorf("it is of an image of %d bytes, and the release names one of %d", ix.Size(), im.Size)
	}
	return ix, nil
}
