package health_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/evenkeel-os/evenkeel/health"
	"github.com/evenkeel-os/evenkeel/updater"
)

// put makes a file below dir: an executable if it begins with #!, a link if with ->.
func put(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		if to, ok := strings.CutPrefix(content, "->"); ok {
			err = os.Symlink(to, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
	}
	if err == nil && strings.HasPrefix(content, "#!") {
		err = os.Chmod(path, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

const sh = "#!/bin/sh\n"

func names(r updater.Report) (n []string) {
	for _, c := range r.Checks {
		n = append(n, c.Name)
	}
	return n
}

func TestScriptsInLexicalOrder(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	for _, name := range []string{"required.d/20_b.sh", "wanted.d/05_w", "required.d/10_a.sh", "required.d/100.sh", "wanted.d/04_W"} {
		put(t, dir, name, sh+"echo "+name+" >>"+log+"\n")
	}
	r := probe(t, health.Config{Dirs: []string{dir}})
	want := []string{"required.d/100.sh", "required.d/10_a.sh", "required.d/20_b.sh", "wanted.d/04_W", "wanted.d/05_w"}
	ran, err := os.ReadFile(log)
	if err != nil || !slices.Equal(strings.Fields(string(ran)), want) {
		t.Errorf("ran %q, %v, want %q", ran, err, want)
	}
	if !slices.Equal(names(r), want) || !r.Healthy {
		t.Errorf("report = %+v", r)
	}
}

func TestExitStatus(t *testing.T) {
	tests := []struct {
		name, script string
		ok           bool
		want         string
	}{
		{"passes", sh + "exit 0\n", true, ""},
		{"says something", sh + "echo fine; echo really >&2\n", true, "fine\nreally"},
		{"fails", sh + "exit 1\n", false, "exit status 1"},
		{"fails and says why", sh + "echo 'no disk'; exit 7\n", false, "no disk\nexit status 7"},
		{"is killed", sh + "kill -9 $$\n", false, "signal: killed"},
		{"has no interpreter", "#!/no/such/shell\n", false, "no such file or directory"},
		{"does not exist", "->/no/such/file", false, "no such file or directory"},
		{"is not executable", "echo hello\n", false, "is no executable file"},
		{"is a directory", "->/", false, "is no executable file"},
		{"is a device", "->/dev/zero", false, "is no executable file"},
	}
	for _, level := range []health.Level{health.Required, health.Wanted} {
		for _, tt := range tests {
			t.Run(string(level)+" "+tt.name, func(t *testing.T) {
				dir := t.TempDir()
				put(t, dir, string(level)+".d/check", tt.script)
				r := probe(t, health.Config{Dirs: []string{dir}})
				c := only(t, r)
				if c.OK != tt.ok || !strings.Contains(c.Output, tt.want) || tt.want == "" && c.Output != "" {
					t.Errorf("check = %+v, want ok %v with %q", c, tt.ok, tt.want)
				}
				if want := tt.ok || level == health.Wanted; r.Healthy != want || c.Required != (level == health.Required) {
					t.Errorf("healthy %v, required %v", r.Healthy, c.Required)
				}
			})
		}
	}
}

// TestReplacedAndMasked: the image's scripts lie in one directory, the machine's in a later one.
func TestReplacedAndMasked(t *testing.T) {
	image, machine := t.TempDir(), t.TempDir()
	put(t, image, "required.d/10_kept", sh+"echo image")
	put(t, image, "required.d/20_replaced", sh+"exit 1")
	put(t, image, "required.d/30_masked", sh+"exit 1")
	put(t, image, "required.d/40_unmasked", "->/dev/null")
	put(t, machine, "required.d/20_replaced", sh+"echo machine")
	put(t, machine, "required.d/30_masked", "->/dev/null")
	put(t, machine, "required.d/40_unmasked", sh+"echo machine")
	put(t, machine, "wanted.d/10_kept", sh+"echo wanted")
	r := probe(t, health.Config{Dirs: []string{image, machine, filepath.Join(image, "missing")}})
	var got []string
	for _, c := range r.Checks {
		got = append(got, c.Name+"="+c.Output)
	}
	want := []string{"required.d/10_kept=image", "required.d/20_replaced=machine", "required.d/40_unmasked=machine", "wanted.d/10_kept=wanted"}
	if !slices.Equal(got, want) {
		t.Errorf("checks = %q, want %q", got, want)
	}
}

func TestWhatLiesBesidePrograms(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".hidden", ".x.swp", "README", "README.md", "notes.txt", "a.sh~", "a.bak", "a.orig", "a.dpkg-old", "a.dpkg-new", "a.dpkg-dist", "a.rpmnew", "a.rpmsave"} {
		put(t, dir, "required.d/"+name, sh+"exit 1\n")
	}
	put(t, dir, "required.d/subdir/x", sh+"exit 1\n")
	put(t, dir, "required.d/a.sh", sh)
	if r := probe(t, health.Config{Dirs: []string{dir}}); !r.Healthy || only(t, r).Name != "required.d/a.sh" {
		t.Errorf("report = %+v", r)
	}
}

func TestUnreadableDirectoryIsNoVerdict(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "required.d", "this is a file")
	_, err := prober(t, health.Config{Dirs: []string{dir}}).Probe(t.Context())
	if err == nil || !errors.Is(err, syscall.ENOTDIR) || !strings.Contains(err.Error(), "required.d") {
		t.Errorf("error = %v, want one that names the directory", err)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("EVENKEEL_SECRET", "of the agent")
	dir := t.TempDir()
	put(t, dir, "required.d/env", sh+"env | sort; pwd; read x || echo no input\n")
	c := only(t, probe(t, health.Config{Dirs: []string{dir}, Env: []string{"EVENKEEL_SLOT=b", "LANG=C"}}))
	got := strings.Split(c.Output, "\n")
	got = slices.DeleteFunc(got, func(l string) bool { return strings.HasPrefix(l, "PWD=") || strings.HasPrefix(l, "_=") })
	want := []string{"EVENKEEL_SLOT=b", "LANG=C", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "/", "no input"}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("environment = %q, want %q", got, want)
	}
}

func TestScriptIsRepeated(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "required.d/third", sh+fmt.Sprintf("echo x >>%[1]s/n; echo try $(wc -l <%[1]s/n); [ $(wc -l <%[1]s/n) -ge 3 ]\n", dir))
	c := only(t, probe(t, health.Config{Dirs: []string{dir}, Settle: time.Hour, Every: time.Nanosecond}))
	if !c.OK || c.Output != "try 3" {
		t.Errorf("check = %+v, want the third try", c)
	}
}

// TestWhatCannotMendIsNotRepeated: the end of the probe's patience would come first.
func TestWhatCannotMendIsNotRepeated(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "required.d/x", "no program\n")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := prober(t, health.Config{Dirs: []string{dir}, Settle: time.Hour, Every: time.Minute}).Probe(ctx)
	if err != nil || r.Healthy {
		t.Errorf("Probe = %+v, %v", r, err)
	}
}

