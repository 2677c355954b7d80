package durable_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/internal/durable"
)

type entry struct {
	N    int    `json:"n"`
	Text string `json:"text,omitempty"`
}

func numbers(t *testing.T, l *durable.Log) []int {
	t.Helper()
	raw, err := l.Entries()
	if err != nil {
		t.Fatal(err)
	}
	ns := make([]int, len(raw))
	for i, r := range raw {
		var e entry
		if err := json.Unmarshal(r, &e); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		ns[i] = e.N
	}
	return ns
}

// consecutive checks that ns are numbers without a gap that end in last.
func consecutive(t *testing.T, ns []int, last int) {
	t.Helper()
	for i, n := range ns {
		if want := last - len(ns) + 1 + i; n != want {
			t.Fatalf("entries = %v, want consecutive numbers that end in %d", ns, last)
		}
	}
	if len(ns) == 0 {
		t.Fatalf("no entries, want some that end in %d", last)
	}
}

func TestLogIsEmptyBeforeItIsWritten(t *testing.T) {
	if got := numbers(t, durable.NewLog(fixtures.NewFS(), "/state/history", 1<<20)); len(got) != 0 {
		t.Errorf("entries = %v", got)
	}
}

func TestLogRotates(t *testing.T) {
	disk := fixtures.NewFS()
	const bound = 200 << 10
	l := durable.NewLog(disk, "/state/history", bound)
	for n := range 100 {
		if err := l.Append(entry{N: n, Text: strings.Repeat("x", 8<<10)}); err != nil {
			t.Fatal(err)
		}
		consecutive(t, numbers(t, l), n)
	}
	a, _ := disk.ReadFile("/state/history")
	b, _ := disk.ReadFile("/state/history.1")
	if len(a)+len(b) > bound+16<<10 {
		t.Errorf("the log takes %d bytes, its bound is %d", len(a)+len(b), bound)
	}
	if got := numbers(t, l); len(got) < 12 {
		t.Errorf("only %d entries are left, want about half of the bound at least", len(got))
	}
}

// TestLogSurvivesEveryCut cuts the power after each step of appending, rotation included. What was acknowledged is there;
// what was not is there or not; and the log goes on.
func TestLogSurvivesEveryCut(t *testing.T) {
	for n := 0; ; n++ {
		disk := fixtures.NewFS()
		l := durable.NewLog(disk, "/state/history", 0) // 64 KiB a file
		disk.CutAfter(n)
		acknowledged := -1
		var err error
		for i := 0; i < 6 && err == nil; i++ {
			if err = l.Append(entry{N: i, Text: strings.Repeat("y", 30<<10)}); err == nil {
				acknowledged = i
			}
		}
		for _, how := range fixtures.Crashes() {
			after := durable.NewLog(disk.Crash(how), "/state/history", 0)
			got := numbers(t, after)
			if acknowledged >= 0 && (len(got) == 0 || got[len(got)-1] < acknowledged) {
				t.Fatalf("cut after %d steps, %v: entries %v, but %d was acknowledged", n, how, got, acknowledged)
			}
			if err := after.Append(entry{N: 1000}); err != nil {
				t.Fatalf("cut after %d steps, %v: cannot go on: %v", n, how, err)
			}
			if again := numbers(t, after); len(again) == 0 || again[len(again)-1] != 1000 {
				t.Fatalf("cut after %d steps, %v: entries %v, want 1000 at the end", n, how, again)
			}
		}
		if err == nil {
			return
		}
	}
}

