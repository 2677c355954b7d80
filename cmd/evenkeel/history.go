package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/evenkeel-os/evenkeel/cmd/internal/cli"
	"github.com/evenkeel-os/evenkeel/internal/durable"
	"github.com/evenkeel-os/evenkeel/updater"
)

func (a *app) historyCommand() *cobra.Command {
	var last int
	c := &cobra.Command{
		Use: "history", Short: "what happened here, oldest first", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if last < 0 {
				return failure(exitUsage, "--last %d: write how many events to show, 0 for all", last)
			}
			return a.history(last)
		},
	}
	c.Flags().IntVar(&last, "last", 0, "only this many `events`; 0: all")
	return c
}

func (a *app) history(last int) error {
	loaded, err := a.config()
	if err != nil {
		return err
	}
	events, err := readEvents(durable.NewLog(durable.OS{}, filepath.Join(loaded.Config.State.Dir, historyFile), historySize))
	if err != nil {
		return err
	}
	if last > 0 {
		events = events[max(0, len(events)-last):]
	}
	if a.json {
		return a.print(events)
	}
	if len(events) == 0 {
		a.say("nothing happened here yet")
	}
	for _, e := range events {
		a.say("%s", eventText(e))
	}
	return nil
}

// readEvents leaves out what is no event: another version may write others.
func readEvents(log *durable.Log) ([]updater.Event, error) {
	lines, err := log.Entries()
	events := []updater.Event{}
	for _, l := range lines {
		var e updater.Event
		if json.Unmarshal(l, &e) == nil {
			events = append(events, e)
		}
	}
	return events, err
}

// eventText shows an event in a line, and below it the health checks that failed, or the last words of a kernel.
func eventText(e updater.Event) string {
	when := "(no date)"
	if !e.Time.IsZero() {
		when = e.Time.UTC().Format("2006-01-02 15:04:05")
	}
	below := strings.Repeat(" ", 36)
	message, more, _ := strings.Cut(e.Message, "\n")
	text := fmt.Sprintf("%-19s  %-13s  %s", when, e.Kind, message)
	if more != "" && e.Kind != "closing" { // the next event says it again
		text += "\n" + indent(more, below+cli.Quote)
	}
	for _, c := range e.Checks {
		if !c.OK {
			text += "\n" + indent(checkText(c), below)
		}
	}
	return text
}
