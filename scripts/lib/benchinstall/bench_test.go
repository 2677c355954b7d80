package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/partitions"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 2, 9}, 3},
	} {
		if got := median(c.in); got != c.want {
			t.Errorf("median of %v: %v, want %v", c.in, got, c.want)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing: %v", got)
	}
}

func times(name, target string, ours bool, seconds ...float64) result {
	r := result{Name: name, Target: target}
	for _, s := range seconds {
		one := sample{Seconds: s, CPU: s / 2, Peak: 10 * mib}
		if ours {
			one.Filled = &filled{}
		}
		r.Samples = append(r.Samples, one)
	}
	return r
}

// TestRatioIsByRound: rounds in which everything was slow do not move it.
func TestRatioIsByRound(t *testing.T) {
	pipe, ours := times("pipe", "", false, 1, 10, 1), times("evenkeel", "", true, 1.1, 11, 5)
	if got := ours.ratio(pipe); math.Abs(got-1.1) > 1e-9 {
		t.Errorf("ratio %v, want 1.1", got)
	}
}

func TestGoals(t *testing.T) {
	greedy := times("evenkeel-big", "empty", true, 9)
	greedy.Samples[0].Peak = maxPeak + 1
	pipe := times("pipe", "other", false, 1, 1)
	for _, c := range []struct {
		name    string
		results []result
		missed  string // a word of the complaint; empty: none
	}{
		{"met", []result{pipe, times("evenkeel", "other", true, 1.2, 1.2)}, ""},
		{"too slow", []result{pipe, times("evenkeel", "other", true, 1.3, 1.3)}, "1.30 times"},
		{"a large image takes too much memory", []result{pipe, times("evenkeel", "other", true, 1, 1), greedy}, "evenkeel-big takes 48.0 MiB"},
		{"another slot is no comparison", []result{pipe, times("evenkeel", "other", true, 1, 1), times("evenkeel-empty", "empty", true, 9, 9)}, ""},
		{"the memory of others does not count", []result{pipe, times("evenkeel", "other", true, 1, 1), {Name: "dd", Samples: []sample{{Seconds: 1, Peak: maxPeak * 2}}}}, ""},
		{"no pipe", []result{times("evenkeel", "other", true, 1)}, "not both measured"},
		{"nothing", nil, "not both measured"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &report{Results: c.results}
			r.conclude()
			got := strings.Join(r.Missed, "; ")
			if (c.missed == "") != (got == "") || !strings.Contains(got, c.missed) {
				t.Errorf("missed: %q, want %q", got, c.missed)
			}
			if _, err := json.Marshal(r); err != nil {
				t.Error(err)
			}
			var text bytes.Buffer
			if r.print(&text); c.missed != "" && !strings.Contains(text.String(), "goal missed: ") {
				t.Errorf("it prints %q", text.String())
			}
		})
	}
}

func TestContenderRunsItsPipe(t *testing.T) {
	c := contender{Name: "three", Self: true, Pipes: [][]string{
		{"printf", `{"peak_bytes": 1, "stats": {"Total": 7}}`}, {"cat"}, {"cat"},
	}}
	s, err := c.run(t.Context())
	if err != nil || s.Filled.Stats.Total != 7 || s.Seconds <= 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if s.Peak < 1 {
		t.Errorf("peak of %d bytes", s.Peak)
	}
}

// TestContenderFails: a pipe whose first process fails has failed, and a program that is not there leaves none running.
func TestContenderFails(t *testing.T) {
	for _, c := range []contender{
		{Name: "broken", Pipes: [][]string{{"sh", "-c", "echo no such image >&2; exit 3"}, {"cat"}}},
		{Name: "broken", Pipes: [][]string{{"cat", "/dev/zero"}, {"/nonexistent"}}},
	} {
		if _, err := c.run(t.Context()); err == nil {
			t.Errorf("%v: no error", c.Pipes)
		}
	}
	_, err := contender{Name: "broken", Pipes: [][]string{{"sh", "-c", "echo no such image >&2; exit 3"}}}.run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "broken failed") || !strings.Contains(err.Error(), "no such image") {
		t.Errorf("it says %v", err)
	}
}

// TestPeak: memory that was given back counts.
func TestPeak(t *testing.T) {
	big := make([]byte, 64*mib)
	for i := 0; i < len(big); i += 4096 {
		big[i] = 1
	}
	if got, err := peakOf("self"); err != nil || got < int64(len(big)) {
		t.Errorf("%d, %v", got, err)
	}
	if _, err := peakOf("0"); err == nil {
		t.Error("process 0 has a peak")
	}
}

// TestBuildMakesWhatFillReads builds a made-up image, and reads index and pack back.
func TestBuildMakesWhatFillReads(t *testing.T) {
	dir := t.TempDir()
	img := filepath.Join(dir, "small.img")
	if err := os.WriteFile(img, bytes.Repeat([]byte("evenkeel"), mib/4), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := verb(t.Context(), []string{"build", "--image", img, "--out", filepath.Join(dir, "small"), "--level", "1"}); err != nil {
		t.Fatal(err)
	}
	ix, err := readIndex(filepath.Join(dir, "small.index"))
	if err != nil || ix.Size() != 2*mib {
		t.Fatalf("%v, %v", ix, err)
	}
	f, err := os.Open(img)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := image.Verify(t.Context(), ix, f); err != nil {
		t.Error(err)
	}
	b := &bench{dir: dir}
	if size, pack, err := b.sizes("small"); err != nil || size != ix.Size() || pack != ix.PackSize() {
		t.Errorf("sizes %d and %d, %v", size, pack, err)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"sing"}, {"serve"}, {"run", "--runs", "0"}, {"build", "--image", "/nonexistent"}, {"run", "--nonsense"}} {
		if err := verb(t.Context(), args); err == nil {
			t.Errorf("%q is no mistake", args)
		}
	}
}

// TestDisk makes the disk, and sees that the code of the agent takes it for a machine that runs from slot a.
func TestDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("loop devices need root")
	}
	d, err := newDisk(t.Context(), t.TempDir(), 4*mib)
	if err != nil {
		t.Skipf("no loop device with direct I/O here: %v", err)
	}
	t.Cleanup(func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	})
	slots, err := partitions.New(slotOptions(d.root, d.dev))
	if err != nil {
		t.Fatal(err)
	}
	if run, err := slots.Running(); run != "a" || err != nil {
		t.Errorf("running %q, %v", run, err)
	}
	for _, c := range []struct {
		name   string
		before content
		zero   bool
	}{{"other", other, false}, {"empty", empty, true}} {
		if err := c.before(d, labelB); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(d.slot(labelB))
		if err != nil || len(b) != 4*mib {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		if zero := bytes.Count(b, []byte{0}) == len(b); zero != c.zero {
			t.Errorf("%s: all zeros %v", c.name, zero)
		}
	}
}
