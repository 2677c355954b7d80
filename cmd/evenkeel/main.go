// Evenkeel updates the operating system of this host: it installs signed images into the slot that does not run, tries them,
// and keeps them or goes back. See package updater for how, and evenkeel help for the commands.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"
)

// version is set by the linker.
var version = "0.1.0"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	a := &app{
		stdout: os.Stdout, stderr: os.Stderr, lookup: os.LookupEnv, now: time.Now, version: version,
		terminal: term.IsTerminal(int(os.Stderr.Fd())), root: os.Geteuid() == 0,
	}
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
