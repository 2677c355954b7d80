package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/evenkeel-os/evenkeel/cmd/internal/cli"
)

func quietApp(stdout, stderr io.Writer) *app {
	env := func(name string) string {
		if name == passphraseEnv {
			return "battery staple"
		}
		return ""
	}
	return &app{stdout: stdout, stderr: stderr, env: env, now: time.Now, ask: answers(""), work: 4}
}

// noting calls on for every line that is written to it.
type noting func(line string)

func (n noting) Write(p []byte) (int, error) {
	n(string(p))
	return len(p), nil
}

// TestInitStopped: who stops init, which may take a minute, is left with nothing half made.
func TestInitStopped(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	var said []string
	a := quietApp(io.Discard, noting(func(line string) {
		said = append(said, line)
		if strings.Contains(line, "key targets-1") {
			cancel()
		}
	}))
	keys, repo := filepath.Join(dir, "keys"), filepath.Join(dir, "repo")
	code := a.run(ctx, []string{"init", "--keys", keys, "--repo", repo, "--role", "all=1/1"})
	if code != exitFailed || !strings.Contains(said[len(said)-1], "stopped, and nothing was made") {
		t.Errorf("code %d, said %q", code, said)
	}
	for _, made := range []string{keys, repo} {
		if names, err := os.ReadDir(made); err == nil && len(names) > 0 {
			t.Errorf("%s holds %v", made, names)
		}
	}
	if code := quietApp(io.Discard, io.Discard).run(t.Context(), []string{"init", "--keys", keys, "--repo", repo, "--role", "all=1/1"}); code != exitOK {
		t.Errorf("init after it: code %d", code)
	}
}

func TestHelpFits(t *testing.T) {
	names := []string{""}
	for _, c := range quietApp(nil, nil).command().Commands() {
		names = append(names, c.Name())
	}
	for _, name := range names {
		var out bytes.Buffer
		if code := quietApp(&out, io.Discard).run(t.Context(), append(strings.Fields(name), "--help")); code != exitOK {
			t.Fatalf("%s: code %d", name, code)
		}
		for line := range strings.SplitSeq(out.String(), "\n") {
			if utf8.RuneCountInString(line) > cli.Width || strings.Contains(line, "true|false") {
				t.Errorf("%s: %s", name, line)
			}
		}
	}
}
