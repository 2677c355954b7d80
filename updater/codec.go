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

// DecodeRecord reads a record. Fields that it does not know are kept and written back, so that an older agent, after a
// rollback, loses nothing of what a newer one wrote. A record whose MinReader is above schema is ErrNewerRecord.
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
	all := members(b)
	if r.Txn != nil {
		r.Txn.extra = unknown(members(all["txn"]), reflect.TypeFor[Txn]())
	}
	r.extra = unknown(all, reflect.TypeFor[Record]())
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
		if r.Txn == nil || r.Txn.From.Other() != r.Txn.Slot || r.Txn.Slot == NoSlot {
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
	for _, shrink := range []func(*Record){func(*Record) {}, dropOutput, dropChecks, dropReasons} {
		r = r.clone()
		shrink(&r)
		b, err := r.encode()
		if err != nil || len(b) <= MaxRecord {
			return b, err
		}
	}
	return nil, fmt.Errorf("cannot encode the record: more than %d bytes", MaxRecord)
}

func (r Record) encode() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil || len(r.extra) == 0 && (r.Txn == nil || len(r.Txn.extra) == 0) {
		return b, err
	}
	all := members(b)
	maps.Copy(all, r.extra)
	if r.Txn != nil {
		t := members(all["txn"])
		maps.Copy(t, r.Txn.extra)
		if all["txn"], err = json.Marshal(t); err != nil {
			return nil, err
		}
	}
	return json.Marshal(all)
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

// members splits a JSON object; anything else has none.
func members(b []byte) map[string]json.RawMessage {
	all := map[string]json.RawMessage{}
	if json.Unmarshal(b, &all) != nil {
		return map[string]json.RawMessage{}
	}
	return all
}

// unknown drops the members that t has a field for.
func unknown(all map[string]json.RawMessage, t reflect.Type) map[string]json.RawMessage {
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		delete(all, name)
	}
	return all
}
