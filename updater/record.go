package updater

import (
	"maps"
	"slices"
	"time"

	"github.com/evenkeel-os/evenkeel/release"
)

// Phase is where the state machine stands. See the drawing above Next.
type Phase string

const (
	// Lost is the phase of a record that does not exist or cannot be read: nothing is known but what is seen.
	Lost       Phase = ""
	Idle       Phase = "idle"
	Staging    Phase = "staging"
	Staged     Phase = "staged"
	Armed      Phase = "armed"
	InTrial    Phase = "trial"
	Confirming Phase = "confirming"
	Reverting  Phase = "reverting"
	Closing    Phase = "closing"
)

// Outcome is how a transaction ended.
type Outcome string

const (
	Confirmed   Outcome = "confirmed"
	Unhealthy   Outcome = "unhealthy"     // it ran, and its health checks failed, or it was left without confirming
	NeverCameUp Outcome = "never came up" // it was started, and the agent never ran in it
	Interrupted Outcome = "interrupted"   // attempts spent without evidence, or the loader does not count
	Cancelled   Outcome = "cancelled"
	Superseded  Outcome = "superseded"
	Withdrawn   Outcome = "withdrawn"
	GaveUp      Outcome = "gave up" // it could not be written, or not armed
)

// SlotState is what the record knows about a slot's content.
type SlotState string

const (
	Unknown       SlotState = ""
	Writing       SlotState = "writing"
	Verified      SlotState = "verified"
	SlotConfirmed SlotState = "confirmed"
	Failed        SlotState = "failed"
)

// SlotRecord is what is known of one slot.
type SlotRecord struct {
	State   SlotState         `json:"state,omitempty"`
	Version string            `json:"version,omitempty"`
	Serial  uint64            `json:"serial,omitempty"`
	Images  []release.Image   `json:"images,omitempty"`
	Boot    *release.BootSpec `json:"boot,omitempty"`
	Reads   int               `json:"reads,omitempty"` // highest record schema that the agent in this slot reads
	Since   time.Time         `json:"since,omitzero"`

	extra extra
}

// Blocked is a release that is not tried again until an operator says retry.
type Blocked struct {
	Version string    `json:"version"`
	Serial  uint64    `json:"serial"`
	Outcome Outcome   `json:"outcome"`
	Reason  string    `json:"reason,omitempty"`
	Since   time.Time `json:"since,omitzero"`

	extra extra
}

// Txn is one attempt to make a release the default: an update, or an operator's rollback.
type Txn struct {
	ID       uint64          `json:"id"`
	Schema   int             `json:"schema"` // of the agent that opened it
	From     Slot            `json:"from"`
	Slot     Slot            `json:"slot"`
	Release  release.Release `json:"release"`
	Rollback bool            `json:"rollback,omitempty"` // the slot is not written, it was confirmed before
	NoReboot bool            `json:"no_reboot,omitempty"`
	By       string          `json:"by,omitempty"`     // "agent" or "operator"
	Pinned   bool            `json:"pinned,omitempty"` // the operator named the version: nothing supersedes it
	Tries    int             `json:"tries"`            // boots that one attempt may take

	Attempts    int    `json:"attempts,omitempty"`     // times that Try was called for
	AttemptBoot string `json:"attempt_boot,omitempty"` // boot id in which the last attempt was saved
	Boots       int    `json:"boots,omitempty"`        // boots of Slot in this attempt
	TrialBoot   string `json:"trial_boot,omitempty"`   // boot id of the last of them
	Unspent     int    `json:"unspent,omitempty"`      // times that the loader came back without spending a try
	Lease       *Lease `json:"lease,omitempty"`        // wanted, or held

	Outcome   Outcome `json:"outcome,omitempty"` // set from Reverting on
	Reason    string  `json:"reason,omitempty"`
	Blameless bool    `json:"blameless,omitempty"` // the loader failed, not the release: it is not blocked
	Checks    []Check `json:"checks,omitempty"`    // of the failed probe, bounded

	extra        extra // what a newer agent wrote
	extraRelease extra
}

