package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/evenkeel-os/evenkeel/internal/durable"
	"github.com/evenkeel-os/evenkeel/internal/systemd"
	"github.com/evenkeel-os/evenkeel/internal/text"
	"github.com/evenkeel-os/evenkeel/updater"
)

// bootEnd is what is known of a boot from inside it.
type bootEnd struct {
	Boot  string       `json:"boot"`
	Slot  updater.Slot `json:"slot,omitempty"`
	Ended string       `json:"ended,omitempty"` // why, if it ended in order; empty while it runs, and where it was cut off
}

// boots is boot.json: this boot, the one before it that got as far as Begin, and what was learnt about its end.
type boots struct {
	bootEnd
	Previous *bootEnd      `json:"previous,omitempty"`
	Reset    updater.Reset `json:"reset"`
	// Old names the panics and the note that earlier boots have seen already; Seen, those that this boot has.
	Old  []string `json:"old,omitempty"`
	Seen []string `json:"seen,omitempty"`
}

// maxSeen bounds boot.json: all panics that are looked at, and a note.
const maxSeen = 2*maxDumpFiles + 1

// Begin notes that this boot runs, and what it learnt about the end of the one before. It is called early in each boot,
// and again when the agent starts; a second call in the same boot only adds traces that were not there yet. Where it
// fails, Boot still answers, from what it sees.
func (h *Host) Begin() error {
	id, err := BootID(h.o.Root)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.present(id)
	b.Ended = "" // a reboot that was asked for and did not come is none
	if err := h.save(b); err != nil {
		return fmt.Errorf("cannot note that this boot runs: %w", err)
	}
	switch n, err := readNote(h.o.FS, h.o.StateDir); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		h.o.OnError(err)
	case n.Boot == id || n.Unsure:
		return nil
	}
	return durable.Remove(h.o.FS, notePath(h.o.StateDir))
}

// End notes that this boot ends in order, if systemd says that the system is stopping. It is called when the unit that
// called Begin is stopped, which a person may do at any time.
func (h *Host) End(ctx context.Context) error {
	switch s, err := systemd.New(h.o.Root).State(ctx); {
	case err != nil:
		return err
	case s != systemd.Stopping:
		return nil
	}
	return h.ended("it was shut down in order")
}

// ended marks this boot; the first reason stays.
func (h *Host) ended(why string) error {
	id, err := BootID(h.o.Root)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.present(id)
	if b.Ended == "" {
		b.Ended = why
	}
	if err := h.save(b); err != nil {
		return fmt.Errorf("cannot note that this boot ends in order: %w", err)
	}
	return nil
}

// present is what boot.json says, or should say, in boot id.
func (h *Host) present(id string) boots {
	traces := h.traces()
	b, ok := h.load()
	switch {
	case !ok:
		// Nobody remembers which panics are old: they all are.
		b = boots{bootEnd: bootEnd{Boot: id}, Old: traces.panics()}
	case b.Boot != id:
		previous := b.bootEnd
		// One that this boot does not see yet is no newer when it turns up again.
		b = boots{bootEnd: bootEnd{Boot: id}, Previous: &previous, Old: bounded(append(b.Old, b.Seen...))}
	}
	b.Slot = Slot(h.o.Root)
	if r := traces.judge(id, b.Previous, b.Old); rank(r.Cause) > rank(b.Reset.Cause) {
		b.Reset = r
	}
	b.Seen = bounded(append(slices.Clone(b.Seen), traces.ids(id)...))
	return b
}

// bounded keeps the newest of ids, each once.
func bounded(ids []string) []string {
	var out []string
	for i := len(ids) - 1; i >= 0 && len(out) < maxSeen; i-- {
		if !slices.Contains(out, ids[i]) {
			out = append(out, ids[i])
		}
	}
	slices.Reverse(out)
	return out
}

// load reads boot.json. One that cannot be read is none: what it knew is lost, and nothing else depends on it.
func (h *Host) load() (b boots, ok bool) {
	data, err := h.o.FS.ReadFile(h.bootFile())
	if errors.Is(err, fs.ErrNotExist) {
		return boots{}, false
	}
	if err == nil {
		b, err = parseBoots(data)
	}
	if err != nil {
		h.o.OnError(fmt.Errorf("cannot read what is known of earlier boots: %w", err))
	}
	return b, err == nil
}

func parseBoots(data []byte) (b boots, err error) {
	if err := json.Unmarshal(data, &b); err != nil {
		return boots{}, err
	}
	slots := []updater.Slot{b.Slot, b.Reset.Slot}
	if b.Previous != nil {
		slots = append(slots, b.Previous.Slot)
	}
	for _, s := range slots {
		if !isSlot(s) {
			return boots{}, fmt.Errorf("boot.json speaks of slot %.80q", s)
		}
	}
	if b.Boot == "" {
		return boots{}, errors.New("boot.json does not say which boot it is about")
	}
	return b, nil
}

func isSlot(s updater.Slot) bool { return s == updater.A || s == updater.B || s == updater.NoSlot }

// save writes boot.json, unless it says the same already: storage wears.
func (h *Host) save(b boots) error {
	data, err := json.Marshal(b)
	if err != nil {
		return err
	}
	if old, err := h.o.FS.ReadFile(h.bootFile()); err == nil && string(old) == string(data) {
		return nil
	}
	return durable.WriteFile(h.o.FS, h.bootFile(), data)
}

func (h *Host) bootFile() string { return filepath.Join(h.o.StateDir, "boot.json") }

// rank orders causes by how much they say. CauseReboot and CauseUnknown stand below all that happened to a boot.
func rank(c updater.Cause) int {
	return slices.Index([]updater.Cause{
		"", updater.CauseUnknown, updater.CauseReboot, updater.CausePower, updater.CauseWatchdog, updater.CausePanic, updater.CauseDeadline,
	}, c)
}

// String says how it ended, as far as it knew.
func (e *bootEnd) String() string {
	switch {
	case e == nil:
		return "nothing is known of an earlier boot"
	case e.Ended != "":
		return e.Ended
	}
	return "it did not shut down in order, and left no trace: the power was lost, or it was reset, or it crashed without a word"
}

func clipped(s string) string { return text.Tail(s, maxDetail) }
