package image

import (
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// newDecoder returns a decoder for up to workers frames at a time that never takes more memory than a frame may have.
func newDecoder(workers int) (*zstd.Decoder, error) {
	return zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(workers),
		zstd.WithDecoderMaxMemory(MaxSize),
		zstd.WithDecoderMaxWindow(MaxSize),
		zstd.WithDecodeAllCapLimit(true),
		zstd.IgnoreChecksum(true)) // SHA-256 decides
}

// decodeFrame fills dst from packed, which must be exactly one zstd frame of len(dst) bytes. What the frame declares is
// checked before anything is decoded. Up to slack bytes behind dst may be overwritten, if its capacity is larger: the decoder
// is faster with them.
func decodeFrame(dec *zstd.Decoder, packed, dst []byte) error {
	if err := checkFrame(packed, len(dst)); err != nil {
		return err
	}
	got, err := dec.DecodeAll(packed, dst[:0:min(cap(dst), len(dst)+slack)])
	if err != nil {
		return fmt.Errorf("cannot decompress it: %w", err)
	}
	if len(got) != len(dst) {
		return fmt.Errorf("it decompresses to %d bytes, not %d", len(got), len(dst))
	}
	return nil
}

func checkFrame(packed []byte, want int) error {
	var h zstd.Header
	if err := h.Decode(packed); err != nil {
		return fmt.Errorf("it does not begin with a zstd frame: %w", err)
	}
	switch {
	case h.Skippable:
		return errors.New("it is a skippable frame, which holds nothing")
	case !h.HasFCS || h.FrameContentSize != uint64(want):
		return fmt.Errorf("its frame declares %d bytes, not %d", h.FrameContentSize, want)
	case !h.SingleSegment && h.WindowSize > MaxSize:
		return fmt.Errorf("its frame needs a window of %d bytes, more than %d", h.WindowSize, MaxSize)
	case h.DictionaryID != 0:
		return fmt.Errorf("its frame needs dictionary %d", h.DictionaryID)
	}
	return nil
}
