package vmtest

import (
	"fmt"
	"slices"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/updater"
)

// Scenario is what happens to one machine, as data. It begins as the machine leaves the factory, with Releases[0] in slot
// a, and a repository that offers all of Releases.
type Scenario struct {
	Name     string
	Shows    string
	Core     bool   // CI runs it: those that were seen to come to their end on a real machine
	Config   string // on the state partition
	Releases []Release
	Acts     []Act
	End      End
	Replay   Replayed // what its write log is used for
}

// Act is one thing that happens; one of its fields is set.
type Act struct {
	Until  updater.Outcome // the machine is left alone until an update has ended so
	Cut    Point           // power is cut when an update has come so far, and comes back at once
	Reboot bool            // the operator reboots
	Ask    updater.Verb    // the operator says so
	Offer  *Release        // the repository offers one more
	Attack string          // the repository is attacked, or the host maltreated, and then left in peace: see attacks
	Idle   bool            // three looks at the repository pass, and nothing happens
}

// Point is how far an update has come.
type Point string

// Where power is cut. At the other moments it depends on luck what a cut leaves: WriteLog has them all.
const (
	WhileWriting Point = "while writing" // in the middle of the root image
	WhenArmed    Point = "when armed"    // before the machine has rebooted
	OnTrial      Point = "on trial"      // before its health is known
)

// End is what must have come of it.
type End struct {
	Running updater.Slot
	Version string   // that runs
	Blocked []string // versions
	History []string // texts that the history holds, in this order
	Record  string   // a text that the record on the disk holds
	Holds   map[updater.Slot]string
}

// tries of every machine; see overlay/etc/evenkeel/config.yaml.
const (
	tries       = 2
	maxAttempts = 3
)

func v1() Release { return Release{Version: "1.0", Serial: 10} }

func v2(k fixtures.Kind) Release { return Release{Version: "2.0", Serial: 20, Kind: k} }

func v3() Release { return Release{Version: "3.0", Serial: 30} }

// bad is the scenario of a release that must not become the default.
func bad(k fixtures.Kind, shows string, o updater.Outcome, history ...string) Scenario {
	return Scenario{
		Name: k.String(), Shows: shows, Core: true, Releases: []Release{v1(), v2(k)},
		Acts: []Act{{Until: o}, {Idle: true}},
		End:  End{Running: updater.A, Version: "1.0", Blocked: []string{"2.0"}, History: history},
	}
}

// Scenarios lists them all.
func Scenarios() []Scenario {
	mute := bad(fixtures.Mute, "its agent crashes whenever it is started: the deadline unit goes back", updater.NeverCameUp, "its agent did not report by the deadline")
	mute.Core = false
	mute.Config = "health:\n  timeout: 20s\n  deadline: 30s\n"
	list := []Scenario{
		{
			Name: "good", Shows: "1.0 -> 2.0: staged, tried, healthy, confirmed; the next boot stays in 2.0", Core: true,
			Releases: []Release{v1(), v2(fixtures.Good)},
			Acts:     []Act{{Until: updater.Confirmed}, {Reboot: true}, {Idle: true}},
			End: End{
				Running: updater.B, Version: "2.0", History: []string{"staged", "armed", "trial", "healthy", "confirmed"},
				Holds: map[updater.Slot]string{updater.A: "1.0", updater.B: "2.0"},
			},
		},
		bad(fixtures.Sick, "a health check fails: back, blocked, its output is in the history", updater.Unhealthy, "the application does not answer: connection refused"),
		bad(fixtures.Dead, "init ends at once: the kernel panics, and says so from the grave", updater.NeverCameUp, "its kernel panicked", "Attempted to kill init"),
		bad(fixtures.Unloadable, "its kernel file is cut short: GRUB notes it", updater.NeverCameUp, "the boot loader could not load it"),
		mute,
		bad(fixtures.Hung, "nothing runs any more: the hardware watchdog resets it", updater.NeverCameUp, "the hardware watchdog reset it"),
		bad(fixtures.Crashy, "the kernel crashes after the agent has begun the trial", updater.Unhealthy, "its kernel panicked", "sysrq triggered crash"),
	}
	list[len(list)-1].Core = false // to the firmware it is a dead one
	for i, p := range []Point{WhileWriting, WhenArmed, OnTrial} {
		list = append(list, Scenario{
			Name: fmt.Sprintf("cut-%s", []string{"writing", "armed", "trial"}[i]), Shows: "power is cut " + string(p) + ", and the update ends well all the same",
			Releases: []Release{v1(), v2(fixtures.Good)},
			Acts:     []Act{{Cut: p}, {Until: updater.Confirmed}},
			End:      End{Running: updater.B, Version: "2.0", Holds: map[updater.Slot]string{updater.A: "1.0", updater.B: "2.0"}},
		})
	}
	for _, replay := range []struct {
		name string
		r    Replayed
	}{{"cuts", Replayed{Looked: 6, Booted: 2}}, {"cuts-more", Replayed{Looked: 40, Booted: -1}}} {
		list = append(list, Scenario{
			Name: replay.name, Shows: "power is cut wherever the write log allows, with unflushed writes there, gone or torn",
			Releases: []Release{v1(), v2(fixtures.Good)}, Acts: []Act{{Until: updater.Confirmed}}, Replay: replay.r,
			End: End{Running: updater.B, Version: "2.0", Holds: map[updater.Slot]string{updater.A: "1.0", updater.B: "2.0"}},
		})
	}
	return slices.Concat(list, byHand(), []Scenario{agents()}, hostile())
}

