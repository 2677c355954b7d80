package grubenv_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evenkeel-os/evenkeel/bootloader/grubenv"
)

func parse(t testing.TB, data []byte) *grubenv.Block {
	t.Helper()
	b, err := grubenv.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func format(t testing.TB, b *grubenv.Block) []byte {
	t.Helper()
	data, err := b.Format()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func set(t testing.TB, b *grubenv.Block, kv ...string) {
	t.Helper()
	for i := 0; i < len(kv); i += 2 {
		if err := b.Set(kv[i], kv[i+1]); err != nil {
			t.Fatal(err)
		}
	}
}

// list prints what "grub-editenv list" prints.
func list(b *grubenv.Block) string {
	var out strings.Builder
	for name, value := range b.All() {
		out.WriteString(name + "=" + value + "\n")
	}
	return out.String()
}

func block(lines string) []byte {
	text := "# GRUB Environment Block\n" + lines
	return []byte(text + strings.Repeat("#", grubenv.Size-len(text)))
}

// testdata/make.sh makes the files with the real grub-editenv.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.env")
	if err != nil || len(files) < 7 {
		t.Fatalf("golden files: %v, %v", files, err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(strings.TrimSuffix(name, ".env") + ".list")
			if err != nil {
				t.Fatal(err)
			}
			b := parse(t, data)
			if got := list(b); got != string(want) {
				t.Errorf("variables\n%s\nwant\n%s", got, want)
			}
			if name != "testdata/torn.env" && !bytes.Equal(format(t, b), data) {
				t.Errorf("written back\n%s\nwant\n%s", format(t, b), data)
			}
		})
	}
}

