package image

import "sync"

// tally adds up what was done, and tells.
type tally struct {
	mu sync.Mutex
	p  Progress
	on func(Progress)
}

func newTally(ix *Index, on func(Progress)) *tally {
	if on == nil {
		on = func(Progress) {}
	}
	return &tally{on: on, p: Progress{Stats: Stats{Total: ix.Size()}}}
}

func (t *tally) add(s Stats) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.p.Reused += s.Reused
	t.p.Zeroed += s.Zeroed
	t.p.Written += s.Written
	t.p.Fetched += s.Fetched
	t.p.Copied += s.Copied
	t.on(t.p)
}

func (t *tally) verified(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.p.Verified += n
	t.on(t.p)
}

func (t *tally) stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.p.Stats
}