// hostile are those in which the repository or the host is not what it should be. What they attack stays as it is.
func hostile() []Scenario {
	confirmed := End{Running: updater.B, Version: "2.0", Holds: map[updater.Slot]string{updater.A: "1.0", updater.B: "2.0"}}
	foreign := v2(fixtures.Good)
	foreign.Compatible = "other-board"
	return []Scenario{
		{
			Name: "tampered", Shows: "the timestamp is tampered with, the repository vanishes, index and pack are tampered with; then it is well",
			Releases: []Release{v1(), v2(fixtures.Good)}, End: confirmed,
			Acts: []Act{
				{Attack: "the timestamp is tampered with"},
				{Attack: "the repository is gone"},
				{Attack: "an index is tampered with"},
				{Attack: "a pack is tampered with"},
				{Until: updater.Confirmed},
			},
		},
		{
			Name: "foreign", Shows: "a release for another machine is left alone, the next one is installed",
			Releases: []Release{v1(), foreign},
			Acts:     []Act{{Attack: "a release is for another machine"}, {Offer: ptr(v3())}, {Until: updater.Confirmed}},
			End:      End{Running: updater.B, Version: "3.0", Holds: map[updater.Slot]string{updater.A: "1.0", updater.B: "3.0"}},
		},
		{
			Name: "state-full", Shows: "the state partition is full: nothing changes; with room again the update goes through", Releases: []Release{v1(), v2(fixtures.Good)}, End: confirmed,
			Acts: []Act{{Attack: "the state partition is full"}, {Until: updater.Confirmed}},
		},
		{
			Name: "state-lost", Shows: "the state partition is lost: nothing is written; made anew, the update goes through", Releases: []Release{v1(), v2(fixtures.Good)}, End: confirmed,
			Acts: []Act{{Attack: "the state partition is lost"}, {Until: updater.Confirmed}},
		},
	}
}

// agents is an agent that takes over what a later one has begun, and the other way round.
func agents() Scenario {
	later := v2(fixtures.Good)
	later.Agent = "evenkeel-next"
	return Scenario{
		Name: "agents", Shows: "1.0 -> 2.0, whose agent writes a later record; back to 1.0: the old agent ends what the later one began",
		Releases: []Release{v1(), later},
		Acts:     []Act{{Until: updater.Confirmed}, {Ask: updater.Rollback}, {Until: updater.Confirmed}, {Idle: true}},
		End: End{
			Running: updater.A, Version: "1.0", Blocked: []string{"2.0"}, History: []string{"confirmed", "rollback", "confirmed"}, Record: `"novelty":"of a later agent"`,
			Holds: map[updater.Slot]string{updater.A: "1.0", updater.B: "2.0"},
		},
	}
}

// byHand are those in which an operator or a later release has a part.
func byHand() []Scenario {
	return []Scenario{
		{
			Name: "rollback", Shows: "the operator goes back to 1.0, which is tried like any release; 2.0 is blocked until 3.0 comes",
			Releases: []Release{v1(), v2(fixtures.Good)},
			Acts:     []Act{{Until: updater.Confirmed}, {Ask: updater.Rollback}, {Until: updater.Confirmed}, {Idle: true}},
			End: End{
				Running: updater.A, Version: "1.0", Blocked: []string{"2.0"}, History: []string{"confirmed", "rollback", "confirmed"},
				Holds: map[updater.Slot]string{updater.A: "1.0", updater.B: "2.0"},
			},
		},
		{
			Name: "demo", Shows: "a bad release, a good one, and back by hand; with -console",
			Releases: []Release{v1(), v2(fixtures.Sick)},
			Acts: []Act{
				{Until: updater.Unhealthy}, {Offer: ptr(v3())}, {Until: updater.Confirmed}, {Ask: updater.Rollback}, {Until: updater.Confirmed},
			},
			End: End{
				Running: updater.A, Version: "1.0", Blocked: []string{"2.0", "3.0"}, History: []string{"unhealthy", "confirmed", "rollback", "confirmed"},
				Holds: map[updater.Slot]string{updater.A: "1.0", updater.B: "3.0"},
			},
		},
		{
			Name: "sick-then-good", Shows: "a release that was blocked does not keep the next one away",
			Releases: []Release{v1(), v2(fixtures.Sick)},
			Acts:     []Act{{Until: updater.Unhealthy}, {Offer: ptr(v3())}, {Until: updater.Confirmed}},
			End: End{
				Running: updater.B, Version: "3.0", Blocked: []string{"2.0"}, History: []string{"unhealthy", "confirmed"},
				Holds: map[updater.Slot]string{updater.A: "1.0", updater.B: "3.0"},
			},
		},
	}
}

func ptr[T any](x T) *T { return &x }
