package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/rogpeppe/go-internal/testscript"
)

// makeLoader is "loader FILE": it begins as an EFI program does.
func makeLoader(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), append([]byte("MZ"), make([]byte, 100_000)...), 0o600))
}

// clean is "clean IMAGE SECTOR": both copies of the table are sound, and both file systems are.
func clean(ts *testscript.TestScript, _ bool, args []string) {
	sector, err := strconv.Atoi(args[1])
	ts.Check(err)
	f, err := os.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	ts.Check(err)
	table, err := gpt.Read(file.New(f, true), sector, sector)
	ts.Check(err)
	ts.Check(table.Verify(file.New(f, true), uint64(size)))
	parts := table.GetPartitions()
	esp, state := parts[0], parts[len(parts)-1]
	volume, err := os.Create(ts.MkAbs("esp.volume"))
	ts.Check(err)
	defer volume.Close()
	_, err = io.Copy(volume, io.NewSectionReader(f, esp.GetStart(), esp.GetSize()))
	ts.Check(err)
	judge(ts, "fsck.vfat", "-n", volume.Name())
	judge(ts, "e2fsck", "-f", "-n", fmt.Sprintf("%s?offset=%d", f.Name(), state.GetStart()))
	ts.Check(os.Remove(volume.Name()))
}

func judge(ts *testscript.TestScript, name string, args ...string) {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		ts.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"1KiB": 1 << 10, "512MiB": 512 << 20, "4 GiB": 4 << 30, "1TiB": 1 << 40} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1", "1M", "1MB", "1mib", "MiB", "0MiB", "-1MiB", "1.5GiB", "1048576TiB", "99999999999999999999MiB"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
}
