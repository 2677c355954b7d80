// Package text makes foreign output fit to be stored and shown: bounded, valid UTF-8, and harmless on a terminal.
package text

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Mark is where Tail and Buffer left something out.
const Mark = "…"

// Clean returns s as valid UTF-8 without control characters, except newline and tab, and without blank space at its end.
// A carriage return goes; what a program draws over on a terminal stays, line after line.
func Clean(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return r
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == '\u2028', r == '\u2029':
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return strings.TrimRight(s, " \t\n")
}

// Tail returns the last lines of Clean(s), at most n bytes, with Mark before them if anything was left out. A line that
// is longer than that is cut at its front. n must be at least 16.
func Tail(s string, n int) string { return last(Clean(s), n, false) }

// last cuts clean text to n bytes; lost says that something before it is missing already.
func last(s string, n int, lost bool) string {
	if len(s) <= n && !lost {
		return s
	}
	if room := n - len(Mark) - 1; len(s) > room {
		s = s[len(s)-room:]
		for len(s) > 0 && !utf8.RuneStart(s[0]) {
			s = s[1:]
		}
	}
	if i := strings.IndexByte(s, '\n'); i >= 0 && i < len(s)-1 {
		return Mark + "\n" + s[i+1:]
	}
	return Mark + s
}

// Buffer keeps the last bytes that were written to it. It is not safe for concurrent use.
type Buffer struct {
	Keep int // bytes, at least 16
	tail []byte
	lost bool
}

// Write implements io.Writer. It never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	n := len(p)
	if len(p) > b.Keep {
		b.lost = true
		p = p[len(p)-b.Keep:]
	}
	if over := len(b.tail) + len(p) - b.Keep; over > 0 {
		b.lost = true
		b.tail = b.tail[:copy(b.tail, b.tail[over:])]
	}
	b.tail = append(b.tail, p...)
	return n, nil
}

// String returns what was kept as Tail does, Keep bytes at most.
func (b *Buffer) String() string { return last(Clean(string(b.tail)), b.Keep, b.lost) }
