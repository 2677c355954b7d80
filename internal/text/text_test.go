package text_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/evenkeel-os/evenkeel/internal/text"
)

func TestClean(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""},
		{"one\ntwo\n\n", "one\ntwo"},
		{"\ttabs stay ", "\ttabs stay"},
		{"progress 1%\rprogress 2%", "progress 1%progress 2%"},
		{"\x1b[31mred\x1b[0m", "[31mred[0m"},
		{"bell\a, nul\x00, del\x7f, c1\u0085", "bell, nul, del, c1"},
		{"bad \xff\xfe bytes", "bad \uFFFD bytes"},
		{"ma\u202Esrevni\u2028x", "masrevnix"},
		{"größer 火", "größer 火"},
	}
	for _, tt := range tests {
		if got := text.Clean(tt.in); got != tt.want {
			t.Errorf("Clean(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestTail(t *testing.T) {
	tests := []struct {
		in   string
		n    int
		want string
	}{
		{"short", 16, "short"},
		{"exactly 16 bytes", 16, "exactly 16 bytes"},
		{"first line\nsecond\nthird", 20, "…\nsecond\nthird"},
		{"one line that is too long for it", 16, "… long for it"},
		{"öööööööööö", 16, "…öööööö"},
		{"first line is long\nx", 16, "…\nx"},
	}
	for _, tt := range tests {
		if got := text.Tail(tt.in, tt.n); got != tt.want {
			t.Errorf("Tail(%q, %d) = %q, want %q", tt.in, tt.n, got, tt.want)
		}
	}
}

func TestBuffer(t *testing.T) {
	b := &text.Buffer{Keep: 32}
	if got := b.String(); got != "" {
		t.Errorf("empty: %q", got)
	}
	for _, line := range []string{"one\n", "two\n", "three\n"} {
		if n, err := b.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	if got := b.String(); got != "one\ntwo\nthree" {
		t.Errorf("nothing was lost: %q", got)
	}
	if n, _ := b.Write([]byte(strings.Repeat("a line\n", 1000))); n != 7000 {
		t.Errorf("Write = %d, want all of it", n)
	}
	if got := b.String(); got != "…\na line\na line\na line\na line" {
		t.Errorf("the last lines: %q", got)
	}
}

// FuzzBuffer: whatever is written in whatever pieces, what is kept is bounded, valid and harmless.
func FuzzBuffer(f *testing.F) {
	f.Add([]byte("hello\nworld"), 3, 16)
	f.Add([]byte("\xff\xfe\x1b[0m\u2028"), 1, 40)
	f.Fuzz(func(t *testing.T, data []byte, piece, keep int) {
		piece, keep = 1+(piece&0xff), 16+(keep&0xff)
		b := &text.Buffer{Keep: keep}
		for rest := data; len(rest) > 0; {
			n := min(piece, len(rest))
			_, _ = b.Write(rest[:n])
			rest = rest[n:]
		}
		got := b.String()
		if len(got) > keep || !utf8.ValidString(got) || strings.ContainsAny(got, "\x00\x1b\r\x7f") {
			t.Errorf("kept %q of %q, %d bytes at most", got, data, keep)
		}
		if len(data) <= keep && text.Tail(string(data), keep) != got {
			t.Errorf("Buffer kept %q, Tail says %q", got, text.Tail(string(data), keep))
		}
	})
}
