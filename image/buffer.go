package image

import "unsafe"

// page is the alignment of memory that every device takes for direct I/O.
const page = 4096

// slack is room behind a buffer that lets the decoder copy in wide steps.
const slack = 16

// aligned returns n bytes that begin at a multiple of page in memory.
func aligned(n int64) []byte {
	b := make([]byte, n+page+slack)
	skip := (page - int(uintptr(unsafe.Pointer(&b[0]))%page)) % page
	return b[skip : int64(skip)+n]
}
