// Package cli is what the commands have in common: help and text that fit a
// terminal, sizes and times as people read them, and JSON whenever JSON was asked for.
package cli

import (
	"slices"

	"github.com/spf13/cobra"
)

// Tidy makes the help of root and of every command below it fit to the width, without switches that nobody writes. Call it
// when the commands are complete.
func Tidy(root *cobra.Command) {
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetUsageFunc(plainUsage(root.UsageFunc()))
	reflowHelp(root)
}

// WantsJSON reports whether a failure is to be told as JSON: parsed is --json as far as the arguments were read, which ends
// at the first that is wrong.
func WantsJSON(parsed, started bool, args []string) bool {
	return parsed || !started && slices.Contains(args, "--json")
}
