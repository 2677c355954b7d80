package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/evenkeel-os/evenkeel/internal/config"
)

func (a *app) configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "check and show the configuration"}
	c.AddCommand(
		&cobra.Command{
			Use: "check", Short: "say everything that is wrong with the configuration", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return a.checkConfig() },
		},
		&cobra.Command{
			Use: "show", Short: "show every key, its value, and where it is from; without secrets", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return a.showConfig() },
		})
	return c
}

func (a *app) checkConfig() error {
	s, err := a.sources()
	if err != nil {
		return err
	}
	s.Strict = true
	l, err := config.Load(s)
	if err != nil {
		return err
	}
	a.say("the configuration is right")
	return a.result(map[string]any{"files": l.Files})
}

func (a *app) showConfig() error {
	l, err := a.config()
	if err != nil {
		return err
	}
	if a.json {
		return a.print(l.Items())
	}
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, it := range l.Items() {
		fmt.Fprintf(t, "%s\t%v\t%s\n", it.Key, it.Value, it.Origin)
	}
	return t.Flush()
}