// Closed is how the last transaction ended, kept so that "why" can answer even where the history was lost.
type Closed struct {
	Txn      uint64    `json:"txn"`
	Slot     Slot      `json:"slot"`
	Version  string    `json:"version"`
	Serial   uint64    `json:"serial"`
	Rollback bool      `json:"rollback,omitempty"`
	Outcome  Outcome   `json:"outcome"`
	Reason   string    `json:"reason,omitempty"`
	Checks   []Check   `json:"checks,omitempty"`
	At       time.Time `json:"at,omitzero"`

	extra extra
}

// Record is the journal: what was meant. It is what survives a power cut, and it is kept outside both slots.
type Record struct {
	Schema    int                 `json:"schema"`
	MinReader int                 `json:"min_reader"`
	Phase     Phase               `json:"phase"`
	NextTxn   uint64              `json:"next_txn"`
	Txn       *Txn                `json:"txn,omitempty"`
	Slots     map[Slot]SlotRecord `json:"slots,omitempty"`
	Blocked   []Blocked           `json:"blocked,omitempty"`
	// BlockedUpTo is the highest serial that the list had no room for. It and everything below it is not tried either.
	BlockedUpTo uint64  `json:"blocked_up_to,omitempty"`
	Outbox      []Lease `json:"outbox,omitempty"`
	Last        *Closed `json:"last,omitempty"`
	// LoaderCounts: this loader was once seen to spend a try. LoaderDoubt says why the boot loader is not trusted to count; Arm refuses while it is set.
	LoaderCounts bool   `json:"loader_counts,omitempty"`
	LoaderDoubt  string `json:"loader_doubt,omitempty"`
	// Rebuilt is when and why the record was rebuilt from what was seen, because it was lost or unreadable.
	Rebuilt string `json:"rebuilt,omitempty"`

	extra extra // what a newer agent wrote
}

// Event is one thing that happened, for the history and the log.
type Event struct {
	Time    time.Time `json:"time,omitzero"`
	Boot    string    `json:"boot,omitempty"`
	Kind    string    `json:"kind"` // "staging", "staged", "armed", "trial", "confirmed", "unhealthy", ...: see docs
	Txn     uint64    `json:"txn,omitempty"`
	Slot    Slot      `json:"slot,omitempty"`
	Version string    `json:"version,omitempty"`
	Serial  uint64    `json:"serial,omitempty"`
	By      string    `json:"by,omitempty"` // who wanted the transaction: "agent" or "operator"
	Message string    `json:"message"`
	Checks  []Check   `json:"checks,omitempty"`
}

// Intent is what an operator asked for.
type Intent struct {
	Verb     Verb   `json:"verb"`
	Version  string `json:"version,omitempty"` // Update: this release and no other; Retry: only this one
	NoReboot bool   `json:"no_reboot,omitempty"`
	Force    bool   `json:"force,omitempty"`
}

// Verb is a mutating command of an operator.
type Verb string

const (
	NoVerb   Verb = ""
	Update   Verb = "update"
	Rollback Verb = "rollback"
	Confirm  Verb = "confirm"
	Cancel   Verb = "cancel"
	Retry    Verb = "retry"
	CheckNow Verb = "check" // look for releases now
)

// fresh is the record of a host about which nothing is known but what is seen.
func fresh(v View) Record {
	return Record{
		Schema: Schema, MinReader: 1, Phase: Idle, NextTxn: 1,
		Slots: map[Slot]SlotRecord{v.Running: {
			State: SlotConfirmed, Version: v.Boot.Running.Version, Serial: v.Boot.Running.Serial, Reads: Schema, Since: v.Now,
		}},
	}
}

// begin opens a transaction from the running slot to the other.
func (r Record) begin(v View, rel release.Release, by string) Record {
	n := r.clone()
	rel.Notes = ""
	n.Txn = &Txn{
		ID: r.NextTxn, Schema: Schema, From: v.Running, Slot: v.Running.Other(), Release: rel, By: by,
		NoReboot: v.Intent.NoReboot, Pinned: by == operator && v.Intent.Version != "",
		Tries: max(1, min(v.Settings.Tries, v.Caps.MaxTries)),
	}
	n.NextTxn++
	return n
}

