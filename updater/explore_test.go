package updater_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/updater"
)

// The explorer walks every state that one machine can come to: breadth first, from the factory's, with the real
// Agent.Step over fixtures.Machine. Here is what a state is and how they are counted; moves_test.go says what can happen
// next, judge_test.go what may not, worlds_test.go which machines there are.

// budget is how often each fault or event may still happen in one run. It is part of the state.
type budget struct {
	Cuts     int8 // power cuts, between two effects, within one, or while booting
	Fails    int8 // effects that fail, doing nothing or having happened all the same
	Menu     int8 // a person picks a slot in the boot menu
	Asks     int8 // an operator says any of world.Asks
	Withdraw int8 // release 1 is withdrawn
	Publish  int8 // release 2 is published
	Reboots  int8 // ordinary reboots
	Die      int8 // the default slot dies though it was confirmed
	Lose     int8 // the state partition is lost
	Full     int8 // the state partition fills up, or has room again
	Gate     int8 // the gate closes, or opens again
	Late     int8 // the deadline comes before the agent is done
}

// world is one machine to explore exhaustively, with what may happen to it.
type world struct {
	fixtures.Config
	Tries    int
	Attempts int  // 0: five
	NoRisk   bool // nobody accepted a loader that may not count
	Idle     bool // nothing begins without an operator
	Budget   budget
	Asks     []updater.Intent
	Mutant   func(updater.Record, updater.View) updater.Step
}

func (w world) String() string {
	s := fmt.Sprintf("%s, %s, %d tries", w.Loader, w.Kind, w.Tries)
	for name, on := range map[string]bool{"no reset causes": !w.Tells, "no watchdog": !w.Watchdog, "deaf": w.Deaf, "tears": w.Tears, "no risk": w.NoRisk, "by hand": w.ByHand, "idle": w.Idle} {
		if on {
			s += ", " + name
		}
	}
	return s + fmt.Sprintf(", %+v", w.Budget)
}

func (w world) settings() updater.Settings {
	attempts := w.Attempts
	if attempts == 0 {
		attempts = 5
	}
	return updater.Settings{Tries: w.Tries, MaxAttempts: attempts, Deadline: time.Minute, AcceptRisk: !w.NoRisk, Auto: !w.Idle}
}

// state is everything that the future depends on, as a comparable value.
type state struct {
	M       fixtures.Machine
	Rec     int32 // interned record on the state partition; 0 is none
	Mem     int32 // what the agent takes for it: another one after a save that happened and reported failure
	Loaded  bool  // the agent has read it
	Session session
	Intent  int8 // 0, or 1 + index into world.Asks
	Left    budget
	Died    bool // the default slot died: what follows is not the update's doing
	Op      bool // a person, or a fault other than a power cut, interfered
	Lost    bool // the state partition was lost
	Quiet   bool // the agent has nothing to do until something changes
}

// session is updater.Session without what cannot be compared.
type session struct {
	Settled, Installed, Baselined, Checked, Entered, Tried, Confirmed, Left, LeaveLate, Unsaved, Open, Looked, Retired bool
	Health                                                                                                             int8
	Retries                                                                                                            int8
	GaveUp                                                                                                             uint64
	Asked                                                                                                              updater.Stage
	Failed                                                                                                             updater.Do
}

func pack(s updater.Session) session {
	return session{
		s.Settled, s.Installed, s.Baselined, s.Checked, s.Entered, s.Tried, s.Confirmed, s.Left, s.LeaveLate, s.Unsaved,
		s.Verdict.Open, s.Looked, s.Retired, int8(s.Health), int8(s.Retries), s.GaveUp, s.Asked, s.Failed,
	}
}

func (s session) unpack() updater.Session {
	u := updater.Session{
		Settled: s.Settled, Installed: s.Installed, Baselined: s.Baselined, Checked: s.Checked, Entered: s.Entered,
		Tried: s.Tried, Confirmed: s.Confirmed, Left: s.Left, LeaveLate: s.LeaveLate, Unsaved: s.Unsaved, Looked: s.Looked, Retired: s.Retired,
		Health: updater.Health(s.Health), Asked: s.Asked, GaveUp: s.GaveUp, Retries: int(s.Retries), Failed: s.Failed,
	}
	u.Verdict.Open = s.Open
	if u.Health == updater.Sick {
		u.Report = updater.Report{Checks: []updater.Check{{Name: "it", Required: true}}}
	}
	if s.Entered {
		u.Lease = updater.Lease{Txn: 1}
	}
	return u
}

// records interns records: states stay small, and each record is decoded once. What only people read, and numbers that
// only grow, are levelled, for they would make equal states differ.
type records struct {
	ids  map[string]int32
	raw  [][]byte
	recs []updater.Record
	aged []int32 // the same record after a boot, -1: not known yet
}

