package main

import (
	"errors"
	"strings"

	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/internal/control"
	"github.com/evenkeel-os/evenkeel/tuf"
	"github.com/evenkeel-os/evenkeel/updater"
)

// follower goes along with what comes of one intent, tells a person about it, and knows how it ended.
type follower struct {
	app    *app
	intent updater.Intent
	meter  meter
	follow bool

	answer   updater.Answer
	answered *control.Step // the step that answered
	rest     *control.Step // after it, the agent had nothing more to do
	unread   string        // why the repository could not be asked
	suspect  bool          // what it serves is not to be trusted
	failed   string        // what was told last of what failed
	broken   *control.Step // the last failure to install
	events   []updater.Event
}

// goesOn reports whether there is more to come.
func (f *follower) goesOn() bool {
	if f.answered == nil {
		return true // also when it was refused: what led to that is told on the way
	}
	return !f.answer.Refused && f.follow && f.answered.Do != updater.DoAnswer && f.rest == nil
}

func (f *follower) rebooting() bool { return f.rest != nil && f.rest.Do == updater.DoReboot }

// rebootFollows reports whether what happened last leads to a reboot. The agent may be gone before it can say that it asked.
func (f *follower) rebootFollows() bool {
	if len(f.events) == 0 || f.intent.NoReboot {
		return false
	}
	switch f.events[len(f.events)-1].Kind {
	case string(updater.Armed), string(updater.Reverting), string(updater.Closing):
		return true
	}
	return false
}

// hear tells m, and takes note of it.
func (f *follower) hear(m control.Message) {
	f.tell(m)
	f.take(m)
}

// tell shows a person what the agent does.
func (f *follower) tell(m control.Message) {
	switch {
	case m.Progress != nil:
		f.meter.show(*m.Progress)
	case m.Event != nil:
		f.meter.end()
		f.app.note("%s: %s", m.Event.Kind, m.Event.Message)
		for _, c := range m.Event.Checks {
			if !c.OK && c.Output != "" {
				f.app.note("%s", indent(checkText(c), "    "))
			}
		}
	case m.Step != nil:
		if s := m.Step; s.Error != "" && s.Error != f.failed { // what is tried again and again is told once
			f.meter.end()
			f.app.note("%s: %s", s.Why, s.Error)
		}
		f.failed = m.Step.Error
	}
}

// take notes what m means for how it ends. The answer must be known: it says what a step was about.
func (f *follower) take(m control.Message) {
	switch {
	case m.Event != nil:
		f.events = append(f.events, *m.Event)
	case m.Step != nil:
		f.step(m.Step)
	}
}

func (f *follower) step(s *control.Step) {
	if s.Do == updater.DoInstall && s.Error != "" {
		f.broken = s
	}
	if s.Do == updater.DoRefresh {
		f.unread, f.suspect = s.Error, s.Suspect
	}
	switch {
	case f.answered == nil && (s.Answers && s.Error == "" || f.answer.Refused && (s.Answers || s.Error != "")):
		f.answered = s
	case f.answered != nil && s.Rests():
		f.rest = s
	}
}

// stepOf describes a step to whoever follows.
func stepOf(s updater.Step, err error) *control.Step {
	m := control.StepOf(s, plainly(err))
	m.Suspect = untrusted(err)
	return m
}

// plainly drops what a step says of its failure where the failure says it again.
func plainly(err error) error {
	if inner := errors.Unwrap(err); inner != nil && strings.HasPrefix(inner.Error(), "cannot ") {
		return inner
	}
	return err
}

// untrusted: the bytes came from the repository, and they are not to be trusted.
func untrusted(err error) bool {
	var t *tuf.Error
	if errors.As(err, &t) {
		return t.Blame != tuf.BlameHost
	}
	var corrupt *image.CorruptError
	return errors.As(err, &corrupt)
}

// operated is what a mutating command prints with --json.
type operated struct {
	Verb    updater.Verb    `json:"verb"`
	Refused bool            `json:"refused"`
	Waiting bool            `json:"waiting"`
	Message string          `json:"message"`
	Phase   updater.Phase   `json:"phase,omitempty"`
	Events  []updater.Event `json:"events,omitempty"`
}

// conclude says how it ended.
func (f *follower) conclude(st status) error {
	f.meter.end()
	out := operated{Verb: f.intent.Verb, Refused: f.answer.Refused, Message: f.answer.Message, Phase: st.Phase, Events: f.events}
	code := exitOK
	switch {
	case f.answer.Refused:
		code = exitRefused
	case f.unread != "" && f.answered.Do == updater.DoAnswer:
		out.Message, code = "the repository could not be read: "+f.unread, exitFailed
		if f.suspect {
			code = exitUntrusted
		}
	case f.rest != nil:
		out.Message, code = f.rest.Why, f.ended(st)
		if n := len(f.events); n > 0 && st.Phase == updater.Idle && !f.rebooting() { // how it ended, not what comes next
			out.Message = f.events[n-1].Message
			if f.broken != nil && f.events[n-1].Kind == string(updater.GaveUp) {
				out.Message, code = out.Message+": "+f.broken.Error, f.blame()
			}
		}
	}
	out.Waiting = code == exitWaiting
	if code == exitOK {
		f.app.say("%s", sentence(out.Message))
		return f.app.result(out)
	}
	if f.app.json {
		return &exitError{code, &reported{out, errors.New(out.Message)}}
	}
	return failure(code, "%s", out.Message)
}

// blame is the exit code of an install that was given up.
func (f *follower) blame() int {
	if f.broken.Suspect {
		return exitUntrusted
	}
	return exitFailed
}

// ended judges where the machine came to rest.
func (f *follower) ended(st status) int {
	switch {
	case f.rebooting(), st.Phase == updater.Armed:
		return exitOK
	case f.rest.Do == updater.DoHalt:
		return exitFailed
	case st.Phase != updater.Idle:
		return exitWaiting
	case len(f.events) == 0:
		return exitOK
	}
	want := map[updater.Verb]string{updater.Cancel: string(updater.Cancelled), updater.Confirm: string(updater.Confirmed)}
	if last := f.events[len(f.events)-1].Kind; last != want[f.intent.Verb] && last != string(updater.Confirmed) {
		return exitFailed
	}
	return exitOK
}

// reported is a failure whose JSON says more than its sentence.
type reported struct {
	out any
	err error
}

func (r *reported) Error() string { return r.err.Error() }
func (r *reported) Unwrap() error { return r.err }

func sentence(s string) string {
	if s == "" {
		return "done"
	}
	return s
}
