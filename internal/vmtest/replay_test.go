package vmtest

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/evenkeel-os/evenkeel/updater"
)

func TestPlan(t *testing.T) {
	x := &run{s: Scenario{Replay: Replayed{Looked: 5, Booted: 2}}, marks: []mark{{"staging", 0}, {"staged", 100}, {"armed", 100}, {"confirmed", 107}}}
	cuts := x.plan(150, rand.New(rand.NewPCG(1, 2)))
	booted := 0
	for i, c := range cuts {
		if c.boot {
			booted++
		}
		if i > 0 && c.entry < cuts[i-1].entry {
			t.Errorf("cut %d comes before the one that it follows", c.entry)
		}
		if c.entry < 0 || c.entry > 150 {
			t.Errorf("the log has no entry %d", c.entry)
		}
	}
	if booted != 2 {
		t.Errorf("%d are booted, want 2", booted)
	}
	for _, m := range x.marks {
		if !slices.ContainsFunc(cuts, func(c powerCut) bool { return c.entry == m.entries && c.behind == m.name }) {
			t.Errorf("no cut right at %q", m.name)
		}
	}
	if again := x.plan(150, rand.New(rand.NewPCG(1, 2))); !slices.Equal(cuts, again) {
		t.Error("the same seed cuts elsewhere")
	}
}

func TestMarks(t *testing.T) {
	for line, want := range map[string]string{
		"evenkeel: booting slot b (trial, 1 tries left)":                         "evenkeel: booting slot b",
		"[   86.837882] evenkeel[154]: staged: slot b reads back as release 2.0": "staged: ",
		"[   99.098095] evenkeel[154]: try release 2.0 in slot b":                "try release ",
		"[   82.505000] evenkeel[154]: may release 2.0 be tried now?":            "",
		"[   34.653537] evenkeel[149]: trial: slot b runs on trial, boot 1 of 2": "trial: ",
	} {
		if got := marks.FindString(line); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

func TestOnlyDirty(t *testing.T) {
	dirty := `fsck.fat 4.2 (2021-01-31)
There are differences between boot sector and its backup.
This is mostly harmless. Differences: (offset:original/backup)
  65:01/00
  Not automatically fixing this.
Dirty bit is set. Fs was not properly unmounted and some data may be corrupt.
 Automatically removing dirty bit.

Leaving filesystem unchanged.
/tmp/esp-1579222339: 13 files, 28553/128992 clusters
`
	if !onlyDirty(dirty) {
		t.Error("a file system that was cut off is taken for damaged")
	}
	for _, line := range []string{"  3:01/00", "FATs differ but appear to be intact.", "/evenkeel/b/vmlinuz\n  Contains a free cluster (28558). Assuming EOF."} {
		if onlyDirty(dirty + line + "\n") {
			t.Errorf("%q is taken for harmless", line)
		}
	}
}

func TestVital(t *testing.T) {
	got := vital(updater.BootState{EnabledB: true})
	if !slices.Contains(got, "b/vmlinuz") || slices.Contains(got, "a/vmlinuz") || !slices.Contains(got, "grubenv") {
		t.Errorf("%q", got)
	}
}
