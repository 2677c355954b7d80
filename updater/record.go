package updater

import (
	"time"

	"github.com/evenkeel-os/evenkeel/release"
)

// Phase is where the state machine stands. See the drawing above Next.
type Phase string

const (
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
	GaveUp      Outcome = "gave up" // it could not be written
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
}

// Blocked is a release that is not tried again until an operator says retry.
type Blocked struct {
	Version string    `json:"version"`
	Serial  uint64    `json:"serial"`
	Outcome Outcome   `json:"outcome"`
	Reason  string    `json:"reason,omitempty"`
	Since   time.Time `json:"since,omitzero"`
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
	By       string          `json:"by,omitempty"` // "agent" or "operator"
	Tries    int             `json:"tries"`        // boots that one attempt may take

	Attempts    int    `json:"attempts,omitempty"`     // times that Try was called for
	AttemptBoot string `json:"attempt_boot,omitempty"` // boot id in which the last attempt was saved
	Boots       int    `json:"boots,omitempty"`        // boots of Slot in this attempt
	TrialBoot   string `json:"trial_boot,omitempty"`   // boot id of the last of them
	Unspent     int    `json:"unspent,omitempty"`      // times that the loader came back without spending a try
	Lease       *Lease `json:"lease,omitempty"`        // wanted, or held

	Outcome Outcome `json:"outcome,omitempty"` // set from Reverting on
	Reason  string  `json:"reason,omitempty"`
	Checks  []Check `json:"checks,omitempty"` // of the failed probe, bounded
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
	Outbox    []Lease             `json:"outbox,omitempty"`
	// LoaderDoubt says why the boot loader is not trusted to count; Arm refuses while it is set.
	LoaderDoubt string `json:"loader_doubt,omitempty"`
	// Rebuilt is when and why the record was rebuilt from what was seen, because it was lost or unreadable.
	Rebuilt string `json:"rebuilt,omitempty"`
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
	ConfirmV Verb = "confirm"
	Cancel   Verb = "cancel"
	Retry    Verb = "retry"
	CheckV   Verb = "check" // look for releases now
)
