package repo

import (
	"context"
	"errors"
	"io"

	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/release"
)

func BuildImage(ctx context.Context, src io.ReaderAt, size int64, pack io.Writer) ([]byte, error) {
	return nil, errors.New("TODO image")
}

func checkIndex(index []byte, im release.Image) error { return nil }

func checkPack(ctx context.Context, index []byte, im release.Image, pack image.Blob) error {
	return nil
}
