package updater_test

import (
	"runtime"
	"slices"
	"sync"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/updater"
)

// family is a set of worlds with the same budget: each loader, each kind of image, and so on.
type family struct {
	name    string
	budget  budget
	asks    []updater.Intent
	byHand  bool   // only an operator may arm a trial
	idle    bool   // nothing begins without an operator
	tries   []int  // default 2
	tells   []bool // default both
	loaders []fixtures.LoaderKind
	kinds   []fixtures.Kind
	deaf    bool // see fixtures.Config; an operator has not accepted the risk
	tears   bool
	hangs   bool // nothing but a person ends a hang
	quick   bool // also explored with -short
	race    bool // also explored by the race detector
}

// families are what TestEveryCut explores. Several small budgets find what one big one would, at a fraction of the states.
func families() []family {
	cancelOrBack := []updater.Intent{{Verb: updater.Cancel}, {Verb: updater.Rollback}}
	everything := append([]updater.Intent{
		{Verb: updater.Update},
		{Verb: updater.Update, Version: "v1", NoReboot: true},
		{Verb: updater.Update, Version: "v2"},
		{Verb: updater.Confirm},
		{Verb: updater.Retry, Force: true},
		{Verb: updater.CheckNow},
	}, cancelOrBack...)
	told := []bool{true}
	good, bad := []fixtures.Kind{fixtures.Good}, []fixtures.Kind{fixtures.Flaky, fixtures.Sick, fixtures.Dead}
	return []family{
		{name: "power cuts", budget: budget{Cuts: 2}, tries: []int{1, 2, 3}, quick: true, race: true},
		{name: "a newer release", budget: budget{Cuts: 2, Publish: 1}},
		{name: "a withdrawn release", budget: budget{Cuts: 1, Withdraw: 1, Publish: 1}, tells: told},
		{name: "the boot menu", budget: budget{Cuts: 2, Menu: 1}, tells: told, quick: true},
		{name: "an operator", budget: budget{Cuts: 1, Asks: 1}, asks: cancelOrBack},
		{name: "an operator who is not sure", budget: budget{Cuts: 1, Asks: 2}, asks: cancelOrBack, tells: told},
		{name: "mode stage", budget: budget{Cuts: 1, Asks: 2, Publish: 1}, asks: everything, byHand: true, tells: told, kinds: good},
		{name: "mode stage, bad releases", budget: budget{Asks: 2, Reboots: 1}, asks: everything, byHand: true, tells: told, kinds: bad},
		{name: "mode check", budget: budget{Cuts: 1, Asks: 3}, asks: everything[:3], idle: true, tells: told, kinds: append(good, bad...)},
		{name: "failing disk, loader, saves", budget: budget{Cuts: 1, Fails: 2}, tells: told},
		{name: "an operator, and a failing effect", budget: budget{Cuts: 1, Fails: 1, Asks: 1}, asks: cancelOrBack, tells: told, kinds: append(good, bad...)},
		{name: "a broken disk", budget: budget{Fails: 4}, kinds: good, tells: told},
		{name: "a failing effect", budget: budget{Cuts: 1, Fails: 1, Publish: 1}, tells: told, kinds: append(good, bad...)},
		{name: "a lost state partition", budget: budget{Cuts: 1, Lose: 1, Publish: 1}, tells: told},
		{name: "a full state partition", budget: budget{Cuts: 1, Full: 2}, quick: true},
		{name: "the gate", budget: budget{Cuts: 1, Gate: 2}, tells: told, quick: true},
		{name: "an early deadline", budget: budget{Cuts: 1, Late: 1}},
		{name: "ordinary reboots", budget: budget{Cuts: 1, Reboots: 3}, tells: told, kinds: append(good, bad...)},
		{name: "a late death", budget: budget{Cuts: 1, Die: 1, Publish: 1}, loaders: []fixtures.LoaderKind{fixtures.RaucGRUB, fixtures.UBoot}},
		{name: "no watchdog", budget: budget{Cuts: 2}, kinds: []fixtures.Kind{fixtures.Hung}, hangs: true, quick: true},
		{name: "a firmware that cannot write", budget: budget{Cuts: 2, Publish: 1}, deaf: true, quick: true},
		{
			name: "torn loader writes", budget: budget{Cuts: 2, Publish: 1}, loaders: []fixtures.LoaderKind{fixtures.OurGRUB},
			tears: true, quick: true,
		},
		{name: "more cuts than attempts", budget: budget{Cuts: 6}, kinds: good},
	}
}

func (f family) worlds() (ws []world) {
	for _, l := range orElse(f.loaders, fixtures.LoaderKinds()) {
		for _, k := range orElse(f.kinds, fixtures.Kinds()) {
			for _, tells := range orElse(f.tells, []bool{true, false}) {
				for _, tries := range f.triesOf(l) {
					c := fixtures.Config{Loader: l, Kind: k, Tells: tells, Watchdog: !f.hangs, Deaf: f.deaf, Tears: f.tears, ByHand: f.byHand}
					ws = append(ws, world{Config: c, Tries: tries, NoRisk: f.deaf, Idle: f.idle, Budget: f.budget, Asks: f.asks})
				}
			}
		}
	}
	return ws
}

// triesOf are what the loader can count to.
func (f family) triesOf(l fixtures.LoaderKind) (tries []int) {
	for _, n := range orElse(f.tries, []int{2}) {
		if n = min(n, l.Caps().MaxTries); !slices.Contains(tries, n) {
			tries = append(tries, n)
		}
	}
	return tries
}

func orElse[T any](s, otherwise []T) []T {
	if s == nil {
		return otherwise
	}
	return s
}

// exploreAll explores worlds on all cores.
func exploreAll(ws []world, limit int, done func(*explorer)) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	work := make(chan world)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for w := range work {
				e := explore(w, limit)
				mu.Lock()
				done(e)
				mu.Unlock()
			}
		})
	}
	for _, w := range ws {
		work <- w
	}
	close(work)
	wg.Wait()
}
