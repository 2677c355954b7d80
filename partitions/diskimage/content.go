package diskimage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/evenkeel-os/evenkeel/release"
)

// checked opens c; its end is an error when the digest is not the one announced.
func (c Content) checked() (io.ReadCloser, error) {
	r, err := c.Open()
	if err != nil || c.SHA256.IsZero() {
		return r, err
	}
	return &digester{ReadCloser: r, hash: sha256.New(), want: c.SHA256}, nil
}

type digester struct {
	io.ReadCloser
	hash hash.Hash
	want release.Digest
}

func (d *digester) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	d.hash.Write(p[:n])
	if err == io.EOF {
		if got := release.Digest(d.hash.Sum(nil)); got != d.want {
			return n, fmt.Errorf("its SHA-256 is %s, the release says %s", got, d.want)
		}
	}
	return n, err
}

// sparseWriter writes one partition from its first byte on, and leaves holes where there are only zeros. The file is new,
// so holes are zeros.
type sparseWriter struct {
	ctx      context.Context
	f        *os.File
	off, end int64
}

// hole is the unit in which zeros are left out: the block size of most file systems.
const hole = 4096

func (w *sparseWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	if w.off+int64(len(p)) > w.end {
		return 0, fmt.Errorf("it is full: %d bytes too many", w.off+int64(len(p))-w.end)
	}
	zeros := make([]byte, hole)
	done := 0
	for done < len(p) {
		n := min(len(p)-done, hole-int(w.off%hole))
		if b := p[done : done+n]; !bytes.Equal(b, zeros[:n]) {
			more := 0
			for rest := p[done+n:]; len(rest)-more >= hole && !bytes.Equal(rest[more:more+hole], zeros); {
				more += hole
			}
			n += more
			if _, err := w.f.WriteAt(p[done:done+n], w.off); err != nil {
				return done, err
			}
		}
		done, w.off = done+n, w.off+int64(n)
	}
	return done, nil
}

// writerOnly and readerOnly keep io.CopyBuffer from going around the buffer.
type (
	writerOnly struct{ io.Writer }
	readerOnly struct{ io.Reader }
)

// writeTable writes the protective MBR and both copies of the GPT.
func (s Spec) writeTable(f *os.File, parts []part, size int64) error {
	table := &gpt.Table{
		LogicalSectorSize: s.SectorSize, PhysicalSectorSize: s.SectorSize, ProtectiveMBR: true, GUID: s.guid("disk"),
	}
	sector := int64(s.SectorSize)
	for i, p := range parts {
		table.Partitions = append(table.Partitions, &gpt.Partition{
			Index: i + 1, Start: uint64(p.start / sector), End: uint64((p.start+p.size)/sector - 1), Size: uint64(p.size),
			Type: gpt.Type(p.typ), Name: p.label, GUID: s.guid(p.label),
		})
	}
	w, err := file.New(f, false).Writable()
	if err != nil {
		return err
	}
	return table.Write(w, size)
}
