// Package control is how the commands of an operator reach the agent that runs on the same host.
//
// # Protocol
//
// HTTP over a unix socket in the agent's run directory, which only root may enter:
//
//	POST /v1/intent   updater.Intent  → updater.Answer, once the agent has decided
//	GET  /v1/status                   → whatever the agent's status is, as JSON
//	GET  /v1/watch                    → Messages, one JSON object a line, until the client leaves
//
// An error is an HTTP status of 400 or more with a sentence as text. A watcher that does not keep up loses progress, never
// steps or events: it is cut off instead, and may come back.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/evenkeel-os/evenkeel/updater"
)

// SocketName is the name of the socket in the run directory.
const SocketName = "agent.sock"

// maxIntent bounds what a client may send, in bytes.
const maxIntent = 64 << 10

// Message is one thing that a watcher hears of; exactly one field is set.
type Message struct {
	Step     *Step             `json:"step,omitempty"`
	Event    *updater.Event    `json:"event,omitempty"`
	Progress *updater.Progress `json:"progress,omitempty"`
}

// Step is what the agent did last, or tried.
type Step struct {
	Do      updater.Do   `json:"do"`
	Slot    updater.Slot `json:"slot,omitempty"`
	Why     string       `json:"why"`
	Error   string       `json:"error,omitempty"`   // it failed, and is tried again
	Suspect bool         `json:"suspect,omitempty"` // it failed because what the repository serves is not to be trusted
	Answers bool         `json:"answers,omitempty"` // it answered an intent
}

// StepOf describes a step that was done, with its error.
func StepOf(s updater.Step, err error) *Step {
	m := &Step{Do: s.Do, Slot: s.Slot, Why: s.Why, Answers: s.Answers || s.Do == updater.DoAnswer}
	if err != nil {
		m.Error = err.Error()
	}
	return m
}

// Rests reports whether the agent has nothing more to do until something changes.
func (s *Step) Rests() bool {
	return s.Error == "" && (s.Do == updater.DoWait || s.Do == updater.DoHalt || s.Do == updater.DoReboot)
}

// Agent is the side of the agent.
type Agent interface {
	Submit(updater.Intent) <-chan updater.Answer
	// Status returns a value to be encoded as JSON.
	Status(context.Context) (any, error)
}

// Serve answers on the socket in dir until ctx ends. The caller holds the agent's lock, so that a socket that is there was
// left by an agent that is gone.
func Serve(ctx context.Context, dir string, a Agent, f *Feed) error {
	l, err := listen(dir)
	if err != nil {
		return fmt.Errorf("cannot listen for commands: %w", err)
	}
	return serveOn(ctx, l, a, f)
}

func serveOn(ctx context.Context, l net.Listener, a Agent, f *Feed) error {
	srv := &http.Server{
		Handler: handler(a, f), ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		end(ctx, srv)
	})
	if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		stop()
		return fmt.Errorf("cannot listen for commands: %w", err)
	}
	<-ended
	return nil
}

// end lets the handlers say what they still have to: a command that waits must learn of what led to the agent's end.
func end(ctx context.Context, srv *http.Server) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if srv.Shutdown(ctx) != nil {
		_ = srv.Close()
	}
}

func listen(dir string) (net.Listener, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, SocketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func handler(a Agent, f *Feed) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/intent", func(w http.ResponseWriter, r *http.Request) {
		in, err := readIntent(http.MaxBytesReader(w, r.Body, maxIntent))
		if err != nil {
			http.Error(w, "cannot understand the command: "+err.Error(), http.StatusBadRequest)
			return
		}
		select {
		case ans := <-a.Submit(in):
			reply(w, ans)
		case <-r.Context().Done():
			http.Error(w, "it ends, or restarts", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		st, err := a.Status(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		reply(w, st)
	})
	mux.HandleFunc("GET /v1/watch", func(w http.ResponseWriter, r *http.Request) { watch(w, r, f) })
	return mux
}

// readIntent refuses what this agent does not know: it would be left without an answer, or obeyed by half.
func readIntent(r io.Reader) (in updater.Intent, err error) {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return in, err
	}
	switch in.Verb {
	case updater.Update, updater.Rollback, updater.Confirm, updater.Cancel, updater.Retry, updater.CheckNow:
		return in, nil
	}
	return in, fmt.Errorf("there is no verb %q", in.Verb)
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a client that left is nobody's error
}

func watch(w http.ResponseWriter, r *http.Request, f *Feed) {
	messages, leave := f.Join()
	defer leave()
	w.Header().Set("Content-Type", "application/x-ndjson")
	flush := http.NewResponseController(w)
	if flush.Flush() != nil { // the client must know that it hears everything from now on
		return
	}
	for {
		select {
		case m, ok := <-messages:
			if !ok || json.NewEncoder(w).Encode(m) != nil || flush.Flush() != nil {
				return
			}
		case <-r.Context().Done():
			for m := range pending(messages) {
				_ = json.NewEncoder(w).Encode(m) // the client may have left
			}
			return
		}
	}
}

// pending yields what is in the channel already.
func pending(messages <-chan Message) iter.Seq[Message] {
	return func(yield func(Message) bool) {
		for {
			select {
			case m, ok := <-messages:
				if !ok || !yield(m) {
					return
				}
			default:
				return
			}
		}
	}
}
