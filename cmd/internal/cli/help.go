package cli

import (
	"bytes"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// plainUsage prints usage without what pflag appends to switches: nobody writes --json=true.
func plainUsage(usage func(*cobra.Command) error) func(*cobra.Command) error {
	return func(c *cobra.Command) error {
		to, text := c.OutOrStderr(), &bytes.Buffer{}
		c.SetOut(text)
		err := usage(c)
		c.SetOut(to)
		_, _ = io.WriteString(to, Wrap(strings.ReplaceAll(text.String(), "[=true|false]", "             "))) // keeps the columns
		return err
	}
}

// reflowHelp fits what c and the commands below it say of themselves to the width.
func reflowHelp(c *cobra.Command) {
	c.Long = reflow(c.Long)
	for _, sub := range c.Commands() {
		reflowHelp(sub)
	}
}

// reflow wraps paragraphs; what is indented is laid out already.
func reflow(s string) string {
	paragraphs := strings.Split(s, "\n\n")
	for i, p := range paragraphs {
		if !strings.Contains(p, "\n ") && !strings.HasPrefix(p, " ") {
			p = strings.ReplaceAll(p, "\n", " ")
		}
		paragraphs[i] = Wrap(p)
	}
	return strings.Join(paragraphs, "\n\n")
}