// family is a script with a child and a grandchild in its group. All hold the output and fifo open, ignore friendly
// signals, and never end.
const family = sh + `trap '' TERM INT HUP
exec 9>%s
sh -c 'trap "" TERM INT HUP; sh -c "trap \"\" TERM; echo up >&9; while :; do sleep 1000; done" & while :; do sleep 1000; done' &
echo started
%s
`

// fifo returns the path of a named pipe, and one that reads it: lines while somebody writes, EOF when nobody can any more.
func fifo(t *testing.T) (string, func() *bufio.Reader) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, func() *bufio.Reader {
		f, err := os.Open(path)
		if err != nil {
			t.Error(err)
			return bufio.NewReader(bytes.NewReader(nil))
		}
		t.Cleanup(func() { f.Close() })
		return bufio.NewReader(f)
	}
}

// everybodyIsGone reads to the end of the pipe: there is one only when the last process that held it is dead.
func everybodyIsGone(t *testing.T, r *bufio.Reader) {
	t.Helper()
	for {
		if _, err := r.ReadString('\n'); err != nil {
			return
		}
	}
}

func TestTimeoutKillsTheWholeFamily(t *testing.T) {
	pipe, _ := fifo(t)
	dir := t.TempDir()
	put(t, dir, "required.d/family", fmt.Sprintf(family, pipe, "while :; do sleep 1000; done"))
	reader, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0) // does not wait for a script that may be slow
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	c := only(t, probe(t, health.Config{Dirs: []string{dir}, Timeout: time.Second}))
	if c.OK || !strings.HasSuffix(c.Output, "it did not end within 1s") {
		t.Errorf("check = %+v", c)
	}
	everybodyIsGone(t, bufio.NewReader(reader))
}

