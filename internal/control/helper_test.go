package control

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/evenkeel-os/evenkeel/updater"
)

// TestMain: neither a server that ended nor a client that left leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeAgent answers every intent with Answer, or never where there is none.
type fakeAgent struct {
	Answer *updater.Answer
	Err    error // of Status
	asked  chan updater.Intent
}

func newAgent() *fakeAgent {
	return &fakeAgent{Answer: &updater.Answer{Message: "done"}, asked: make(chan updater.Intent, 16)}
}

func (a *fakeAgent) Submit(in updater.Intent) <-chan updater.Answer {
	a.asked <- in
	c := make(chan updater.Answer, 1)
	if a.Answer != nil {
		c <- *a.Answer
	}
	return c
}

func (a *fakeAgent) Status(context.Context) (any, error) { return map[string]int{"attempts": 3}, a.Err }

// server is a running Serve.
type server struct {
	dir  string
	feed *Feed
	stop func()
	done chan error
}

// serve starts a server in dir and returns when it listens. It has ended when the test has.
func serve(t *testing.T, dir string, a Agent) *server {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	s := &server{dir: dir, feed: &Feed{}, stop: stop, done: make(chan error, 1)}
	l, err := listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	go func() { s.done <- serveOn(ctx, l, a, s.feed) }()
	t.Cleanup(func() {
		stop()
		if err := <-s.done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

func dial(t *testing.T, dir string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// post sends a body as no Client would.
func post(t *testing.T, dir, body string) (status int, text string) {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, SocketName))
	}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://agent/v1/intent", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(b))
}

func step(why string) Message { return Message{Step: &Step{Do: updater.DoWait, Why: why}} }

func wantErr(t *testing.T, err error, is error, part string) {
	t.Helper()
	if err == nil || is != nil && !errors.Is(err, is) || !strings.Contains(err.Error(), part) {
		t.Errorf("error %v; want one that is %v and says %q", err, is, part)
	}
}
