package health_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/evenkeel-os/evenkeel/health"
)

// TestReportFitsTheHistory: many checks that print much, in what is longest as JSON.
func TestReportFitsTheHistory(t *testing.T) {
	for _, filler := range []string{"x", "<&>", "火", "\"\\"} {
		c := health.Config{Settle: -1}
		for i := range 40 {
			level := []health.Level{health.Wanted, health.Required}[i/20]
			c.Builtins = append(c.Builtins, builtin(fmt.Sprintf("check %d", i), level, errors.New(strings.Repeat(filler+"\n", 5000)+"THE END")))
		}
		r := probe(t, c)
		total, kept := 0, 0
		for i, c := range r.Checks {
			b, _ := json.Marshal(c.Output)
			total += len(b) - 2
			if strings.HasSuffix(c.Output, "THE END") {
				kept++
			}
			if i == 20 && len(c.Output) < 3<<10 {
				t.Errorf("%q: the first failure that counts kept %d bytes", filler, len(c.Output))
			}
		}
		if total > 32<<10 || total < 28<<10 || kept == 0 {
			t.Errorf("%q: the report has %d bytes of output, and the end of %d checks", filler, total, kept)
		}
		if c := r.Checks[0]; c.Output != "" && len(c.Output) > 1<<10 {
			t.Errorf("%q: a wanted check kept %d bytes, before those that count", filler, len(c.Output))
		}
	}
}

// TestFailuresKeepTheirOutputLongest: what passed gives way.
func TestFailuresKeepTheirOutputLongest(t *testing.T) {
	dir := t.TempDir()
	for i := range 70 {
		put(t, dir, fmt.Sprintf("required.d/%02d", i), sh+`i=0; while [ $i -lt 100 ]; do echo "talks and talks"; i=$((i+1)); done; [ `+fmt.Sprint(i)+" -lt 63 ]\n")
	}
	r := probe(t, health.Config{Dirs: []string{dir}, Settle: -1})
	for i, c := range r.Checks {
		if c.OK != (i < 63) || !c.OK && !strings.HasSuffix(c.Output, "talks\nexit status 1") || !c.OK && len(c.Output) < 1500 {
			t.Errorf("check %d: ok %v, %d bytes: %q", i, c.OK, len(c.Output), c.Output)
		}
	}
	if r.Checks[0].Output == "" || r.Checks[62].Output != "" {
		t.Errorf("passed: the first kept %d bytes, the last %d", len(r.Checks[0].Output), len(r.Checks[62].Output))
	}
}
