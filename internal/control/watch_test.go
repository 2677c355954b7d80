package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel-os/evenkeel/updater"
)

// TestWatch: a watcher hears everything from the moment that Watch returned, in order, and so do others.
func TestWatch(t *testing.T) {
	s := serve(t, t.TempDir(), newAgent())
	c := dial(t, s.dir)
	s.feed.Tell(step("before anybody listened"))
	ctx, leave := context.WithCancel(t.Context())
	var heard [2]chan Message
	var ended [2]<-chan error
	for i := range heard {
		heard[i] = make(chan Message, 8)
		var err error
		if ended[i], err = c.Watch(ctx, func(m Message) { heard[i] <- m }); err != nil {
			t.Fatal(err)
		}
	}
	said := []Message{
		step("one"),
		{Event: &updater.Event{Kind: "staging", Version: "1.1", Time: time.Unix(1e9, 0).UTC(), Checks: []updater.Check{{Name: "app", Output: "a\nb"}}}},
		{Progress: &updater.Progress{Role: "root", Image: 1, Images: 2}},
		{Step: StepOf(updater.Step{Do: updater.DoTry, Slot: updater.B, Why: "arm slot b"}, errors.New("the disk is gone"))},
	}
	for _, m := range said {
		s.feed.Tell(m)
	}
	for i := range heard {
		for _, want := range said {
			if got := <-heard[i]; !reflect.DeepEqual(got, want) {
				t.Errorf("watcher %d heard %+v; want %+v", i, got, want)
			}
		}
	}
	leave()
	for i := range ended {
		if err := <-ended[i]; err != nil {
			t.Errorf("watcher %d left, and was told %v", i, err)
		}
	}
	if _, err := c.Watch(ctx, func(Message) {}); err == nil {
		t.Error("watching with a context that ended was no error")
	}
}

// TestLastWords: what the agent said before it ended reaches everybody who watches: it is why the machine reboots.
func TestLastWords(t *testing.T) {
	for range 20 {
		s := serve(t, t.TempDir(), newAgent())
		heard := 0
		ended, err := dial(t, s.dir).Watch(t.Context(), func(Message) { heard++ })
		if err != nil {
			t.Fatal(err)
		}
		for range backlog {
			s.feed.Tell(step("a word"))
		}
		s.stop()
		if err := <-ended; !errors.Is(err, io.EOF) {
			t.Errorf("the watch ended with %v", err)
		}
		if heard != backlog {
			t.Fatalf("heard %d of %d", heard, backlog)
		}
	}
}

// TestWatcherLeaves: a feed forgets who left.
func TestWatcherLeaves(t *testing.T) {
	s := serve(t, t.TempDir(), newAgent())
	ctx, leave := context.WithCancel(t.Context())
	ended, err := dial(t, s.dir).Watch(ctx, func(Message) {})
	if err != nil {
		t.Fatal(err)
	}
	leave()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for watchers(s.feed) > 0 { // the server has to notice, and nobody can wait for that
		runtime.Gosched()
	}
}

func watchers(f *Feed) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.watchers)
}

// TestSlowWatcher: it holds nobody up. It is cut off, having heard an unbroken beginning.
func TestSlowWatcher(t *testing.T) {
	s := serve(t, t.TempDir(), newAgent())
	awake := make(chan bool)
	heard := 0
	ended, err := dial(t, s.dir).Watch(t.Context(), func(m Message) {
		<-awake
		if got, _, _ := strings.Cut(m.Step.Why, " "); got != fmt.Sprint(heard) {
			t.Errorf("heard %s after %d messages", got, heard)
		}
		heard++
	})
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for ; watchers(s.feed) > 0; told++ { // until pipe and backlog are full
		s.feed.Tell(step(fmt.Sprintf("%d %s", told, strings.Repeat("x", 4096))))
	}
	close(awake)
	wantErr(t, <-ended, nil, "EOF")
	if heard < backlog || heard >= told {
		t.Errorf("heard %d messages of %d; want at least the backlog of %d, and not all", heard, told, backlog)
	}
}

// TestProgressIsDropped: before a watcher is cut off, it loses what the next message repeats.
func TestProgressIsDropped(t *testing.T) {
	var f Feed
	messages, leave := f.Join()
	for range 10 * backlog {
		f.Tell(Message{Progress: &updater.Progress{}})
	}
	const steps = backlog / 3
	for range steps {
		f.Tell(step("important"))
	}
	leave()
	leave() // twice is once
	got := 0
	for m := range messages {
		if m.Step != nil {
			got++
		}
	}
	if got != steps {
		t.Errorf("%d of %d steps arrived", got, steps)
	}
}

func TestRests(t *testing.T) {
	tests := []struct {
		step updater.Step
		err  error
		want bool
	}{
		{updater.Step{Do: updater.DoWait}, nil, true},
		{updater.Step{Do: updater.DoHalt}, nil, true},
		{updater.Step{Do: updater.DoReboot}, nil, true},
		{updater.Step{Do: updater.DoReboot}, errors.New("cannot reboot"), false},
		{updater.Step{Do: updater.DoSave}, nil, false},
		{updater.Step{Do: updater.DoAnswer}, nil, false},
	}
	for _, tt := range tests {
		if got := StepOf(tt.step, tt.err).Rests(); got != tt.want {
			t.Errorf("%s, %v: Rests = %v", tt.step.Do, tt.err, got)
		}
	}
}

func TestAnswers(t *testing.T) {
	for _, s := range []updater.Step{{Do: updater.DoAnswer}, {Do: updater.DoSave, Answers: true}} {
		if !StepOf(s, nil).Answers {
			t.Errorf("%+v answers nobody", s)
		}
	}
	if StepOf(updater.Step{Do: updater.DoSave}, nil).Answers {
		t.Error("a step of the agent's own answers somebody")
	}
}
