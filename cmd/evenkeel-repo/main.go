// Evenkeel-repo publishes releases: it makes a TUF repository, a directory of static files that any web server serves,
// and keeps the keys that vouch for it. See package tuf/repo for the files and the order in which they change.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	a := &app{stdout: os.Stdout, stderr: os.Stderr, env: os.Getenv, now: time.Now, ask: askTerminal}
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
