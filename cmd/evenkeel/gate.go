package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/evenkeel-os/evenkeel/internal/text"
	"github.com/evenkeel-os/evenkeel/updater"
)

// operator is who asks when a person does.
const operator = "operator"

// gate is what this host alone decides by: the mode, and holds. It takes no leases.
type gate struct {
	mode      string
	holdUntil time.Time
	holdFile  string
	now       func() time.Time
}

var _ updater.Gate = (*gate)(nil)

// Decide implements updater.Gate.
func (g *gate) Decide(_ context.Context, ask updater.Ask) (updater.Verdict, error) {
	if now := g.now(); now.Before(g.holdUntil) {
		until := g.holdUntil.UTC()
		return updater.Verdict{
			Reason:    "updates are on hold until " + until.Format(time.RFC3339) + " (update.hold_until)",
			NotBefore: until, NextChange: until,
		}, nil
	}
	if why, held := g.held(); held {
		return updater.Verdict{Reason: why}, nil
	}
	if ask.By != operator && g.mode != "auto" && (ask.Stage == updater.Arm || g.mode != "stage") {
		return updater.Verdict{Reason: fmt.Sprintf("update.mode is %q: \"evenkeel update\" goes on", g.mode)}, nil
	}
	return updater.Verdict{Open: true}, nil
}

// held says what the hold file says. One that cannot be looked at holds too: somebody may have meant it.
func (g *gate) held() (why string, held bool) {
	if g.holdFile == "" {
		return "", false
	}
	data, err := os.ReadFile(g.holdFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", false
	case err != nil:
		return fmt.Sprintf("updates are on hold: %s cannot be read: %v", g.holdFile, err), true
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	return fmt.Sprintf("updates are on hold while %s exists: %s", g.holdFile, text.Tail(string(line), 200)), true
}

// Enter implements updater.Gate.
func (g *gate) Enter(_ context.Context, t updater.Txn) (updater.Lease, error) {
	return updater.Lease{Txn: t.ID, Version: t.Release.Version}, nil
}

// Leave implements updater.Gate.
func (g *gate) Leave(context.Context, updater.Lease) error { return nil }
