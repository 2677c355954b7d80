package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/evenkeel-os/evenkeel/cmd/internal/cli"
	"github.com/evenkeel-os/evenkeel/partitions"
	"github.com/evenkeel-os/evenkeel/release"
)

func (a *app) slotsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "slots", Short: "where the slots are on the disk, and what is wrong with them", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			loaded, err := a.config()
			if err != nil {
				return err
			}
			m, err := a.bareMachine(loaded.Config, func(string) {})
			if err != nil {
				return err
			}
			return a.slots(m.slots.Check(), m.loader.Check())
		},
	}
}

// layout is what "slots --json" prints.
type layout struct {
	partitions.Layout
	Loader []string `json:"loader_problems,omitempty"`
}

func (a *app) slots(l partitions.Layout, loader []string) error {
	if err := a.result(layout{l, loader}); err != nil {
		return err
	}
	if !a.json {
		a.printLayout(l)
	}
	for _, w := range l.Warnings {
		a.note("warning: %s", w)
	}
	for _, p := range loader {
		a.note("boot loader: %s", p)
	}
	if err := l.Err(); err != nil {
		return err
	}
	if len(loader) > 0 {
		return failure(exitFailed, "the boot loader is not as it should be")
	}
	return nil
}

func (a *app) printLayout(l partitions.Layout) {
	a.say("%s, %s, sectors of %d bytes", l.Disk, cli.Bytes(l.Size), l.SectorSize)
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SLOT\tROLE\tSIZE\tWHERE")
	for _, r := range l.Places {
		slot := string(r.Slot)
		if r.Running {
			slot += " (runs)"
		}
		where := r.Path
		if r.Kind == release.KindPartition && r.Partition != nil {
			where = fmt.Sprintf("%s, %q", r.Path, r.Partition.Label)
		}
		if r.InUse != "" {
			where += ", " + r.InUse
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", slot, r.Role, cli.Bytes(r.Size), where)
	}
	_ = t.Flush() // nobody reads a standard output that fails
}
