package tuf

import (
	"errors"

	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/release"
)

// parseIndex reads a verified index, which must be of the very image that the release names.
func parseIndex([]byte, release.Image) (*image.Index, error) {
	return nil, errors.New("this agent cannot read image indexes yet")
}
