// Vm plays scenarios on virtual machines: scripts/vm builds what it needs and runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/evenkeel-os/evenkeel/internal/vmtest"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "connect" {
		if err := connect(os.Args[2]); err != nil {
			os.Exit(1)
		}
		return
	}
	var o options
	flag.StringVar(&o.cache, "cache", "", "directory for what takes long to make")
	flag.StringVar(&o.base, "base", "", "tar file of a Debian")
	flag.StringVar(&o.programs, "programs", "", "directory of evenkeel and evenkeel-repo")
	flag.StringVar(&o.source, "source", ".", "root of the checkout")
	flag.IntVar(&o.jobs, "jobs", 2, "machines that run side by side")
	flag.BoolVar(&o.console, "console", false, "show the machines' consoles")
	flag.BoolVar(&o.keep, "keep", false, "keep the disks of machines that failed")
	flag.DurationVar(&o.patience, "patience", 20*time.Minute, "for each act of a scenario")
	flag.Uint64Var(&o.seed, "seed", 1, "of the power cuts")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := o.run(ctx, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "vm: %v\n", err)
		os.Exit(1)
	}
}

// connect joins a connection of the guest, which is standard input and output, to addr. QEMU starts it.
func connect(addr string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(c, os.Stdin)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(os.Stdout, c)
	return err
}

type options struct {
	cache, base, programs, source string
	jobs                          int
	console, keep                 bool
	patience                      time.Duration
	seed                          uint64
}

func (o options) run(ctx context.Context, args []string) error {
	o.console = o.console || len(args) == 1 && args[0] == "demo"
	scenarios, err := choose(args)
	if err != nil || scenarios == nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "evenkeel-vm-") // sockets want a short path
	if err != nil {
		return err
	}
	if !o.keep {
		defer os.RemoveAll(dir)
	}
	began := time.Now()
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf("%5.0f s  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	r := &vmtest.Runner{
		Workshop: &vmtest.Workshop{
			Dir: o.cache, Programs: o.programs, Builder: &vmtest.Builder{Base: o.base, Source: o.source, Programs: o.programs},
		},
		Dir: dir, Connect: []string{self, "connect"}, Patience: o.patience, Seed: o.seed, Say: say,
	}
	if o.console {
		r.Console = func(name, line string) { say("%s| %s", name, line) }
	}
	return play(ctx, r, scenarios, o.jobs)
}

// choose returns the scenarios that args name; none for "list".
func choose(args []string) ([]vmtest.Scenario, error) {
	all := vmtest.Scenarios()
	if len(args) == 0 {
		return nil, errors.New("say which scenario, or all, ci, or list")
	}
	if args[0] == "list" {
		for _, s := range all {
			fmt.Printf("%-16s %s\n", s.Name, s.Shows)
		}
		return nil, nil
	}
	var chosen []vmtest.Scenario
	for _, a := range args {
		n := len(chosen)
		for _, s := range all {
			if a == s.Name || a == "all" || a == "ci" && s.Core {
				chosen = append(chosen, s)
			}
		}
		if len(chosen) == n {
			return nil, fmt.Errorf("there is no scenario %q: see scripts/vm list", a)
		}
	}
	return chosen, nil
}

func play(ctx context.Context, r *vmtest.Runner, scenarios []vmtest.Scenario, jobs int) error {
	var mu sync.Mutex
	var failed []string
	var wg sync.WaitGroup
	queue := make(chan vmtest.Scenario)
	for range jobs {
		wg.Go(func() {
			for s := range queue {
				began := time.Now()
				err := r.Run(ctx, s)
				took := time.Since(began).Round(time.Second)
				if err == nil {
					r.Say("%s: passed in %s", s.Name, took)
					continue
				}
				r.Say("%s: FAILED after %s: %v", s.Name, took, err)
				mu.Lock()
				failed = append(failed, s.Name)
				mu.Unlock()
			}
		})
	}
	for _, s := range scenarios {
		queue <- s
	}
	close(queue)
	wg.Wait()
	if len(failed) > 0 {
		slices.Sort(failed)
		return fmt.Errorf("failed: %s; what is left of them is in %s if -keep is given", strings.Join(failed, ", "), filepath.Clean(r.Dir))
	}
	return nil
}
