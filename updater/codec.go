package updater

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
)

// Schema is the version of the record that this agent writes. A higher one only ever adds fields.
const Schema = 1

// minReader is the oldest schema whose agents can act on what this one writes.
const minReader = 1

// ErrNewerRecord means that the record says it may not be read by an agent as old as this one.
var ErrNewerRecord = errors.New("the record was written by a newer agent and asks older ones not to touch it")

// MaxRecord is the most bytes that an encoded record takes. Encode drops what is only for people until it fits.
const MaxRecord = 15 << 10

// DecodeRecord reads a record. Fields that it does not know are kept and written back, at every level, so that an older
// agent, after a rollback, loses nothing of what a newer one wrote. A record whose MinReader is above schema is ErrNewerRecord.
func DecodeRecord(b []byte, schema int) (Record, error) {
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return Record{}, fmt.Errorf("cannot read the record: %w", err)
	}
	if r.MinReader > schema {
		return Record{}, fmt.Errorf("cannot read the record (schema %d, needs an agent that reads %d, this one reads %d): %w", r.Schema, r.MinReader, schema, ErrNewerRecord)
	}
	if err := r.check(); err != nil {
		return Record{}, fmt.Errorf("cannot read the record: %w", err)
	}
	return r, nil
}

// check refuses what Next could not act on: a phase that it does not know, or one without its transaction.
func (r *Record) check() error {
	switch r.Phase {
	case Idle:
		if r.Txn != nil {
			return fmt.Errorf("phase %q with a transaction", r.Phase)
		}
	case Staging, Staged, Armed, InTrial, Confirming, Reverting, Closing:
		if t := r.Txn; t == nil || t.From.Other() != t.Slot || t.Slot == NoSlot || t.Tries < 1 {
			return fmt.Errorf("phase %q without a sound transaction", r.Phase)
		}
	default:
		return fmt.Errorf("unknown phase %q", r.Phase)
	}
	if r.Slots == nil {
		r.Slots = map[Slot]SlotRecord{}
	}
	return nil
}

// Encode writes the record, unknown fields and all, in at most MaxRecord bytes.
func (r Record) Encode() ([]byte, error) {
	for _, shrink := range []func(*Record){func(*Record) {}, dropOutput, dropChecks, dropReasons, dropAll} {
		r = r.clone()
		shrink(&r)
		b, err := json.Marshal(r)
		if err != nil || len(b) <= MaxRecord {
			return b, err
		}
	}
	return nil, fmt.Errorf("cannot encode the record: more than %d bytes", MaxRecord)
}

func dropOutput(r *Record) {
	eachCheck(r, func(c *Check) { c.Output = tail(c.Output, 256) })
}

func dropChecks(r *Record) {
	eachCheck(r, func(c *Check) { c.Output = "" })
}

func dropReasons(r *Record) {
	for i := range r.Blocked {
		r.Blocked[i].Reason = tail(r.Blocked[i].Reason, 80)
	}
	if r.Last != nil {
		l := *r.Last
		l.Checks = nil
		r.Last = &l
	}
}

// dropAll leaves what decides: that a trial failed must be saved, whatever there is to say about it.
func dropAll(r *Record) {
	r.Rebuilt, r.LoaderDoubt = tail(r.Rebuilt, 80), tail(r.LoaderDoubt, 80)
	if r.Txn != nil {
		r.Txn.Checks, r.Txn.Reason = nil, tail(r.Txn.Reason, 80)
	}
	if r.Last != nil {
		l := *r.Last
		l.Reason = tail(l.Reason, 80)
		r.Last = &l
	}
	for i := range r.Blocked {
		r.Blocked[i].Reason = ""
	}
}

func eachCheck(r *Record, f func(*Check)) {
	edit := func(cs []Check) []Check {
		n := append([]Check(nil), cs...)
		for i := range n {
			f(&n[i])
		}
		return n
	}
	if r.Txn != nil {
		r.Txn.Checks = edit(r.Txn.Checks)
	}
	if r.Last != nil {
		l := *r.Last
		l.Checks = edit(l.Checks)
		r.Last = &l
	}
}

