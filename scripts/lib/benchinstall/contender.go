package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

// contender is one way to bring an image to a slot: processes joined by pipes.
type contender struct {
	Name string
	What string // for people
	// Self is set where the last process prints what it says of itself, as JSON.
	Self  bool
	Pipes [][]string
}

// sample is one run of a contender.
type sample struct {
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu_seconds"` // of its own processes: neither the server's nor the kernel's threads
	Peak    int64   `json:"peak_bytes"`  // the peaks of its processes added up
	Filled  *filled `json:"filled,omitempty"`
}

func (s sample) String() string {
	if s.Filled == nil {
		return fmt.Sprintf("%.2f s", s.Seconds)
	}
	return fmt.Sprintf("%.2f s, %.2f s of it reading back", s.Seconds, s.Filled.Reading)
}

// run runs the processes side by side, and measures from the start of the first to the end of the last.
func (c contender) run(ctx context.Context) (s sample, err error) {
	r := &running{}
	defer r.close()
	if err := r.prepare(ctx, c.Pipes); err != nil {
		return s, err
	}
	begin := time.Now()
	if err := r.start(); err != nil {
		return s, err
	}
	peaks := r.watch()
	err = r.wait()
	s.Seconds = time.Since(begin).Seconds()
	for _, p := range r.procs {
		s.CPU += (p.ProcessState.UserTime() + p.ProcessState.SystemTime()).Seconds()
	}
	for _, p := range peaks() {
		s.Peak += p
	}
	if err != nil {
		return s, fmt.Errorf("%s failed: %w: %s", c.Name, err, r.complaints.buf.Bytes())
	}
	if c.Self {
		s.Filled = &filled{}
		err = json.Unmarshal(r.said.Bytes(), s.Filled)
		s.Peak = max(s.Peak, s.Filled.Peak)
	}
	return s, err
}

// running is the processes of one run.
type running struct {
	procs      []*exec.Cmd
	ends       []*os.File // of pipes, to be closed here once the processes have them
	said       bytes.Buffer
	complaints shared
}

// shared is a buffer that several processes write to.
type shared struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (r *running) prepare(ctx context.Context, pipes [][]string) error {
	var in *os.File
	for i, args := range pipes {
		p := exec.CommandContext(ctx, args[0], args[1:]...)
		p.Stderr = &r.complaints
		if in != nil {
			p.Stdin = in
		}
		if i == len(pipes)-1 {
			p.Stdout = &r.said
		} else {
			read, write, err := os.Pipe()
			if err != nil {
				return err
			}
			r.ends = append(r.ends, read, write)
			in, p.Stdout = read, write
		}
		r.procs = append(r.procs, p)
	}
	return nil
}

func (r *running) start() error {
	defer r.close()
	for i, p := range r.procs {
		if err := p.Start(); err != nil {
			r.close()
			for _, started := range r.procs[:i] {
				_ = started.Process.Kill()
				_ = started.Wait()
			}
			return err
		}
	}
	return nil
}

func (r *running) close() {
	for _, f := range r.ends {
		f.Close()
	}
	r.ends = nil
}

func (r *running) wait() error {
	var errs []error
	for _, p := range r.procs {
		errs = append(errs, p.Wait())
	}
	return errors.Join(errs...)
}

// watch looks at the memory of the processes until the returned function is called. A peak only rises, so that looking now
// and then misses no more than what a process takes in its last moments.
func (r *running) watch() (peaks func() []int64) {
	stop, done := make(chan struct{}), make(chan struct{})
	found := make([]int64, len(r.procs))
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			for i, p := range r.procs {
				if n, err := peakOf(strconv.Itoa(p.Process.Pid)); err == nil {
					found[i] = max(found[i], n)
				}
			}
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	return func() []int64 {
		close(stop)
		<-done
		return found
	}
}

// server is the process that serves the pack.
type server struct {
	cmd *exec.Cmd
	url string
}

func startServer(ctx context.Context, self, dir string) (*server, error) {
	s := &server{cmd: exec.CommandContext(ctx, self, "serve", dir)}
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	line := make([]byte, 64)
	n, err := out.Read(line)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.Join(fmt.Errorf("cannot start the server: %w", err), s.stop())
	}
	s.url = string(bytes.TrimSpace(line[:n]))
	return s, nil
}

func (s *server) stop() error {
	if err := s.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = s.cmd.Wait() // it was killed
	return nil
}
