package image

import (
	"errors"
	"fmt"
)

// ErrLimit is in the chain of the error when a limit that the user set forbids to go on.
var ErrLimit = errors.New("over the limit")

// FetchError says that bytes could not be had. It is worth trying again later.
type FetchError struct {
	Offset int64 // in the pack or delta
	Err    error
}

func (e *FetchError) Error() string {
	return fmt.Sprintf("cannot fetch from byte %d on: %v", e.Offset, e.Err)
}

func (e *FetchError) Unwrap() error { return e.Err }

// CorruptError says that a pack does not hold what the index says. Fetching the same pack again does not help.
type CorruptError struct {
	Segment int   // number of the segment, from 0
	Offset  int64 // of its first frame in the pack; -1: not known
	Err     error
}

func (e *CorruptError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("what was fetched for segment %d is corrupt: %v", e.Segment, e.Err)
	}
	return fmt.Sprintf("the pack is corrupt at byte %d, segment %d: %v", e.Offset, e.Segment, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// TargetError says that the target itself failed.
type TargetError struct {
	Op     string // "read", "write", "zero", "sync", "reread" or "size"
	Offset int64  // in the target
	Err    error
}

func (e *TargetError) Error() string {
	return fmt.Sprintf("cannot %s the target at byte %d: %v", e.Op, e.Offset, e.Err)
}

func (e *TargetError) Unwrap() error { return e.Err }

// MismatchError says that a device does not hold what the index says: what was written is not what is read back.
type MismatchError struct {
	Segment int   // the first wrong segment; -1: every segment is right, and the image as a whole is not
	Offset  int64 // of that segment in the image
	Count   int   // how many segments are wrong
}

func (e *MismatchError) Error() string {
	if e.Segment < 0 {
		return "the image does not have the SHA-256 of its index, but every segment has: " +
			"the device gives other bytes at each reading, or the index contradicts itself"
	}
	return fmt.Sprintf("the device does not hold the image: %d segments differ, the first is segment %d at byte %d",
		e.Count, e.Segment, e.Offset)
}

// wrongBytes is what put says of bytes that are not the segment's.
type wrongBytes struct{ seg int }

func (e *wrongBytes) Error() string {
	return fmt.Sprintf("segment %d does not have the SHA-256 that the index says", e.seg)
}