// finish closes the transaction: outcome, blocked releases, per-slot state, and the lease into the outbox, in one record.
func (r Record) finish(v View) Record {
	n := r.clone()
	t := n.Txn
	n.Phase, n.Txn = Idle, nil
	n.Last = &Closed{
		Txn: t.ID, Slot: t.Slot, Version: t.Release.Version, Serial: t.Release.Serial, Rollback: t.Rollback,
		Outcome: t.Outcome, Reason: t.Reason, Checks: t.Checks, At: v.Now,
	}
	if t.Lease != nil {
		t.Lease.Outcome = t.Outcome
		n.Outbox = append(n.Outbox, *t.Lease)
	}
	n.settleSlots(t, v)
	n.Schema = max(n.Schema, Schema)
	n.raiseMinReader(minReader)
	return n
}

// raiseMinReader lets the record demand a newer agent, but only when the agents in both slots are known to be that new:
// a rollback must never land on an agent that may not read the record.
func (r *Record) raiseMinReader(to int) {
	if r.Phase == Idle && r.Slots[A].Reads >= to && r.Slots[B].Reads >= to {
		r.MinReader = max(r.MinReader, to)
	}
}

func (r *Record) settleSlots(t *Txn, v View) {
	sr := r.Slots[t.Slot]
	switch t.Outcome {
	case Confirmed:
		sr.State, sr.Since = SlotConfirmed, v.Now
		if from := r.Slots[t.From]; t.Rollback {
			r.block(Blocked{Version: from.Version, Serial: from.Serial, Outcome: Cancelled, Reason: "the operator went back from it", Since: v.Now})
		}
	case GaveUp:
		if t.Rollback && !t.Blameless { // its boot files are damaged
			sr.State, sr.Since = Failed, v.Now
		}
	case Unhealthy, NeverCameUp, Interrupted:
		if !t.Blameless {
			sr.State, sr.Since = Failed, v.Now
			r.block(Blocked{Version: t.Release.Version, Serial: t.Release.Serial, Outcome: t.Outcome, Reason: t.Reason, Since: v.Now})
		}
	}
	r.Slots[t.Slot] = sr
	if run := r.Slots[v.Running]; run.Reads != Schema {
		run.Reads = Schema
		r.Slots[v.Running] = run
	}
}

// maxBlocked bounds the list. The lowest serial leaves it, which is often one that is older than what runs; where it is
// not, it would be tried again, and then each of the others in turn, so that everything up to it stays blocked.
const maxBlocked = 16

func (r *Record) block(b Blocked) {
	if _, ok := r.blocked(b.Serial); ok {
		return
	}
	r.Blocked = append(r.Blocked, b)
	if len(r.Blocked) <= maxBlocked {
		return
	}
	low := 0
	for i, x := range r.Blocked {
		if x.Serial < r.Blocked[low].Serial {
			low = i
		}
	}
	r.BlockedUpTo = max(r.BlockedUpTo, r.Blocked[low].Serial)
	r.Blocked = slices.Delete(r.Blocked, low, low+1)
}

func (r Record) blocked(serial uint64) (Blocked, bool) {
	for _, b := range r.Blocked {
		if b.Serial == serial {
			return b, true
		}
	}
	return Blocked{}, false
}

// clone copies what a step may change; records are values, so that a failed save leaves the old one intact.
func (r Record) clone() Record {
	n := r
	n.Slots = make(map[Slot]SlotRecord, 2)
	maps.Copy(n.Slots, r.Slots)
	n.Blocked = slices.Clone(r.Blocked)
	n.Outbox = slices.Clone(r.Outbox)
	if r.Txn != nil {
		t := *r.Txn
		if t.Lease != nil {
			l := *t.Lease
			t.Lease = &l
		}
		n.Txn = &t
	}
	return n
}
