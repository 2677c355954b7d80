// Package grubenv reads and writes GRUB's environment block, the file in which GRUB keeps variables between boots.
//
// A block is exactly 1024 bytes: the signature line, then lines, then "#" to the end.
//
//	# GRUB Environment Block
//	ORDER=A B
//	saved_entry=with a backslash \\ and a line \
//	feed
//	##################################...
//
// A line that begins with "#" is a comment. In a value, a backslash makes the next byte literal; it stands before
// backslashes and line feeds. What GRUB's load_env makes of a block is the measure here, oddities included: a name reaches
// to the next "=", over line feeds if there are any; of two lines with one name the last one wins; reading ends without an
// error at the first thing that is broken. (Source: grub-core/lib/envblk.c of GRUB 2.06.)
//
// GRUB cannot allocate disk blocks. It writes all 1024 bytes over the old ones, in place, and when the power is cut
// between the two sectors one of them is old. FormatLead lays a block out so that this does no harm: the variables that
// matter lie in the first sector, and nothing behind them moves when their values change.
package grubenv

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Size is the size of every block in bytes.
const Size = 1024

// Sector is the number of bytes that every disk writes whole or not at all.
const Sector = 512

const signature = "# GRUB Environment Block\n"

// ErrNotABlock is what Parse returns for bytes that GRUB would refuse.
var ErrNotABlock = errors.New("not a GRUB environment block")

// Block is the content of an environment block. The zero value holds no variables.
type Block struct {
	lines []line
}

// line is a comment, or a variable as it stands in the block. Raw has no line feed at its end.
type line struct {
	comment bool
	name    string
	value   string
	raw     string
}

// Parse reads a block of Size bytes. It fails with ErrNotABlock where GRUB would not load it, or could not save it for
// its size; what GRUB skips in silence is skipped here.
func Parse(data []byte) (*Block, error) {
	if len(data) != Size {
		return nil, fmt.Errorf("%w: it has %d bytes, want %d", ErrNotABlock, len(data), Size)
	}
	rest, ok := bytes.CutPrefix(data, []byte(signature))
	if !ok {
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrNotABlock, strings.TrimSpace(signature))
	}
	b := &Block{}
	for len(rest) > 0 {
		l, n := next(rest)
		if n == 0 {
			break
		}
		if l.raw != "" {
			b.lines = append(b.lines, l)
		}
		rest = rest[n:]
	}
	return b, nil
}

// next cuts the first line off p and says how many bytes it took. 0: the rest is padding, or broken.
func next(p []byte) (line, int) {
	start := 0
	comment := p[0] == '#'
	if !comment {
		eq := bytes.IndexByte(p, '=')
		if eq < 0 {
			return line{}, 0
		}
		start = eq + 1
	}
	end := lineEnd(p, start)
	if end >= len(p) {
		return line{}, 0
	}
	l := line{comment: comment, raw: string(p[:end])}
	if comment {
		if strings.Trim(l.raw, "#") == "" { // filler
			l.raw = ""
		}
		return l, end + 1
	}
	l.name, l.value = cString(string(p[:start-1])), cString(unescape(p[start:end]))
	return l, end + 1
}

// lineEnd is the position of the line feed that ends the line, len(p) or more if there is none.
func lineEnd(p []byte, from int) int {
	for i := from; i < len(p); i++ {
		switch p[i] {
		case '\n':
			return i
		case '\\':
			i++
		}
	}
	return len(p)
}

func unescape(p []byte) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		if p[i] == '\\' {
			i++
		}
		b.WriteByte(p[i])
	}
	return b.String()
}

// cString is what a C program sees of s.
func cString(s string) string {
	s, _, _ = strings.Cut(s, "\x00")
	return s
}

// Get returns the value that load_env would leave in the variable.
func (b *Block) Get(name string) (string, bool) {
	for _, l := range slices.Backward(b.lines) {
		if !l.comment && l.name == name {
			return l.value, true
		}
	}
	return "", false
}

// All yields every variable in the order of the block, as "grub-editenv list" prints them: a name may come twice.
func (b *Block) All() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for _, l := range b.lines {
			if !l.comment && !yield(l.name, l.value) {
				return
			}
		}
	}
}

// Set gives a variable a value, in the place of its first line, and removes any further lines of that name.
func (b *Block) Set(name, value string) error {
	if name == "" || name[0] == '#' || strings.ContainsAny(name, "=\n\\\x00") {
		return fmt.Errorf("cannot set GRUB variable %q: not a name", name)
	}
	if strings.Contains(value, "\x00") {
		return fmt.Errorf("cannot set GRUB variable %s: its value holds a NUL", name)
	}
	l := line{name: name, value: value, raw: name + "=" + escape(value)}
	at := b.index(name)
	if at < 0 {
		b.lines = append(b.lines, l)
		return nil
	}
	b.Unset(name)
	b.lines = slices.Insert(b.lines, at, l)
	return nil
}

func (b *Block) index(name string) int {
	return slices.IndexFunc(b.lines, func(l line) bool { return !l.comment && l.name == name })
}

func escape(value string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", "\\\n").Replace(value)
}

// Unset removes every line of a variable.
func (b *Block) Unset(name string) {
	b.lines = slices.DeleteFunc(b.lines, func(l line) bool { return !l.comment && l.name == name })
}

// Format returns the Size bytes of the block, its lines in their order, as grub-editenv writes them.
func (b *Block) Format() ([]byte, error) {
	var out bytes.Buffer
	out.WriteString(signature)
	for _, l := range b.lines {
		out.WriteString(l.raw + "\n")
	}
	return pad(out.Bytes())
}

// FormatLead returns the Size bytes of the block with the variables named lead first, then a filler comment that ends
// at byte width, then everything else. As long as only lead variables change, no byte from width on does: with a
// width of Sector or less, one sector holds the whole change, and a power cut leaves the old values or the new ones.
// Comments that stand before every variable stay there. It fails when lead does not fit width, or the rest does not
// fit the block.
func (b *Block) FormatLead(lead []string, width int) ([]byte, error) {
	var head, rest bytes.Buffer
	head.WriteString(signature)
	first := slices.IndexFunc(b.lines, func(l line) bool { return !l.comment })
	for i, l := range b.lines {
		switch {
		case l.comment && i < first:
			head.WriteString(l.raw + "\n")
		case l.comment || !slices.Contains(lead, l.name):
			rest.WriteString(l.raw + "\n")
		}
	}
	for _, name := range lead {
		if value, ok := b.Get(name); ok {
			head.WriteString(name + "=" + escape(value) + "\n")
		}
	}
	filler := width - head.Len()
	if filler < 2 {
		return nil, fmt.Errorf("cannot lay out the GRUB environment block: what must lie in its first %d bytes has %d", width-2, head.Len())
	}
	head.WriteString(strings.Repeat("#", filler-1) + "\n")
	head.Write(rest.Bytes())
	return pad(head.Bytes())
}

func pad(data []byte) ([]byte, error) {
	if len(data) > Size {
		return nil, fmt.Errorf("cannot lay out the GRUB environment block: its variables need %d bytes, it has %d: "+
			"remove some with grub-editenv unset", len(data), Size)
	}
	return append(data, bytes.Repeat([]byte("#"), Size-len(data))...), nil
}
