// Package image is what an OS image is on the wire, and how it reaches a slot: bytes in, verdict out.
//
// # The parts
//
// An image is a row of segments of equal size; the last one may be shorter. Its Index is the only authority: it is signed
// (a TUF target) and holds the SHA-256 of the image and of every segment. Whatever way the bytes of a segment came, they
// count only when their SHA-256 is the one in the index, and nothing that was not checked is ever written.
//
// The pack holds the image as independent zstd frames, in order, one behind the other: one static, untrusted file that is
// read in ranges. Zero segments are in it too (a few dozen bytes each), so that the whole pack is a plain .zst file of the
// whole image, which `zstd -d` unpacks; Fill never fetches them.
//
// # The index, byte by byte
//
// All numbers are little-endian and unsigned.
//
//	offset  bytes  what
//	     0      8  magic, "EVKINDEX"
//	     8      4  version of the format: 1
//	    12      4  segment size S in bytes: a power of two, 64 KiB to 4 MiB
//	    16      4  frame size F in bytes, before compression: likewise
//	    20      4  zero
//	    24      8  size of the image in bytes, at least 1
//	    32     32  SHA-256 of the image
//	    64   40*s  for each of the s = ceil(size/S) segments:
//	                 32  its SHA-256; 32 zero bytes: the segment is all zeros
//	                  8  hint: the first 8 bytes of the SHA-256 of its first 4096 bytes (or all of it, if it is shorter);
//	                     8 zero bytes if the segment is all zeros
//	  64+40s    4*f  for each of the f = ceil(size/F) frames: its length in the pack
//
// A reader refuses everything else: another version, bytes that are left over, a frame longer than MaxFrame says. So every
// index has one encoding, and reading one takes no more memory than a small multiple of its length.
//
// The hints make it cheap to see that a segment is wrong: reading 4 KiB tells, for all but the segments that are worth
// reading whole. Only the SHA-256 says that a segment is right.
//
// # Filling a slot
//
// Fill looks at every segment of the target. What is right already stays untouched, which is also the whole of resuming
// after a power cut: the target itself says what is missing, and no side file can lie about it. Zero segments are zeroed.
// For all others the cheapest Route is asked; looking, fetching, decoding, checking and writing run side by side. At the
// end the target is synced and read back, past every cache, and compared with the index. Memory is a few segments and
// frames, whatever the size of the image.
package image
