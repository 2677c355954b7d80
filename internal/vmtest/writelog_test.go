package vmtest

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// entry is a write, or a flush, for a test's log.
type entry struct {
	sector int64
	data   string // one letter for each sector that is filled with it
	flags  uint64
}

func writeLog(t *testing.T, entries ...entry) *WriteLog {
	t.Helper()
	b := make([]byte, 512)
	binary.LittleEndian.PutUint64(b[0:], logMagic)
	binary.LittleEndian.PutUint64(b[8:], 1)
	binary.LittleEndian.PutUint64(b[16:], uint64(len(entries)))
	binary.LittleEndian.PutUint32(b[24:], 512)
	for _, e := range entries {
		h := make([]byte, 512)
		binary.LittleEndian.PutUint64(h[0:], uint64(e.sector))
		binary.LittleEndian.PutUint64(h[8:], uint64(len(e.data)))
		binary.LittleEndian.PutUint64(h[16:], e.flags)
		b = append(b, h...)
		if e.flags&logDiscard == 0 {
			for _, c := range []byte(e.data) {
				b = append(b, bytes.Repeat([]byte{c}, 512)...)
			}
		}
	}
	name := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := OpenWriteLog(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// letters is a disk that holds one letter in each sector.
func letters(t *testing.T, s string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	for i, c := range []byte(s) {
		if _, err := f.WriteAt(bytes.Repeat([]byte{c}, 512), int64(i)*512); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func read(t *testing.T, f *os.File) string {
	t.Helper()
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	var s []byte
	for i := 0; i < len(data); i += 512 {
		if !bytes.Equal(data[i:i+512], bytes.Repeat(data[i:i+1], 512)) {
			t.Fatalf("sector %d is torn inside", i/512)
		}
		c := data[i]
		if c == 0 {
			c = '0'
		}
		s = append(s, c)
	}
	return string(s)
}

// TestCuts lists every disk that a cut may leave.
func TestCuts(t *testing.T) {
	log := []entry{
		{1, "ab", 0}, {0, "", logFlush}, {3, "cde", 0}, {1, "F", logFUA}, {0, "X", logDiscard}, {0, "", logFlush}, {5, "g", 0},
	}
	tests := []struct {
		name string
		n    int
		want []string
	}{
		{"nothing", 0, []string{"......"}},
		{"a write that was not flushed", 1, []string{"......", ".a....", "..b...", ".ab..."}},
		{"a write that was", 2, []string{".ab..."}},
		{"behind it", 3, []string{".ab...", ".abc..", ".abcd.", ".abcde", ".ab.de", ".ab..e"}},
		{"forced unit access", 4, []string{".Fb...", ".Fbc..", ".Fbcd.", ".Fbcde", ".Fb.de", ".Fb..e"}},
		{"a discard and a flush", 6, []string{"0Fbcde"}},
		{"the end", 7, []string{"0Fbcde", "0Fbcdg"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			disk := letters(t, "......")
			r := NewReplay(writeLog(t, log...), disk)
			rng := rand.New(rand.NewPCG(1, 2))
			before := ""
			seen := map[string]bool{}
			for range 200 {
				undo, err := r.CutAfter(tt.n, rng)
				if err != nil {
					t.Fatal(err)
				}
				seen[read(t, disk)] = true
				if err := undo(); err != nil {
					t.Fatal(err)
				}
				if after := read(t, disk); before != "" && after != before {
					t.Fatalf("undone, the disk is %s, not %s", after, before)
				} else {
					before = after
				}
			}
			for _, w := range tt.want {
				if !seen[w] {
					t.Errorf("%s never came up in %v", w, seen)
				}
				delete(seen, w)
			}
			if len(seen) > 0 {
				t.Errorf("these cannot be: %v", seen)
			}
		})
	}
}

func TestCutsGoForward(t *testing.T) {
	r := NewReplay(writeLog(t, entry{0, "a", 0}, entry{0, "", logFlush}), letters(t, ".."))
	if _, err := r.CutAfter(2, rand.New(rand.NewPCG(1, 2))); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 3} {
		if _, err := r.CutAfter(n, rand.New(rand.NewPCG(1, 2))); err == nil {
			t.Errorf("a cut after entry %d is accepted", n)
		}
	}
}

func TestNoWriteLog(t *testing.T) {
	for name, data := range map[string][]byte{"empty": {}, "zeros": make([]byte, 512), "text": bytes.Repeat([]byte("log "), 128)} {
		file := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenWriteLog(file); err == nil {
			t.Errorf("%s: it is accepted", name)
		}
	}
}

// TestQEMUWriteLog compares a log that QEMU wrote with the disk that it was written for.
func TestQEMUWriteLog(t *testing.T) {
	if _, err := exec.LookPath("qemu-io"); err != nil {
		t.Skipf("%v: apt-get install qemu-utils", err)
	}
	dir := t.TempDir()
	disk, log := filepath.Join(dir, "disk"), filepath.Join(dir, "log")
	for name, size := range map[string]int64{disk: 1 << 20, log: 0, filepath.Join(dir, "copy"): 1 << 20} {
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	opts := "driver=blklogwrites,log-sector-size=512,log.driver=file,log.filename=" + log + ",file.driver=file,file.filename=" + disk
	out, err := exec.Command("qemu-io", "--image-opts", opts, "-c", "write -P 1 512 4096", "-c", "flush", "-c", "write -P 2 1024 512", "-c", "write -z 8192 4096",
		"-c", "write -f -P 3 65536 1024", "-c", "flush").CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-io: %v: %s", err, out)
	}
	l, err := OpenWriteLog(log)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := os.OpenFile(filepath.Join(dir, "copy"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := NewReplay(l, f).CutAfter(l.Len(), rand.New(rand.NewPCG(1, 2))); err != nil {
		t.Fatal(err)
	}
	want, err1 := os.ReadFile(disk)
	got, err2 := os.ReadFile(f.Name())
	if err1 != nil || err2 != nil || !bytes.Equal(got, want) {
		t.Errorf("%d entries do not make the disk that QEMU wrote: %v, %v", l.Len(), err1, err2)
	}
}
