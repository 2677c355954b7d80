package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/evenkeel-os/evenkeel/internal/durable"
	"github.com/evenkeel-os/evenkeel/updater"
)

// Baseline is baseline.json: what worked in the slot that was left.
type Baseline struct {
	Slot   updater.Slot    `json:"slot,omitempty"`
	Boot   string          `json:"boot,omitempty"`
	Passed map[string]bool `json:"passed"` // each "as before" check by its name
}

// Baseline implements updater.Prober. It asks the "as before" checks and replaces baseline.json. One that cannot be
// replaced is removed: an old one would excuse what works now.
func (p *Prober) Baseline(ctx context.Context) error {
	if p.c.Baseline == "" {
		return nil
	}
	err := p.noteBaseline(ctx)
	if err != nil {
		return fmt.Errorf("cannot note what works in this slot: %w", errors.Join(err, durable.Remove(p.c.FS, p.c.Baseline)))
	}
	return nil
}

func (p *Prober) noteBaseline(ctx context.Context) error {
	var checks []check
	for _, c := range p.fixed() {
		if c.Level == AsBefore {
			checks = append(checks, c)
		}
	}
	b := Baseline{Passed: map[string]bool{}}
	if p.c.Who != nil {
		b = p.c.Who()
		b.Passed = map[string]bool{}
	}
	// This system has long settled: a failure is repeated a few times, for the network's sake. It is not on trial either, so
	// that Left has nothing to say.
	for _, r := range p.run(ctx, checks, nil, max(p.c.Limit, 0), 3*p.c.Every) {
		b.Passed[r.Name] = r.OK
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	data, err := json.Marshal(b)
	if err != nil {
		return err
	}
	return durable.WriteFile(p.c.FS, p.c.Baseline, data)
}

// memory is what is known about the slot before.
type memory struct {
	Baseline
	why string // nothing is known, for this reason
}

func (p *Prober) before() memory {
	if p.c.Baseline == "" {
		return memory{why: "nobody noted what worked before"}
	}
	data, err := p.c.FS.ReadFile(p.c.Baseline)
	if errors.Is(err, fs.ErrNotExist) {
		return memory{why: "nobody noted what worked before"}
	}
	m := memory{}
	if err == nil {
		err = m.decode(data)
	}
	if err != nil {
		return memory{why: fmt.Sprintf("what worked before cannot be read: %v", err)}
	}
	return m
}

// decode reads baseline.json. A null is not false: it excuses nothing.
func (m *memory) decode(data []byte) error {
	var b struct {
		Baseline
		Passed map[string]*bool `json:"passed"`
	}
	if err := json.Unmarshal(data, &b); err != nil {
		return err
	}
	m.Baseline = b.Baseline
	m.Passed = map[string]bool{}
	for name, ok := range b.Passed {
		if ok != nil {
			m.Passed[name] = *ok
		}
	}
	return nil
}

// judge says whether the result of a check counts, and for one that is measured by what was before, why.
func (m memory) judge(l Level, c *updater.Check) {
	c.Required = l != Wanted
	if l != AsBefore {
		return
	}
	worked, known := m.Passed[c.Name]
	c.Required = worked || !known
	if c.OK {
		return
	}
	where := ""
	if m.Slot != updater.NoSlot {
		where = " in slot " + string(m.Slot)
	}
	switch {
	case m.why != "":
		c.Output = add(c.Output, "it fails, and "+m.why)
	case !known:
		c.Output = add(c.Output, "it fails, and it was not tried before"+where)
	case worked:
		c.Output = add(c.Output, "it fails, but it used to work"+where)
	default:
		c.Output = add(c.Output, "it fails, and failed before"+where)
	}
}
