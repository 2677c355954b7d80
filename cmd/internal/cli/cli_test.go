package cli

import (
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestWrap(t *testing.T) {
	word := strings.Repeat("x", 100)
	tests := []struct{ name, in, want string }{
		{"short", "a b", "a b"},
		{"empty", "", ""},
		{"lines", "a\n\nb\n", "a\n\nb\n"},
		{"plain", strings.Repeat("abc ", 21), strings.TrimRight(strings.Repeat("abc ", 20), " ") + "\nabc"},
		{
			"hanging", "Next:     " + strings.Repeat("abcd ", 15),
			"Next:     " + strings.TrimRight(strings.Repeat("abcd ", 14), " ") + "\n          abcd",
		},
		{"indented", "    " + strings.Repeat("abc ", 20), "    " + strings.TrimRight(strings.Repeat("abc ", 19), " ") + "\n    abc"},
		{"long word", "path " + word + " there", "path\n" + word + "\nthere"},
		{"quoted", "    | " + word + "  " + word, "    | " + word + "  " + word},
		{"exactly", strings.Repeat("x", 80), strings.Repeat("x", 80)},
		{"runes", strings.Repeat("ä", 40) + " " + strings.Repeat("ö", 39), strings.Repeat("ä", 40) + " " + strings.Repeat("ö", 39)},
	}
	for _, tt := range tests {
		if got := Wrap(tt.in); got != tt.want {
			t.Errorf("%s:\n%q\nwant\n%q", tt.name, got, tt.want)
		}
	}
}

// TestWrapKeepsWords: nothing is lost, added or reordered, and only what cannot be broken is too wide.
func TestWrapKeepsWords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := strings.Join(rapid.SliceOf(rapid.StringMatching(`[a-zä]{1,30}|  |:`)).Draw(t, "words"), " ")
		out := Wrap(in)
		if !reflect.DeepEqual(strings.Fields(in), strings.Fields(out)) {
			t.Fatalf("%q became %q", in, out)
		}
		for l := range strings.SplitSeq(out, "\n") {
			if utf8.RuneCountInString(l) > Width {
				t.Fatalf("%q is too wide", l)
			}
		}
	})
}

func TestReflow(t *testing.T) {
	in := "A paragraph\nin two lines.\n\n  laid\n  out\n\nThe end."
	if got, want := reflow(in), "A paragraph in two lines.\n\n  laid\n  out\n\nThe end."; got != want {
		t.Errorf("%q; want %q", got, want)
	}
}

func TestWantsJSON(t *testing.T) {
	args := []string{"nonsense", "--json"}
	for _, tt := range []struct {
		parsed, started bool
		args            []string
		want            bool
	}{
		{true, true, nil, true},
		{true, false, nil, true},
		{false, false, args, true},
		{false, true, args, false}, // --json=false came later, or it is the value of something
		{false, false, []string{"nonsense"}, false},
	} {
		if got := WantsJSON(tt.parsed, tt.started, tt.args); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1 << 20: "1.0 MiB", 5 << 30: "5.0 GiB", 3 << 50: "3072.0 TiB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: %q; want %q", n, got, want)
		}
	}
}