func TestLogSkipsDamage(t *testing.T) {
	good := func(n int) string {
		disk := fixtures.NewFS()
		_ = durable.NewLog(disk, "/h", 0).Append(entry{N: n})
		b, _ := disk.ReadFile("/h")
		return string(b)
	}
	one, two := good(1), good(2)
	for name, tc := range map[string]struct {
		content string
		want    []int
	}{
		"torn line at the end":  {one + two[:len(two)/2], []int{1}},
		"zeros at the end":      {one + strings.Repeat("\x00", 500), []int{1}},
		"torn line, then whole": {one[:9] + "\n" + two, []int{2}},
		"flipped bit":           {strings.Replace(one, "1}", "3}", 1) + two, []int{2}},
		"not a log at all":      {"hello\nworld\n", nil},
		"right sum, not JSON":   {"00000000 \n", nil},
		"empty":                 {"", nil},
		"two lines glued":       {strings.TrimSuffix(one, "\n") + two, nil},
	} {
		t.Run(name, func(t *testing.T) {
			disk := fixtures.NewFS()
			disk.Put("/h", []byte(tc.content))
			l := durable.NewLog(disk, "/h", 0)
			if got := numbers(t, l); fmt.Sprint(got) != fmt.Sprint(append([]int{}, tc.want...)) {
				t.Errorf("entries = %v, want %v", got, tc.want)
			}
			if err := l.Append(entry{N: 9}); err != nil {
				t.Fatal(err)
			}
			if got := numbers(t, l); fmt.Sprint(got) != fmt.Sprint(append(tc.want, 9)) {
				t.Errorf("after Append: %v, want %v and 9", got, tc.want)
			}
		})
	}
}

// TestLogOnAFullDisk: the oldest entries make room for the newest, down to a disk that nobody else leaves anything of.
func TestLogOnAFullDisk(t *testing.T) {
	disk := fixtures.NewFS()
	l := durable.NewLog(disk, "/state/history", 0)
	disk.Put("/state/other", make([]byte, 500<<10))
	disk.Limit(600 << 10)
	for n := range 300 {
		if n == 150 {
			used, _ := disk.ReadFile("/state/history")
			disk.Limit(500<<10 + int64(len(used))) // not one byte more
		}
		if err := l.Append(entry{N: n, Text: strings.Repeat("z", 1<<10)}); err != nil {
			t.Fatalf("entry %d: %v", n, err)
		}
		consecutive(t, numbers(t, l), n)
	}
}

func TestLogFullDiskAndNothingToGive(t *testing.T) {
	disk := fixtures.NewFS()
	disk.Put("/state/other", make([]byte, 100))
	disk.Limit(100)
	if err := durable.NewLog(disk, "/state/history", 0).Append(entry{N: 1}); err == nil {
		t.Error("an entry was written to a disk without room")
	}
}

func TestLogRefusesHugeEntries(t *testing.T) {
	l := durable.NewLog(fixtures.NewFS(), "/h", 1<<30)
	if err := l.Append(entry{Text: strings.Repeat("x", 1<<20)}); err == nil || !strings.Contains(err.Error(), "/h") {
		t.Errorf("error = %v, want one that names the log", err)
	}
	if err := l.Append(func() {}); err == nil {
		t.Error("a function was encoded")
	}
}

func TestLogReportsReadErrors(t *testing.T) {
	disk := fixtures.NewFS()
	disk.CutAfter(0)
	if _, err := durable.NewLog(disk, "/h", 0).Entries(); !errors.Is(err, fixtures.ErrPowerCut) {
		t.Errorf("error = %v", err)
	}
}

func TestLogOnTheRealFileSystem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "history")
	for n := range 5 {
		if err := durable.NewLog(durable.OS{}, path, 0).Append(entry{N: n}); err != nil {
			t.Fatal(err)
		}
	}
	consecutive(t, numbers(t, durable.NewLog(durable.OS{}, path, 0)), 4)
}

func FuzzLogEntries(f *testing.F) {
	f.Add([]byte("00000000 {}\n"))
	f.Add([]byte("\x00\x00\n\n 1 2 3"))
	f.Fuzz(func(t *testing.T, content []byte) {
		disk := fixtures.NewFS()
		disk.Put("/h", content)
		l := durable.NewLog(disk, "/h", 0)
		before := len(numbersOf(t, l))
		if err := l.Append(entry{N: 7}); err != nil {
			t.Fatal(err)
		}
		after := numbersOf(t, l)
		if len(content) < 60<<10 && (len(after) != before+1 || !bytes.Contains(after[len(after)-1], []byte("7"))) {
			t.Fatalf("%d entries before, %d after one more", before, len(after))
		}
	})
}

func numbersOf(t *testing.T, l *durable.Log) []json.RawMessage {
	raw, err := l.Entries()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
