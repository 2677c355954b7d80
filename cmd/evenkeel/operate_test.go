package main

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/internal/control"
	"github.com/evenkeel-os/evenkeel/updater"
)

// busy is an agent that is in the middle of something, and answers only when a person has heard of it.
type busy struct {
	feed   *control.Feed
	heard  <-chan struct{}
	answer updater.Answer
}

func (b *busy) Submit(updater.Intent) <-chan updater.Answer {
	answer := make(chan updater.Answer, 1)
	b.feed.Tell(control.Message{Progress: &updater.Progress{Image: 1, Images: 2, Role: "root", Bytes: image.Progress{Stats: image.Stats{Total: 100}}}})
	b.feed.Tell(control.Message{Step: &control.Step{Do: updater.DoInstall, Why: "write release 1.1", Error: "the cable is out"}})
	b.feed.Tell(control.Message{Event: &updater.Event{Kind: "gave up", Message: "release 1.1"}})
	go func() {
		<-b.heard
		answer <- b.answer
		b.feed.Tell(control.Message{Step: &control.Step{Do: updater.DoAnswer, Why: b.answer.Message, Answers: true}})
	}()
	return answer
}

func (*busy) Status(context.Context) (any, error) { return status{Phase: updater.Idle}, nil }

// ear is a standard error that somebody reads.
type ear struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	want  string
	heard chan struct{}
}

func (e *ear) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := strings.Contains(e.buf.String(), e.want)
	n, err := e.buf.Write(p)
	if !before && strings.Contains(e.buf.String(), e.want) {
		close(e.heard)
	}
	return n, err
}

// TestTellsWhileItWaits: the agent answers when the download ends, which may take hours. A command is not silent that long.
func TestTellsWhileItWaits(t *testing.T) {
	for _, refused := range []bool{false, true} {
		ctx, stop := context.WithTimeout(t.Context(), patience)
		dir, feed := t.TempDir(), &control.Feed{}
		e := &ear{want: "gave up: release 1.1", heard: make(chan struct{})}
		b := &busy{feed: feed, heard: e.heard, answer: updater.Answer{Refused: refused, Message: "it is so"}}
		served := make(chan error, 1)
		go func() { served <- control.Serve(ctx, dir, b, feed) }()
		c := dial(ctx, t, dir)
		a := testApp()
		a.stderr = e
		f := &follower{app: a, intent: updater.Intent{Verb: updater.CheckNow}, meter: newMeter(e, false)}
		err := f.withAgent(ctx, c)
		if ctx.Err() != nil {
			t.Fatalf("it was silent: %q", e.buf.String())
		}
		if (err != nil) != refused || refused && err.Error() != "it is so" {
			t.Errorf("refused %v: %v", refused, err)
		}
		for _, want := range []string{"root (1/2), 0%\n", "write release 1.1: the cable is out\n"} {
			if strings.Count(e.buf.String(), want) != 1 {
				t.Errorf("%q was not told once: %q", want, e.buf.String())
			}
		}
		if f.broken == nil || len(f.events) != 1 && !refused {
			t.Errorf("what was told was forgotten: %+v", f)
		}
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}

// dial waits until the agent listens.
func dial(ctx context.Context, t *testing.T, dir string) *control.Client {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		c, err := control.Dial(ctx, dir)
		if err == nil {
			return c
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-tick.C:
		}
	}
}
