package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/fixtures/appliance"
	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/internal/config"
	"github.com/evenkeel-os/evenkeel/internal/durable"
	"github.com/evenkeel-os/evenkeel/tuf"
)

// testApp is a command with nothing around it.
func testApp() *app {
	return &app{
		stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, lookup: func(string) (string, bool) { return "", false },
		now: time.Now, version: "0.1.0", root: true,
	}
}

func TestCodes(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("cannot do it: %w", err) }
	tests := []struct {
		err  error
		want int
	}{
		{errors.New("the disk is gone"), exitFailed},
		{wrap(failure(exitRefused, "no")), exitRefused},
		{wrap(&durable.HeldError{Path: "/x"}), exitLocked},
		{wrap(&config.Error{}), exitConfig},
		{wrap(&tuf.Error{Role: "timestamp", Blame: tuf.BlameRepository, Err: errors.New("x")}), exitUntrusted},
		{wrap(&tuf.Error{Role: "timestamp", Blame: tuf.BlameEither, Err: errors.New("x")}), exitUntrusted},
		{wrap(&image.CorruptError{Err: errors.New("x")}), exitUntrusted},
		// What is wrong on the host is not the repository's fault.
		{wrap(&tuf.Error{Role: "root", Blame: tuf.BlameHost, Err: errors.New("x")}), exitFailed},
		{errors.Join(errors.New("no network"), &tuf.Error{Role: "the repository", Blame: tuf.BlameHost, Err: errors.New("x")}), exitFailed},
	}
	for _, tt := range tests {
		a := testApp()
		a.started = true
		if got := a.code(tt.err); got != tt.want {
			t.Errorf("%v: code %d; want %d", tt.err, got, tt.want)
		}
		a.started = false
		if got := a.code(tt.err); got != exitUsage {
			t.Errorf("%v, before anything began: code %d; want %d", tt.err, got, exitUsage)
		}
	}
}

func TestHints(t *testing.T) {
	denied := fmt.Errorf("cannot read it: %w", fs.ErrPermission)
	missing := fmt.Errorf("cannot read it: %w", fs.ErrNotExist)
	tests := []struct {
		err           error
		code          int
		started, root bool
		want          string
	}{
		{denied, exitFailed, true, false, "it takes root"},
		{denied, exitFailed, true, true, ""}, // it is something else, such as a device that may not be opened
		{missing, exitConfig, true, true, "write one"},
		{missing, exitFailed, true, true, ""},
		{errors.New("unknown flag"), exitUsage, false, true, "see evenkeel help"},
	}
	for _, tt := range tests {
		a := testApp()
		a.started, a.root = tt.started, tt.root
		if got := a.hint(tt.err, tt.code); !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%+v: hint %q", tt, got)
		}
	}
}

// TestNotRoot runs commands without the rights of root: every one that needs them says so, whether an agent runs or not.
func TestNotRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give up its rights for a moment")
	}
	repo := fixtures.NewRepo(time.Now())
	srv := httptest.NewServer(repo)
	defer srv.Close()
	dir := filepath.Join(t.TempDir(), "m")
	m, err := appliance.New(appliance.Options{
		Dir: dir, Program: "/bin/true", Repository: srv.URL, Root: repo.File("metadata/1.root.json"), RootSize: imageSize,
		Factory: appliance.OS{Version: "1.0", Serial: 10, Behaviour: appliance.Good}, Mode: "check", Poll: "1h", Console: &appliance.Console{},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.BootWithoutAgent(); err != nil {
		t.Fatal(err)
	}
	for up := dir; up != filepath.Dir(os.TempDir()); up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); up != os.TempDir() && err != nil { // all may enter, but for what is the agent's alone
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"update"}, {"check"}, {"cancel"}, {"history"}, {"status"}, {"agent"}} {
		code, out := asNobody(t, append([]string{"--config", filepath.Join(dir, "evenkeel.yaml")}, args...))
		if code != exitFailed || !strings.Contains(out, "permission denied") || !strings.Contains(out, "it takes root: run it with sudo") {
			t.Errorf("%s: code %d, %s", args[0], code, out)
		}
	}
}

func asNobody(t *testing.T, args []string) (code int, stderr string) {
	t.Helper()
	a := testApp()
	a.root = false
	done := make(chan int)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with its rights
		_ = unix.Setfsuid(65534)
		done <- a.run(t.Context(), args)
	}()
	code = <-done
	return code, a.stderr.(*bytes.Buffer).String()
}
