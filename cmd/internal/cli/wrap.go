package cli

import (
	"strings"
	"unicode/utf8"
)

// Width is how wide text for people is, on a terminal and elsewhere: what a script reads is --json.
const Width = 80

// Quote begins a line that somebody else has written: a health check, a kernel. Such lines stay as they are.
const Quote = "| "

// Wrap breaks lines that are too wide at blanks. What belongs to a line is indented to where its last column begins; words
// that are too long stay whole, for a broken path or digest is of no use.
func Wrap(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = wrapLine(l)
	}
	return strings.Join(lines, "\n")
}

func wrapLine(l string) string {
	l = strings.TrimRight(l, " ")
	if utf8.RuneCountInString(l) <= Width || strings.HasPrefix(strings.TrimLeft(l, " "), Quote) {
		return l
	}
	hang := hanging(l)
	b := &strings.Builder{}
	b.WriteString(l[:hang])
	column := utf8.RuneCountInString(l[:hang])
	for i, word := range strings.Fields(l[hang:]) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case column+1+n > Width:
			b.WriteString("\n" + strings.Repeat(" ", hang))
			column = hang
		default:
			b.WriteString(" ")
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}

// hanging is where the last column of a line begins: after the last run of blanks in its first half.
func hanging(l string) int {
	at := len(l) - len(strings.TrimLeft(l, " "))
	for i := at; i < min(len(l), Width/2); i++ {
		if l[i] != ' ' && strings.HasSuffix(l[:i], "  ") {
			at = i
		}
	}
	return at
}
