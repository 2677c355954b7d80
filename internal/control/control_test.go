package control

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/evenkeel-os/evenkeel/updater"
)

func TestSubmit(t *testing.T) {
	tests := []struct {
		in     updater.Intent
		answer updater.Answer
	}{
		{updater.Intent{Verb: updater.Update, Version: "1.2", NoReboot: true}, updater.Answer{Message: "install release 1.2 into slot b"}},
		{updater.Intent{Verb: updater.Rollback, Force: true}, updater.Answer{Refused: true, Message: "there is nothing to go back to"}},
		{updater.Intent{Verb: updater.Confirm}, updater.Answer{Message: "slot b is well"}},
		{updater.Intent{Verb: updater.Cancel}, updater.Answer{Message: "cancelled"}},
		{updater.Intent{Verb: updater.Retry, Version: "1.1"}, updater.Answer{Message: "allowed again"}},
		{updater.Intent{Verb: updater.CheckNow}, updater.Answer{Message: "<nothing> & \"nobody\""}},
	}
	for _, tt := range tests {
		a := newAgent()
		a.Answer = &tt.answer
		s := serve(t, t.TempDir(), a)
		got, err := dial(t, s.dir).Submit(t.Context(), tt.in)
		if err != nil || got != tt.answer {
			t.Errorf("%s: answer %+v, %v; want %+v", tt.in.Verb, got, err, tt.answer)
		}
		if asked := <-a.asked; asked != tt.in {
			t.Errorf("the agent was asked %+v; want %+v", asked, tt.in)
		}
	}
}

// TestRefusedBodies: what the agent cannot understand never reaches it, and is answered with what is wrong.
func TestRefusedBodies(t *testing.T) {
	tests := []struct{ name, body, says string }{
		{"no JSON", `update please`, "cannot understand the command: invalid character 'u'"},
		{"nothing", ``, "cannot understand the command: EOF"},
		{"cut off", `{"verb":"upd`, "cannot understand the command: unexpected EOF"},
		{"wrong type", `{"verb":7}`, "cannot unmarshal number"},
		{"unknown field", `{"verb":"update","reboot":false}`, `unknown field "reboot"`},
		{"no verb", `{}`, `there is no verb ""`},
		{"unknown verb", `{"verb":"explode"}`, `there is no verb "explode"`},
		{"too long", `{"verb":"update","version":"` + strings.Repeat("9", maxIntent) + `"}`, "request body too large"},
	}
	a := newAgent()
	s := serve(t, t.TempDir(), a)
	for _, tt := range tests {
		if status, text := post(t, s.dir, tt.body); status != 400 || !strings.Contains(text, tt.says) {
			t.Errorf("%s: status %d, %q; want 400 and %q", tt.name, status, text, tt.says)
		}
	}
	if len(a.asked) > 0 {
		t.Errorf("the agent was asked %+v", <-a.asked)
	}
}

func TestStatus(t *testing.T) {
	a := newAgent()
	c := dial(t, serve(t, t.TempDir(), a).dir)
	var st struct{ Attempts int }
	if err := c.Status(t.Context(), &st); err != nil || st.Attempts != 3 {
		t.Errorf("status %+v, %v", st, err)
	}
	a.Err = errors.New("cannot tell which slot runs: the command line does not say")
	wantErr(t, c.Status(t.Context(), &st), nil, "the agent says: cannot tell which slot runs: the command line does not say")
	wantErr(t, c.call(t.Context(), "GET", "nonsense", nil, &st), nil, "the agent says: 404 page not found")
}

// TestAnswerThatIsNone: an agent of another version may answer anything.
func TestAnswerThatIsNone(t *testing.T) {
	var text string
	c := dial(t, serve(t, t.TempDir(), newAgent()).dir)
	wantErr(t, c.Status(t.Context(), &text), nil, "cannot read the agent's answer")
}

// TestClientLeaves: an agent that does not answer holds nobody who left, and is not held by them.
func TestClientLeaves(t *testing.T) {
	a := newAgent()
	a.Answer = nil
	s := serve(t, t.TempDir(), a)
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		<-a.asked
		leave()
	}()
	_, err := dial(t, s.dir).Submit(ctx, updater.Intent{Verb: updater.Update})
	wantErr(t, err, context.Canceled, "cannot talk to the agent")
}

// TestAgentEnds: whoever waits hears that the agent is gone.
func TestAgentEnds(t *testing.T) {
	a := newAgent()
	a.Answer = nil
	s := serve(t, t.TempDir(), a)
	c := dial(t, s.dir)
	ended, err := c.Watch(t.Context(), func(Message) {})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-a.asked
		s.stop()
	}()
	_, err = c.Submit(t.Context(), updater.Intent{Verb: updater.Update})
	wantErr(t, err, nil, "the agent") // says that it ends, or is gone before it can
	wantErr(t, <-ended, nil, "EOF")
	_, err = Dial(t.Context(), s.dir)
	wantErr(t, err, ErrNoAgent, "no agent runs")
}

func TestNoAgent(t *testing.T) {
	left := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(left, SocketName))
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{
		"empty directory": t.TempDir(), "no directory": filepath.Join(t.TempDir(), "none"), "socket of a killed agent": left,
	} {
		if _, err := Dial(t.Context(), dir); !errors.Is(err, ErrNoAgent) {
			t.Errorf("%s: %v; want ErrNoAgent", name, err)
		}
	}
	dial(t, serve(t, left, newAgent()).dir) // a new agent takes the place of the socket that was left
}

// TestPermission: who may not reach the agent must not think that there is none, and do its work beside it.
func TestPermission(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	serve(t, dir, newAgent())
	err := asNobody(t, dir, func() error {
		_, err := Dial(t.Context(), dir)
		return err
	})
	wantErr(t, err, fs.ErrPermission, "cannot reach the agent")
	if errors.Is(err, ErrNoAgent) {
		t.Errorf("%v is taken for no agent", err)
	}
}

// asNobody runs f without the right to enter dir, which root has whatever its mode says.
func asNobody(t *testing.T, dir string, f func() error) error {
	t.Helper()
	if os.Geteuid() != 0 {
		if err := os.Chmod(dir, 0); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(dir, 0o700) //nolint:errcheck // the test's directory goes anyway
		return f()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with its rights
		_ = unix.Setfsuid(65534)
		done <- f()
	}()
	return <-done
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run", "evenkeel")
	serve(t, dir, newAgent())
	for path, want := range map[string]fs.FileMode{dir: fs.ModeDir | 0o700, filepath.Join(dir, SocketName): fs.ModeSocket | 0o600} {
		st, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode() != want {
			t.Errorf("%s has mode %v; want %v", path, st.Mode(), want)
		}
	}
}

func TestCannotListen(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantErr(t, Serve(t.Context(), filepath.Join(dir, "file"), newAgent(), &Feed{}), nil, "cannot listen for commands")
	long := filepath.Join(dir, strings.Repeat("x", 120))
	wantErr(t, Serve(t.Context(), long, newAgent(), &Feed{}), nil, "cannot listen for commands")
	if err := os.MkdirAll(filepath.Join(dir, "full", SocketName, "something"), 0o700); err != nil {
		t.Fatal(err)
	}
	wantErr(t, Serve(t.Context(), filepath.Join(dir, "full"), newAgent(), &Feed{}), nil, "cannot listen for commands")
}
