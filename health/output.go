package health

import (
	"cmp"
	"encoding/json"
	"slices"
	"sync"

	"github.com/evenkeel-os/evenkeel/internal/text"
	"github.com/evenkeel-os/evenkeel/updater"
)

const (
	maxOutput = 4 << 10  // bytes kept of one check
	maxPassed = 512      // of one that passed
	maxAll    = 32 << 10 // of all checks, as JSON
)

// output is what one try of a check printed. A try that was left behind may still write to it.
type output struct {
	mu  sync.Mutex
	buf text.Buffer
}

func newOutput() *output { return &output{buf: text.Buffer{Keep: maxOutput}} }

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

// describe returns what was printed, and then why it failed.
func (o *output) describe(err error) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		return text.Tail(o.buf.String(), maxPassed)
	}
	return add(o.buf.String(), err.Error())
}

// add appends a line to the output of a check; what is too long loses its beginning.
func add(out, line string) string {
	if out != "" {
		out += "\n"
	}
	return text.Tail(out+line, maxOutput)
}

// fit shortens the output of checks until all of it fits into a report: the failures that count keep theirs longest.
func fit(checks []updater.Check) {
	var order []*updater.Check
	for i := range checks {
		order = append(order, &checks[i])
	}
	slices.SortStableFunc(order, func(a, b *updater.Check) int { return cmp.Compare(weight(b), weight(a)) })
	left := maxAll
	for _, c := range order {
		for keep := maxOutput; size(c.Output) > left && keep >= 64; keep /= 2 {
			c.Output = text.Tail(c.Output, keep)
		}
		if size(c.Output) > left {
			c.Output = ""
		}
		left -= size(c.Output)
	}
}

func weight(c *updater.Check) int {
	switch {
	case c.OK:
		return 0
	case c.Required:
		return 2
	}
	return 1
}

// size is what s takes in JSON.
func size(s string) int {
	b, _ := json.Marshal(s)
	return len(b) - len(`""`)
}