func newRecords() *records {
	none := updater.Record{Slots: map[updater.Slot]updater.SlotRecord{}}
	return &records{ids: map[string]int32{"": 0}, raw: [][]byte{nil}, recs: []updater.Record{none}, aged: []int32{0}}
}

// read decodes b, once.
func (rs *records) read(b []byte) (updater.Record, error) {
	if id, ok := rs.ids[string(b)]; ok {
		return rs.recs[id], nil
	}
	r, err := updater.DecodeRecord(b, updater.Schema)
	if err != nil {
		return updater.Record{}, err
	}
	level(&r)
	rs.ids[string(b)] = rs.put(r)
	return r, nil
}

func (rs *records) intern(b []byte) int32 {
	if _, err := rs.read(b); err != nil {
		panic(err)
	}
	return rs.ids[string(b)]
}

func (rs *records) put(r updater.Record) int32 {
	b, err := r.Encode()
	if err != nil {
		panic(err)
	}
	id, ok := rs.ids[string(b)]
	if !ok {
		id = int32(len(rs.recs))
		rs.ids[string(b)] = id
		rs.raw, rs.recs, rs.aged = append(rs.raw, b), append(rs.recs, r), append(rs.aged, -1)
	}
	return id
}

func level(r *updater.Record) {
	r.NextTxn, r.Last, r.Rebuilt = 2, nil, ""
	if r.LoaderDoubt != "" {
		r.LoaderDoubt = "doubt"
	}
	for i := range r.Blocked {
		r.Blocked[i].Reason = ""
	}
	for i := range r.Outbox {
		r.Outbox[i] = updater.Lease{Txn: 1}
	}
	if t := r.Txn; t != nil {
		t.ID, t.Reason, t.Checks = 1, "", nil
		if t.Lease != nil {
			t.Lease = &updater.Lease{Txn: 1}
		}
	}
}

// age is the record seen from the next boot. Boot ids are only ever compared with the present one, so every other one
// may be the same, and every boot can be number 1.
func (rs *records) age(id int32) int32 {
	r := rs.recs[id]
	if r.Txn == nil {
		return id
	}
	if rs.aged[id] < 0 {
		t := *r.Txn
		for _, boot := range []*string{&t.AttemptBoot, &t.TrialBoot} {
			if *boot != "" {
				*boot = fixtures.BootID(0)
			}
		}
		r.Txn = &t
		aged := rs.put(r)
		rs.aged[id] = aged
	}
	return rs.aged[id]
}

// explorer walks one world.
type explorer struct {
	w     world
	recs  *records
	index map[state]int32
	list  []state
	from  []int32  // where each state was first reached from
	label []string // and by what
	calm  []int32  // where each state leads without faults; -1: it rests
	boots int      // most boots from any state until it rests
	found map[string][]string
}

// explore returns every violation with its shortest trace.
func explore(w world, limit int) *explorer {
	e := &explorer{w: w, recs: newRecords(), index: map[state]int32{}, found: map[string][]string{}}
	e.add(state{M: fixtures.NewMachine(w.Config), Left: w.Budget}, -1, "start")
	for i := 0; i < len(e.list); i++ {
		e.visit(int32(i))
		if len(e.list) > limit {
			e.report(fmt.Sprintf("more than %d states: the exploration is not exhaustive", limit), 0, "")
			return e
		}
	}
	e.settle()
	return e
}

func (e *explorer) visit(i int32) {
	s := e.list[i]
	for _, v := range e.judge(s) {
		e.report(v, i, "")
	}
	m := e.moves(s)
	e.calm = append(e.calm, -1)
	if m.calm.label != "" {
		e.calm[i] = e.follow(i, m.calm)
	}
	for _, t := range m.others {
		e.follow(i, t)
	}
}

func (e *explorer) follow(i int32, t move) int32 {
	for _, v := range t.wrong {
		e.report(v, i, t.label)
	}
	return e.add(t.to, i, t.label)
}

func (e *explorer) add(s state, from int32, label string) int32 {
	if id, ok := e.index[s]; ok {
		return id
	}
	id := int32(len(e.list))
	e.index[s] = id
	e.list, e.from, e.label = append(e.list, s), append(e.from, from), append(e.label, label)
	return id
}

func (e *explorer) report(what string, at int32, last string) {
	if _, ok := e.found[what]; !ok {
		e.found[what] = append(e.trace(at), last)
	}
}

func (e *explorer) trace(i int32) (t []string) {
	for ; i >= 0; i = e.from[i] {
		t = append([]string{e.label[i]}, t...)
	}
	return t
}

func (e *explorer) violations() string {
	var b strings.Builder
	for what, trace := range e.found {
		fmt.Fprintf(&b, "%s: %s\n    %s\n", e.w, what, strings.Join(trace, " > "))
	}
	return b.String()
}
