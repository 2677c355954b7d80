package release

import (
	"slices"
	"strings"
	"testing"
)

func TestSplitCmdline(t *testing.T) {
	for line, want := range map[string][]string{
		"":                     nil,
		"  ro  quiet ":         {"ro", "quiet"},
		`dyndbg="file x +p" y`: {"dyndbg=file x +p", "y"},
		`"" a"b"c`:             {"", "abc"},
	} {
		if got, err := SplitCmdline(line); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q becomes %q, %v, want %q", line, got, err, want)
		}
	}
	if _, err := SplitCmdline(`x="a b`); err == nil || !strings.Contains(err.Error(), "never closed") {
		t.Errorf("an open quote: %v", err)
	}
}

func TestCmdlineSize(t *testing.T) {
	if got := CmdlineSize([]string{"ro", "", "a b"}); got != 5+3+6 {
		t.Errorf("size %d", got)
	}
}
