package fat

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
)

// node is a file or a directory.
type node struct {
	name     string
	file     *File   // nil: a directory
	children []*node // in the order given
	parent   *node   // nil: the root
	label    string  // the root's volume label
	first    int64   // first cluster; 0: none
	clusters int64
}

// buildTree makes the directories. Names are compared without case, as FAT does.
func buildTree(files []File) (*node, error) {
	root := &node{}
	for i := range files {
		f := &files[i]
		path, isDir := strings.CutSuffix(f.Path, "/")
		parts := strings.Split(path, "/")
		dir := root
		for j, name := range parts {
			if err := checkName(name); err != nil {
				return nil, fmt.Errorf("cannot place %q: %w", f.Path, err)
			}
			last := j == len(parts)-1
			next, err := dir.child(name, last && !isDir)
			if err != nil {
				return nil, fmt.Errorf("cannot place %q: %w", f.Path, err)
			}
			dir = next
		}
		if isDir {
			continue
		}
		if f.Open == nil {
			return nil, fmt.Errorf("cannot place %q: %w", f.Path, errNoReader)
		}
		if f.Size < 0 || f.Size >= 1<<32 {
			return nil, fmt.Errorf("cannot place %q: %d bytes, FAT32 holds files below 4 GiB", f.Path, f.Size)
		}
		dir.file = f
	}
	return root, nil
}

// child returns the directory called name, made where it is missing; a file must be new.
func (d *node) child(name string, file bool) (*node, error) {
	for _, c := range d.children {
		if !strings.EqualFold(c.name, name) {
			continue
		}
		if file || c.file != nil {
			return nil, fmt.Errorf("%q is there already", c.name)
		}
		return c, nil
	}
	if d.file != nil {
		return nil, fmt.Errorf("%q is a file", d.name)
	}
	c := &node{name: name, parent: d}
	d.children = append(d.children, c)
	return c, nil
}

func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("%q is no file name", name)
	case len(utf16.Encode([]rune(name))) > 255:
		return fmt.Errorf("the name %.40q... is longer than 255 characters", name)
	case strings.HasSuffix(name, ".") || strings.HasSuffix(name, " ") || strings.HasPrefix(name, " "):
		return fmt.Errorf("the name %q begins or ends with a blank or ends with a dot", name)
	}
	for _, r := range name {
		if r < ' ' || r == 0x7f || r == '\ufffd' || strings.ContainsRune(`"*/:<>?\|`, r) {
			return fmt.Errorf("the name %q has a character that FAT does not know: %q", name, r)
		}
	}
	return nil
}

// allocate gives d and everything below clusters from next on, and returns the first one after them.
func (d *node) allocate(g geometry, next int64) int64 {
	size := int64(0)
	if d.file != nil {
		size = d.file.Size
	} else {
		size = max(1, int64(len(d.entries(time.Time{}))))
	}
	d.first, d.clusters = next, g.clustersOf(size)
	if d.clusters == 0 {
		d.first = 0
	}
	next += d.clusters
	for _, c := range d.children {
		next = c.allocate(g, next)
	}
	return next
}

// walk visits d and everything below, in the order of the clusters.
func (d *node) walk(visit func(*node)) {
	visit(d)
	for _, c := range d.children {
		c.walk(visit)
	}
}

func (d *node) writeFAT(out *counter, g geometry) {
	fat := []byte{0xf8, 0xff, 0xff, 0x0f, 0xff, 0xff, 0xff, 0x0f} // media; clean, no errors
	written := int64(0)
	d.walk(func(n *node) {
		for i := range n.clusters {
			next := uint32(n.first + i + 1)
			if i == n.clusters-1 {
				next = endOfChain
			}
			fat = binary.LittleEndian.AppendUint32(fat, next)
			if len(fat) >= 1<<16 {
				out.write(fat)
				written += int64(len(fat))
				fat = fat[:0]
			}
		}
	})
	out.write(fat)
	out.zeros(g.perFAT*g.sector - written - int64(len(fat)))
}

func (d *node) writeData(out *counter, g geometry, t time.Time) {
	d.walk(func(n *node) {
		if out.err != nil || n.clusters == 0 {
			return
		}
		size := int64(0)
		if n.file != nil {
			size = n.file.Size
			if err := copyFile(out, *n.file); err != nil && out.err == nil {
				out.err = err
			}
		} else {
			b := n.entries(t)
			size = int64(len(b))
			out.write(b)
		}
		out.zeros(n.clusters*g.clusterBytes() - size)
	})
}

const (
	attrVolume    = 0x08
	attrDirectory = 0x10
	attrArchive   = 0x20
	attrLongName  = 0x0f
)

