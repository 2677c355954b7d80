package durable_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/internal/durable"
)

const cellPath = "/state/record"

func value(n int) []byte { return bytes.Repeat([]byte{byte('a' + n)}, 5000) }

// TestCellSurvivesEveryCut cuts the power after each step of each of several saves, in every way in which a file system may
// lose what was not synced: what is loaded is the value before or after, whichever generation was being written.
func TestCellSurvivesEveryCut(t *testing.T) {
	const saves = 4
	for n := 0; ; n++ {
		disk := fixtures.NewFS()
		disk.CutAfter(n)
		done, err := 0, error(nil)
		for i := 0; i < saves && err == nil; i++ {
			if err = durable.NewCell(disk, cellPath).Save(value(i)); err == nil {
				done = i + 1
			}
		}
		for _, how := range fixtures.Crashes() {
			got, lerr := durable.NewCell(disk.Crash(how), cellPath).Load()
			before, after := []byte(nil), value(done)
			if done > 0 {
				before = value(done - 1)
			}
			if lerr != nil || !bytes.Equal(got, before) && (err == nil || !bytes.Equal(got, after)) {
				t.Fatalf("cut after %d steps, %v survived, %d saves done: loaded %.20q, %v", n, how, done, got, lerr)
			}
		}
		if err == nil {
			if n < saves*2 {
				t.Errorf("%d saves took %d steps: too few to be durable", saves, n)
			}
			return
		}
	}
}

func TestCellSavesOnAFullDisk(t *testing.T) {
	disk := fixtures.NewFS()
	cell := durable.NewCell(disk, cellPath)
	if err := cell.Save(value(0)); err != nil {
		t.Fatal(err)
	}
	disk.Limit(2 * durable.Generation)
	for i := 1; i < 5; i++ {
		if err := cell.Save(value(i)); err != nil {
			t.Fatalf("save %d on a full disk: %v", i, err)
		}
	}
	if got, _ := cell.Load(); !bytes.Equal(got, value(4)) {
		t.Errorf("loaded %.20q", got)
	}
	if err := cell.Aside([]byte("damaged")); err != nil {
		t.Errorf("Aside on a full disk: %v: it must not stop anybody", err)
	}
	if err := durable.NewCell(disk, "/state/other").Save(value(0)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a new cell on a full disk: %v, want ENOSPC", err)
	}
}

func TestCellDamage(t *testing.T) {
	fresh := func(t *testing.T, saves int) (*durable.Memory, []byte) {
		t.Helper()
		m := durable.NewMemory()
		for i := range saves {
			if err := durable.NewCell(m, cellPath).Save(value(i)); err != nil {
				t.Fatal(err)
			}
		}
		data, err := m.ReadFile(cellPath)
		if err != nil {
			t.Fatal(err)
		}
		return m, data
	}
	put := func(t *testing.T, m *durable.Memory, data []byte) {
		t.Helper()
		if err := durable.WriteFile(m, cellPath, data); err != nil {
			t.Fatal(err)
		}
	}
	// Saves 0 and 1 are in the generations 0 and 1.
	for _, c := range []struct {
		name   string
		damage func(data []byte) []byte
		want   []byte // nil: nothing; or what begins the damaged bytes
	}{
		{"none", func(d []byte) []byte { return d }, value(1)},
		{"a bit of the newer value", func(d []byte) []byte { d[durable.Generation+900] ^= 1; return d }, value(0)},
		{"a bit of its sequence number", func(d []byte) []byte { d[durable.Generation+8] ^= 1; return d }, value(0)},
		{"its length is absurd", func(d []byte) []byte { d[durable.Generation+19] = 0xff; return d }, value(0)},
		{"the older generation", func(d []byte) []byte { clear(d[:durable.Generation]); return d }, value(1)},
		{"cut off after the older", func(d []byte) []byte { return d[:durable.Generation] }, value(0)},
		{"both", func(d []byte) []byte { d[30] ^= 1; d[durable.Generation+30] ^= 1; return d }, []byte("EVKCELL1")},
		{"all zeros", func(d []byte) []byte { clear(d); return d }, nil},
		{"empty", func([]byte) []byte { return nil }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, data := fresh(t, 2)
			put(t, m, c.damage(data))
			cell := durable.NewCell(m, cellPath)
			got, err := cell.Load()
			if err != nil || !bytes.HasPrefix(got, c.want) || (c.want == nil) != (got == nil) {
				t.Fatalf("loaded %.20q, %v, want %.20q", got, err, c.want)
			}
			if err := cell.Save([]byte("again")); err != nil {
				t.Fatal(err)
			}
			if got, err := cell.Load(); err != nil || string(got) != "again" {
				t.Errorf("after the next save: %.20q, %v", got, err)
			}
		})
	}
}