// Building the golden blocks from nothing gives what the tool gave, but for the warning that newer versions put in.
func TestSetAsTheToolDoes(t *testing.T) {
	tests := []struct {
		golden string
		set    []string
		unset  string
	}{
		{golden: "rauc", set: []string{"ORDER", "A B", "A_OK", "1", "B_OK", "0", "A_TRY", "0", "B_TRY", "1"}},
		{golden: "escapes", set: []string{"path", `C:\boot`, "lines", "one\ntwo\\", "equals", "a=b=", "hash", "#x", "empty", "", "space", " x "}},
		{golden: "changed", set: []string{"first", "1", "second", "2", "third", "3", "first", "longer", "second", ""}, unset: "third"},
	}
	for _, tt := range tests {
		t.Run(tt.golden, func(t *testing.T) {
			want, err := os.ReadFile("testdata/" + tt.golden + ".env")
			if err != nil {
				t.Fatal(err)
			}
			empty, err := os.ReadFile("testdata/empty.env")
			if err != nil {
				t.Fatal(err)
			}
			b := parse(t, empty)
			set(t, b, tt.set...)
			b.Unset(tt.unset)
			if got := format(t, b); !bytes.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	good := block("A=1\n")
	for name, data := range map[string][]byte{
		"nothing":        nil,
		"short":          good[:1023],
		"long":           append(bytes.Clone(good), '#'),
		"zeros":          make([]byte, grubenv.Size),
		"no signature":   bytes.Replace(good, []byte("GRUB"), []byte("grub"), 1),
		"signature torn": append(make([]byte, 10), good[10:]...),
	} {
		if _, err := grubenv.Parse(data); !errors.Is(err, grubenv.ErrNotABlock) {
			t.Errorf("%s: error %v, want ErrNotABlock", name, err)
		}
	}
}

func TestGet(t *testing.T) {
	b := parse(t, block("A=1\nB=\nA=2\nx\nORDER=hidden\nNUL=a\x00b\n"))
	for name, want := range map[string]string{"A": "2", "B": "", "x\nORDER": "hidden", "NUL": "a"} {
		if got, ok := b.Get(name); !ok || got != want {
			t.Errorf("Get(%q) = %q, %v, want %q", name, got, ok, want)
		}
	}
	for _, name := range []string{"ORDER", "C", ""} {
		if got, ok := b.Get(name); ok {
			t.Errorf("Get(%q) = %q, want none", name, got)
		}
	}
}

func TestSetReplacesEveryLineOfAName(t *testing.T) {
	b := parse(t, block("x=0\nA=1\ny=0\nA=2\n"))
	set(t, b, "A", "3")
	if got, want := list(b), "x=0\nA=3\ny=0\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestSetRefuses(t *testing.T) {
	var b grubenv.Block
	for _, name := range []string{"", "#x", "a=b", "a\nb", `a\b`, "a\x00"} {
		if b.Set(name, "1") == nil {
			t.Errorf("the name %q is accepted", name)
		}
	}
	if b.Set("a", "b\x00") == nil {
		t.Error("a NUL in a value is accepted")
	}
}

func TestFormatRefusesWhatDoesNotFit(t *testing.T) {
	var b grubenv.Block
	set(t, &b, "a", strings.Repeat("x", grubenv.Size-len("# GRUB Environment Block\na=\n")))
	if got := format(t, &b); len(got) != grubenv.Size || got[grubenv.Size-1] != '\n' {
		t.Errorf("%d bytes, the last is %q", len(got), got[len(got)-1])
	}
	set(t, &b, "a", strings.Repeat("x", grubenv.Size-len("# GRUB Environment Block\na=\n")+1))
	if _, err := b.Format(); err == nil || !strings.Contains(err.Error(), "1025 bytes") {
		t.Errorf("error %v, want one that names the size", err)
	}
}

func TestFormatLead(t *testing.T) {
	b := parse(t, block("# a warning\nforeign=1\n# comment\nB=2\nforeign2=\\\\\nA=1\n"))
	got, err := b.FormatLead([]string{"A", "none", "B"}, 100)
	if err != nil {
		t.Fatal(err)
	}
	lead := "# GRUB Environment Block\n# a warning\nA=1\nB=2\n"
	want := lead + strings.Repeat("#", 99-len(lead)) + "\nforeign=1\n# comment\nforeign2=\\\\\n"
	if string(got[:len(want)]) != want || strings.Trim(string(got[len(want):]), "#") != "" || len(got) != grubenv.Size {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	again, err := parse(t, got).FormatLead([]string{"A", "none", "B"}, 100)
	if err != nil || !bytes.Equal(again, got) {
		t.Errorf("laid out twice:\n%s\nwant\n%s\n%v", again, got, err)
	}
}

// Whatever values the lead variables take, nothing behind the lead changes: one sector holds the change.
func TestFormatLeadKeepsTheRestInPlace(t *testing.T) {
	b := parse(t, block("saved_entry="+strings.Repeat("y", 500)+"\n"))
	var first []byte
	for _, order := range []string{"", "A", "A B", "B A", strings.Repeat("\\", 50)} {
		set(t, b, "ORDER", order)
		data, err := b.FormatLead([]string{"ORDER"}, 200)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = data
		}
		if !bytes.Equal(data[200:], first[200:]) {
			t.Errorf("ORDER=%q moved what is behind it", order)
		}
	}
}

func TestFormatLeadRefuses(t *testing.T) {
	var b grubenv.Block
	set(t, &b, "A", strings.Repeat("x", 100))
	if _, err := b.FormatLead([]string{"A"}, 100); err == nil || !strings.Contains(err.Error(), "first 98 bytes") {
		t.Errorf("too much to lead: %v", err)
	}
	set(t, &b, "B", strings.Repeat("x", 900))
	if _, err := b.FormatLead([]string{"A"}, 200); err == nil {
		t.Error("too much behind the lead is accepted")
	}
}

// FuzzParse: nothing panics, and what is written back means the same.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.env")
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data[25:])
	}
	f.Fuzz(func(t *testing.T, rest []byte) {
		data := append([]byte("# GRUB Environment Block\n"), rest...)
		data = append(data, bytes.Repeat([]byte("#"), grubenv.Size)...)[:grubenv.Size]
		b := parse(t, data)
		again := parse(t, format(t, b))
		if list(again) != list(b) {
			t.Errorf("written back it holds\n%q\nwant\n%q", list(again), list(b))
		}
		set(t, b, "ORDER", "A B")
		if lead, err := b.FormatLead([]string{"ORDER"}, 384); err == nil {
			if got, _ := parse(t, lead).Get("ORDER"); got != "A B" {
				t.Errorf("ORDER is %q in\n%q", got, lead)
			}
		}
	})
}

// TestAgainstTheTool lets grub-editenv read what we write, and us what it writes, where it is installed.
func TestAgainstTheTool(t *testing.T) {
	if _, err := exec.LookPath("grub-editenv"); err != nil {
		t.Skipf("%v: apt-get install grub-common", err)
	}
	file := filepath.Join(t.TempDir(), "env")
	tool := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("grub-editenv", append([]string{file}, args...)...).Output()
		if err != nil {
			t.Fatalf("grub-editenv %q: %v", args, err)
		}
		return string(out)
	}
	b := parse(t, block("x=1\n"))
	set(t, b, "A", "a\\b\n", "ORDER", "A B", "foreign", strings.Repeat("f", 500))
	data, err := b.FormatLead([]string{"ORDER", "A"}, 384)
	if err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tool("list"), "ORDER=A B\nA=a\\b\n\nx=1\nforeign="+strings.Repeat("f", 500)+"\n"; got != want {
		t.Errorf("it lists\n%s\nwant\n%s", got, want)
	}
	tool("set", "ORDER=B", "new=1")
	tool("unset", "x")
	data, err = os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := list(parse(t, data)), tool("list"); got != want {
		t.Errorf("we list\n%s\nwant\n%s", got, want)
	}
}