// entries returns the directory d as bytes.
func (d *node) entries(t time.Time) []byte {
	var b []byte
	if d.parent != nil {
		b = append(b, shortEntry([]byte(".          "), attrDirectory, d.first, 0, t)...)
		up := d.parent.first
		if d.parent.parent == nil {
			up = 0 // the root is written as 0 here, whatever its cluster
		}
		b = append(b, shortEntry([]byte("..         "), attrDirectory, up, 0, t)...)
	} else if d.label != "" {
		b = append(b, shortEntry(padded(d.label, 11), attrVolume, 0, 0, t)...)
	}
	var taken []string
	for _, c := range d.children {
		short, long := shortName(c.name, taken)
		taken = append(taken, short)
		if long {
			b = append(b, longEntries(c.name, short)...)
		}
		attr, size := byte(attrDirectory), int64(0)
		if c.file != nil {
			attr, size = attrArchive, c.file.Size
		}
		b = append(b, shortEntry([]byte(short), attr, c.first, size, t)...)
	}
	return b
}

func shortEntry(name []byte, attr byte, cluster, size int64, t time.Time) []byte {
	b := make([]byte, entrySize)
	le := binary.LittleEndian
	copy(b, name)
	b[11] = attr
	date, clock := dosTime(t)
	le.PutUint16(b[14:], clock) // made
	le.PutUint16(b[16:], date)
	le.PutUint16(b[18:], date) // read
	le.PutUint16(b[20:], uint16(cluster>>16))
	le.PutUint16(b[22:], clock) // written
	le.PutUint16(b[24:], date)
	le.PutUint16(b[26:], uint16(cluster))
	le.PutUint32(b[28:], uint32(size))
	return b
}

func shortChar(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'()-@^_`{}~", c) >= 0
}

// shortName returns the 11 bytes of the short name, and whether a long name must stand before it.
func shortName(name string, taken []string) (short string, long bool) {
	base, ext := name, ""
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		base, ext = name[:i], name[i+1:]
	}
	b, lossyBase := squeeze(base, 8)
	e, lossyExt := squeeze(ext, 3)
	short = string(padTo(b, 8)) + string(padTo(e, 3))
	lossy := lossyBase || lossyExt || b == ""
	if !lossy && !slices.Contains(taken, short) {
		plain := b
		if e != "" {
			plain += "." + e
		}
		return short, plain != name
	}
	for n := 1; ; n++ {
		tail := fmt.Sprintf("~%d", n)
		short = string(padTo(b[:min(len(b), 8-len(tail))]+tail, 8)) + string(padTo(e, 3))
		if !slices.Contains(taken, short) {
			return short, true
		}
	}
}

// squeeze makes the upper-case short form of a part of a name, and says whether more than case was lost.
func squeeze(s string, n int) (out string, lossy bool) {
	var b []byte
	for _, r := range s {
		c := byte('_')
		switch {
		case r == ' ' || r == '.':
			lossy = true
			continue
		case r >= 'a' && r <= 'z':
			c = byte(r) - 'a' + 'A'
		case r < 0x80 && shortChar(byte(r)):
			c = byte(r)
		default:
			lossy = true
		}
		b = append(b, c)
	}
	if len(b) > n {
		return string(b[:n]), true
	}
	return string(b), lossy
}

func padTo(s string, n int) []byte {
	return append([]byte(s), strings.Repeat(" ", n-len(s))...)
}

// longEntries returns the entries that hold a long name: 13 UTF-16 units each, the last part first.
func longEntries(name, short string) []byte {
	units := utf16.Encode([]rune(name))
	if len(units)%13 != 0 {
		units = append(units, 0)
	}
	for len(units)%13 != 0 {
		units = append(units, 0xffff)
	}
	sum := byte(0)
	for _, c := range []byte(short) {
		sum = sum>>1 | sum<<7
		sum += c
	}
	var b []byte
	count := len(units) / 13
	for i := count; i >= 1; i-- {
		e := make([]byte, entrySize)
		e[0] = byte(i)
		if i == count {
			e[0] |= 0x40
		}
		e[11], e[13] = attrLongName, sum
		for j, u := range units[(i-1)*13 : i*13] {
			binary.LittleEndian.PutUint16(e[longOffset(j):], u)
		}
		b = append(b, e...)
	}
	return b
}

// longOffset is where unit j of a long name stands in its entry.
func longOffset(j int) int {
	switch {
	case j < 5:
		return 1 + 2*j
	case j < 11:
		return 14 + 2*(j-5)
	}
	return 28 + 2*(j-11)
}
