package durable

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"syscall"
)

// Cell is a value of bounded size that can be saved on a full disk: one file that is made once at its full size and from
// then on written in place, in two generations that take turns, as bbolt's meta pages do.
//
//	offset  bytes  what
//	     0      8  magic, "EVKCELL1"
//	     8      8  sequence number, little-endian; the valid generation with the higher one counts
//	    16      4  length of the value in bytes
//	    20      4  CRC-32C of the 20 bytes before it and of the value
//	    24         the value; the second generation begins at Generation
//
// Save writes the generation that does not count and fsyncs it: a power cut at any moment, torn writes included, leaves the
// other one. A sector that cannot be read takes one generation with it, not both.
type Cell struct {
	fs   FS
	path string
}

const (
	// Generation is the size of one generation of a Cell in bytes.
	Generation = 16 << 10
	// MaxCell is the longest value that a Cell holds, in bytes.
	MaxCell = Generation - cellHeader

	cellHeader = 24
	cellMagic  = "EVKCELL1"
)

// NewCell returns the cell at path. It touches nothing.
func NewCell(fsys FS, path string) *Cell { return &Cell{fs: fsys, path: path} }

// generation is what one half of the file holds.
type generation struct {
	seq   uint64
	value []byte
	valid bool
}

// Load returns the value, or nil if none was ever saved. Where both generations are damaged it returns what is left of the
// first, which its reader will refuse: that something was there, and is not to be trusted, is not the same as nothing.
func (c *Cell) Load() ([]byte, error) {
	data, err := c.read()
	if err != nil || data == nil {
		return nil, err
	}
	both := decodeGenerations(data)
	if g := both[newer(both)]; g.valid {
		return g.value, nil
	}
	if allZero(data) {
		return nil, nil
	}
	return data[:min(len(data), Generation)], nil
}

// Save makes value the value, and returns when it is durable.
func (c *Cell) Save(value []byte) error {
	if len(value) > MaxCell {
		return fmt.Errorf("cannot save %s: the value has %d bytes, more than the %d that fit", c.path, len(value), MaxCell)
	}
	data, err := c.read()
	if err == nil && len(data) < 2*Generation {
		data = append(data, make([]byte, 2*Generation-len(data))...)
		err = WriteFile(c.fs, c.path, data) // with all its blocks, so that no later write needs a new one
	}
	if err != nil {
		return fmt.Errorf("cannot save %s: %w", c.path, err)
	}
	both := decodeGenerations(data)
	at := newer(both)
	if both[at].valid {
		at = 1 - at
	}
	seq := max(both[0].seq, both[1].seq) + 1
	if err := c.write(int64(at)*Generation, encodeGeneration(seq, value)); err != nil {
		return fmt.Errorf("cannot save %s: %w", c.path, err)
	}
	return nil
}

// read returns both generations; nil: there is no file. Bytes that the disk cannot give back read as zeros.
func (c *Cell) read() ([]byte, error) {
	data, err := c.fs.ReadFile(c.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err == nil:
		return data, nil
	}
	f, openErr := c.fs.Open(c.path)
	if openErr != nil {
		return nil, err
	}
	defer f.Close()
	data = make([]byte, 2*Generation)
	failed := 0
	for at := range int64(2) {
		half := data[at*Generation : (at+1)*Generation]
		if _, err := f.ReadAt(half, at*Generation); err != nil && !errors.Is(err, io.EOF) {
			clear(half)
			failed++
		}
	}
	if failed == 2 {
		return nil, err
	}
	return data, nil
}

func (c *Cell) write(off int64, data []byte) error {
	f, err := c.fs.Open(c.path)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, off)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Aside keeps a copy of damaged bytes beside the cell, for a person to look at. There is one copy, the newest; on a full
// disk there is none, for nobody may be kept from going on by it.
func (c *Cell) Aside(damaged []byte) error {
	err := WriteFile(c.fs, c.path+".damaged", damaged)
	if errors.Is(err, syscall.ENOSPC) {
		return nil
	}
	return err
}

func encodeGeneration(seq uint64, value []byte) []byte {
	b := make([]byte, Generation)
	copy(b, cellMagic)
	binary.LittleEndian.PutUint64(b[8:], seq)
	binary.LittleEndian.PutUint32(b[16:], uint32(len(value)))
	copy(b[cellHeader:], value)
	binary.LittleEndian.PutUint32(b[20:], generationSum(b, len(value)))
	return b
}

func generationSum(b []byte, n int) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(b[:20], table), table, b[cellHeader:cellHeader+n])
}

func decodeGenerations(data []byte) (both [2]generation) {
	for i := range both {
		if len(data) >= (i+1)*Generation {
			both[i] = decodeGeneration(data[i*Generation : (i+1)*Generation])
		}
	}
	return both
}

func decodeGeneration(b []byte) generation {
	n := binary.LittleEndian.Uint32(b[16:])
	if string(b[:8]) != cellMagic || n > MaxCell || binary.LittleEndian.Uint32(b[20:]) != generationSum(b, int(n)) {
		return generation{}
	}
	return generation{seq: binary.LittleEndian.Uint64(b[8:]), value: b[cellHeader : cellHeader+n], valid: true}
}

// newer returns the index of the generation that counts, if any does.
func newer(both [2]generation) int {
	if both[1].valid && (!both[0].valid || both[1].seq > both[0].seq) {
		return 1
	}
	return 0
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