// deadSectors is a file system on which ranges of the cell cannot be read.
type deadSectors struct {
	durable.FS
	dead func(off int64) bool
}

var errDead = &os.PathError{Op: "read", Path: cellPath, Err: syscall.EIO}

func (d deadSectors) ReadFile(string) ([]byte, error) { return nil, errDead }

func (d deadSectors) Open(name string) (durable.File, error) {
	f, err := d.FS.Open(name)
	return deadFile{f, d.dead}, err
}

type deadFile struct {
	durable.File
	dead func(off int64) bool
}

func (f deadFile) ReadAt(p []byte, off int64) (int, error) {
	if f.dead(off) {
		return 0, errDead
	}
	return f.File.ReadAt(p, off)
}

func TestCellWithDeadSectors(t *testing.T) {
	m := durable.NewMemory()
	for i := range 2 {
		if err := durable.NewCell(m, cellPath).Save(value(i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		dead func(off int64) bool
		want []byte
	}{
		{"the older generation", func(off int64) bool { return off == 0 }, value(1)},
		{"the newer generation", func(off int64) bool { return off > 0 }, value(0)},
	} {
		if got, err := durable.NewCell(deadSectors{m, c.dead}, cellPath).Load(); err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%s is dead: loaded %.20q, %v", c.name, got, err)
		}
	}
	all := durable.NewCell(deadSectors{m, func(int64) bool { return true }}, cellPath)
	if _, err := all.Load(); !errors.Is(err, syscall.EIO) {
		t.Errorf("everything is dead: %v, want EIO", err)
	}
}

func TestCellRefusesWhatDoesNotFit(t *testing.T) {
	cell := durable.NewCell(durable.NewMemory(), cellPath)
	err := cell.Save(make([]byte, durable.MaxCell+1))
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint(durable.MaxCell)) {
		t.Errorf("error %v does not say how much fits", err)
	}
	if err := cell.Save(make([]byte, durable.MaxCell)); err != nil {
		t.Error(err)
	}
}

func TestCellOnTheRealFileSystem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "record")
	cell := durable.NewCell(durable.OS{}, path)
	if got, err := cell.Load(); got != nil || err != nil {
		t.Errorf("before the first save: %q, %v", got, err)
	}
	for i := range 3 {
		if err := cell.Save(value(i)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := durable.NewCell(durable.OS{}, path).Load(); err != nil || !bytes.Equal(got, value(2)) {
		t.Errorf("loaded %.20q, %v", got, err)
	}
}

func FuzzCell(f *testing.F) {
	m := durable.NewMemory()
	_ = durable.NewCell(m, cellPath).Save([]byte("value"))
	data, _ := m.ReadFile(cellPath)
	f.Add(data)
	f.Add([]byte("EVKCELL1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := durable.NewMemory()
		if err := durable.WriteFile(m, cellPath, data); err != nil {
			t.Fatal(err)
		}
		cell := durable.NewCell(m, cellPath)
		if _, err := cell.Load(); err != nil {
			t.Fatal(err)
		}
		if err := cell.Save([]byte("next")); err != nil {
			t.Fatal(err)
		}
		if got, err := cell.Load(); err != nil || string(got) != "next" {
			t.Errorf("loaded %q, %v", got, err)
		}
	})
}