func TestEndOfTheProbeKillsTheWholeFamily(t *testing.T) {
	pipe, open := fifo(t)
	dir := t.TempDir()
	put(t, dir, "required.d/family", fmt.Sprintf(family, pipe, "while :; do sleep 1000; done"))
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan *bufio.Reader, 1)
	go func() {
		r := open()
		_, _ = r.ReadString('\n') // the grandchild is up
		cancel()
		gone <- r
	}()
	if _, err := prober(t, health.Config{Dirs: []string{dir}, Timeout: time.Hour}).Probe(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
	everybodyIsGone(t, <-gone)
}

// TestNobodyOutlivesAScriptThatPassed: a child in the background must neither stay nor hold up the verdict.
func TestNobodyOutlivesAScriptThatPassed(t *testing.T) {
	pipe, open := fifo(t)
	dir := t.TempDir()
	put(t, dir, "required.d/family", fmt.Sprintf(family, pipe, "exit 0"))
	gone := make(chan *bufio.Reader, 1)
	go func() { gone <- open() }()
	if c := only(t, probe(t, health.Config{Dirs: []string{dir}, Timeout: time.Hour})); !c.OK || c.Output != "started" {
		t.Errorf("check = %+v", c)
	}
	everybodyIsGone(t, <-gone)
}

// TestEmigrantDoesNotHoldUpTheVerdict: a daemon of its own session keeps the output open for ever.
func TestEmigrantDoesNotHoldUpTheVerdict(t *testing.T) {
	dir := t.TempDir()
	pid := filepath.Join(dir, "pid")
	put(t, dir, "required.d/daemon", sh+"setsid sh -c 'echo $$ >"+pid+".new; mv "+pid+".new "+pid+"; exec sleep 1000' &\n"+
		"while [ ! -e "+pid+" ]; do :; done; echo ready\n")
	c := only(t, probe(t, health.Config{Dirs: []string{dir}, Timeout: time.Hour}))
	if !c.OK || c.Output != "ready" {
		t.Errorf("check = %+v", c)
	}
	var n int
	if b, err := os.ReadFile(pid); err != nil {
		t.Error(err)
	} else if _, err := fmt.Sscan(string(b), &n); err != nil || syscall.Kill(n, syscall.SIGKILL) != nil {
		t.Errorf("the daemon, process %d, is gone: %v", n, err)
	}
}

func TestOutputIsBoundedAndClean(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "required.d/10_floods", sh+`i=0; while [ $i -lt 20000 ]; do echo "line $i"; i=$((i+1)); done; exit 1`+"\n")
	put(t, dir, "required.d/20_floods", sh+`i=0; while [ $i -lt 20000 ]; do echo "line $i"; i=$((i+1)); done`+"\n")
	put(t, dir, "required.d/30_dirty", sh+`printf 'bad \377 byte \033[31mred\033[0m\a\000 end\r\n'; exit 1`+"\n")
	put(t, dir, "wanted.d/\x1b[2Jname\xff", sh)
	r := probe(t, health.Config{Dirs: []string{dir}})
	for _, c := range r.Checks {
		if s := c.Name + c.Output; !utf8.ValidString(s) || strings.ContainsAny(s, "\x1b\a\x00\r") {
			t.Errorf("not clean: %+v", c)
		}
	}
	if out := r.Checks[0].Output; len(out) > 4<<10 || len(out) < 3<<10 || !strings.HasPrefix(out, "…\nline ") || !strings.HasSuffix(out, "line 19999\nexit status 1") {
		t.Errorf("output of a failure: %d bytes, %.40q ... %q", len(out), out, out[len(out)-40:])
	}
	if out := r.Checks[1].Output; len(out) > 512 || !strings.HasSuffix(out, "line 19999") {
		t.Errorf("output of a success: %d bytes", len(out))
	}
	if want := "bad \uFFFD byte [31mred[0m end\nexit status 1"; r.Checks[2].Output != want {
		t.Errorf("output = %q, want %q", r.Checks[2].Output, want)
	}
}