func tail(s string, n int) string { return strings.ToValidUTF8(s[max(0, len(s)-n):], "") }

func head(s string, n int) string { return strings.ToValidUTF8(s[:min(n, len(s))], "") }

// extra is what a JSON object holds besides the fields that this agent knows.
type extra map[string]json.RawMessage

// decode fills *v and returns the rest.
func decode[T any](b []byte, v *T) (extra, error) {
	var all extra
	if err := json.Unmarshal(b, v); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, err
	}
	t := reflect.TypeFor[T]()
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		maps.DeleteFunc(all, func(k string, _ json.RawMessage) bool { return strings.EqualFold(k, name) }) // as Unmarshal does
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all, nil
}

func encode(v any, rest extra) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil || len(rest) == 0 {
		return b, err
	}
	all := maps.Clone(rest)
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

// Every object of the record keeps what it does not know.
type (
	plainRecord  Record
	plainTxn     Txn
	plainSlot    SlotRecord
	plainBlocked Blocked
	plainLease   Lease
	plainClosed  Closed
)

// MarshalJSON implements json.Marshaler.
func (x Record) MarshalJSON() ([]byte, error) { return encode(plainRecord(x), x.extra) }

// UnmarshalJSON implements json.Unmarshaler.
func (x *Record) UnmarshalJSON(b []byte) (err error) {
	x.extra, err = decode(b, (*plainRecord)(x))
	return err
}

// MarshalJSON implements json.Marshaler.
func (x Txn) MarshalJSON() ([]byte, error) {
	if len(x.extraRelease) == 0 {
		return encode(plainTxn(x), x.extra)
	}
	rel, err := encode(x.Release, x.extraRelease)
	if err != nil {
		return nil, err
	}
	return encode(struct {
		plainTxn
		Release json.RawMessage `json:"release"`
	}{plainTxn(x), rel}, x.extra)
}

// UnmarshalJSON implements json.Unmarshaler.
func (x *Txn) UnmarshalJSON(b []byte) (err error) {
	if x.extra, err = decode(b, (*plainTxn)(x)); err != nil {
		return err
	}
	var raw struct {
		Release json.RawMessage `json:"release"`
	}
	if err = json.Unmarshal(b, &raw); err != nil || raw.Release == nil {
		return err
	}
	x.extraRelease, err = decode(raw.Release, &x.Release)
	return err
}

// MarshalJSON implements json.Marshaler.
func (x SlotRecord) MarshalJSON() ([]byte, error) { return encode(plainSlot(x), x.extra) }

// UnmarshalJSON implements json.Unmarshaler.
func (x *SlotRecord) UnmarshalJSON(b []byte) (err error) {
	x.extra, err = decode(b, (*plainSlot)(x))
	return err
}

// MarshalJSON implements json.Marshaler.
func (x Blocked) MarshalJSON() ([]byte, error) { return encode(plainBlocked(x), x.extra) }

// UnmarshalJSON implements json.Unmarshaler.
func (x *Blocked) UnmarshalJSON(b []byte) (err error) {
	x.extra, err = decode(b, (*plainBlocked)(x))
	return err
}

// MarshalJSON implements json.Marshaler.
func (x Lease) MarshalJSON() ([]byte, error) { return encode(plainLease(x), x.extra) }

// UnmarshalJSON implements json.Unmarshaler.
func (x *Lease) UnmarshalJSON(b []byte) (err error) {
	x.extra, err = decode(b, (*plainLease)(x))
	return err
}

// MarshalJSON implements json.Marshaler.
func (x Closed) MarshalJSON() ([]byte, error) { return encode(plainClosed(x), x.extra) }

// UnmarshalJSON implements json.Unmarshaler.
func (x *Closed) UnmarshalJSON(b []byte) (err error) {
	x.extra, err = decode(b, (*plainClosed)(x))
	return err
}
