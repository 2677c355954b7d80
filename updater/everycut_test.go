package updater_test

import (
	"strings"
	"testing"

	"github.com/evenkeel-os/evenkeel/fixtures"
)

// maxStates bounds one world. It is far above the largest, and there to end an exploration that never would.
const maxStates = 1_000_000

// TestEveryCut explores every state that a machine can come to, with a power cut and a restart of the agent after every
// single effect, and asserts the invariants of docs/architecture.md in each of them.
func TestEveryCut(t *testing.T) {
	all := map[fixtures.LoaderKind]int{}
	states, explored := 0, 0
	for _, f := range families() {
		if testing.Short() && !f.quick || raceDetector && !f.race {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			states += exploreFamily(t, f, all)
			explored++
		})
	}
	for _, k := range fixtures.LoaderKinds() {
		t.Logf("%-12s %9d states", k, all[k])
	}
	t.Logf("%-12s %9d states", "all", states)
	if explored == len(families()) && states < 1_000_000 {
		t.Errorf("only %d states were explored", states)
	}
}

func exploreFamily(t *testing.T, f family, all map[fixtures.LoaderKind]int) (states int) {
	largest, boots := 0, 0
	seen := map[string]bool{}
	exploreAll(f.worlds(), maxStates, func(e *explorer) {
		states += len(e.list)
		all[e.w.Loader] += len(e.list)
		largest, boots = max(largest, len(e.list)), max(boots, e.boots)
		if bound := e.mostBoots(); e.boots > bound {
			t.Errorf("%s: %d boots until it rests, more than %d", e.w, e.boots, bound)
		}
		for what, trace := range e.found {
			if !seen[what] { // one trace of each kind is enough to read
				seen[what] = true
				t.Errorf("%s: %s\n    %s", e.w, what, strings.Join(trace, " > "))
			}
		}
	})
	t.Logf("%d states, %d in the largest world, at most %d boots until it rests", states, largest, boots)
	return states
}

// mostBoots is how many boots there may be until a machine rests: each attempt takes its tries and the boot of the old
// slot; a script that resets itself, or a person at a rescue prompt, doubles that; and one more release may be on offer.
func (e *explorer) mostBoots() int {
	return 2 * (e.w.settings().MaxAttempts + 1) * (e.w.Tries + 2)
}
