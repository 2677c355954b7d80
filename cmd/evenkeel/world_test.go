package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/fixtures/appliance"
	"github.com/evenkeel-os/evenkeel/release"
)

var update = flag.Bool("update", false, "write what the scripts print into their golden files")

// imageSize keeps the images of the tests small.
const imageSize = 1 << 20

// patience bounds how long a script waits for what a machine should say. It is no measure of anything.
const patience = 2 * time.Minute

// world is what a script works on: one machine in $M, and one repository.
type world struct {
	dir     string
	repo    *fixtures.Repo
	url     string
	served  map[string][]byte // before "repo gone"
	console *appliance.Console
	machine *appliance.Appliance
	off     context.CancelFunc
	down    chan error
	stalled chan struct{} // closed when somebody waits for a stalled download
	resume  chan struct{} // closed by "repo go"
}

func setup(e *testscript.Env) error {
	w := &world{dir: filepath.Join(e.WorkDir, "m"), repo: fixtures.NewRepo(time.Now()), console: &appliance.Console{}}
	srv := httptest.NewServer(w.repo)
	w.url = srv.URL
	e.Defer(func() {
		_ = w.powerOff()
		srv.CloseClientConnections()
		srv.Close()
	})
	e.Values[worldKey{}] = w
	e.Setenv("M", w.dir)
	e.Setenv("URL", w.url)
	e.Setenv("EVENKEEL_CONFIG", filepath.Join(w.dir, "evenkeel.yaml"))
	e.Setenv("JOURNAL_STREAM", "")
	return nil
}

type worldKey struct{}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

// cmdMachine is "machine [MODE]": a machine as it leaves the factory, with release 1.0 in slot a. It is off. The mode is
// "check" unless it is given; the agent asks for releases every hour, and once when it starts.
func cmdMachine(ts *testscript.TestScript, _ bool, args []string) {
	w, mode := worldOf(ts), "check"
	if len(args) > 0 {
		mode = args[0]
	}
	program, err := exec.LookPath("evenkeel")
	ts.Check(err)
	w.machine, err = appliance.New(appliance.Options{
		Dir: w.dir, Program: program, Repository: w.url, Root: w.repo.File("metadata/1.root.json"), RootSize: imageSize,
		Factory: appliance.OS{Version: "1.0", Serial: 10, Behaviour: appliance.Good}, Mode: mode, Poll: "1h", Console: w.console,
	})
	ts.Check(err)
	ts.Check(os.MkdirAll(filepath.Join(w.dir, "state/config.d"), 0o700))
}

// cmdOn is "on": it switches the machine on.
func cmdOn(ts *testscript.TestScript, _ bool, _ []string) {
	w := worldOf(ts)
	ctx, off := context.WithCancel(context.Background())
	w.off, w.down = off, make(chan error, 1)
	go func() { w.down <- w.machine.Run(ctx) }()
}

// cmdBoot is "boot": the machine is on, and its agent is not there.
func cmdBoot(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(worldOf(ts).machine.BootWithoutAgent())
}

// cmdBlock is "block": a health check hangs until "unblock".
func cmdBlock(ts *testscript.TestScript, _ bool, _ []string) {
	dir := filepath.Join(worldOf(ts).dir, "os")
	ts.Check(syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	script := "#!/bin/sh\nread line <" + filepath.Join(dir, "fifo") + "\n"
	ts.Check(os.WriteFile(filepath.Join(dir, "health/required.d/20-slow"), []byte(script), 0o755))
}

// cmdPass is "pass": the check that hangs passes.
func cmdPass(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(os.WriteFile(filepath.Join(worldOf(ts).dir, "os/fifo"), []byte("pass\n"), 0))
}

func cmdUnblock(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(os.Remove(filepath.Join(worldOf(ts).dir, "os/health/required.d/20-slow")))
}

// cmdInterrupt is "interrupt NAME": what ^C does to a command in the background.
func cmdInterrupt(ts *testscript.TestScript, _ bool, _ []string) {
	for _, c := range ts.BackgroundCmds() {
		ts.Check(c.Process.Signal(os.Interrupt))
	}
}

// cmdOff is "off": it presses the power button and waits.
func cmdOff(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(worldOf(ts).powerOff()) }

func (w *world) powerOff() error {
	if w.off == nil {
		return nil
	}
	w.off()
	w.off = nil
	return <-w.down
}

// cmdCut is "cut": it cuts the power.
func cmdCut(ts *testscript.TestScript, _ bool, _ []string) {
	w := worldOf(ts)
	w.machine.Cut()
	if err := <-w.down; !errors.Is(err, appliance.ErrCut) {
		ts.Fatalf("the machine went down otherwise: %v", err)
	}
	w.off()
	w.off = nil
}

// cmdConsole is "console TEXT...": it waits until the machine has said the texts, in this order, since what was waited for
// before.
func cmdConsole(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	for _, text := range args {
		ctx, stop := context.WithTimeout(context.Background(), patience)
		err := w.console.Wait(ctx, text)
		stop()
		if err != nil {
			ts.Logf("[console]\n%s", w.console)
			ts.Fatalf("%v", err)
		}
	}
}

// cmdQuiet is "quiet TEXT...": the machine has never said any of these.
func cmdQuiet(ts *testscript.TestScript, _ bool, args []string) {
	for _, text := range args {
		if strings.Contains(worldOf(ts).console.String(), text) {
			ts.Fatalf("the console said %q:\n%s", text, worldOf(ts).console)
		}
	}
}

// cmdPublish is "publish VERSION SERIAL BEHAVIOUR [FIELD=VALUE...]": a release, whose fields may be others than those of
// the machine.
func cmdPublish(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	serial, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	o := appliance.OS{Version: args[0], Serial: serial, Behaviour: appliance.Behaviour(args[2])}
	rel := release.Release{
		Product: appliance.Product, Compatible: []string{appliance.Compatible}, Architecture: "amd64", Layout: 1, Version: o.Version, Serial: serial,
		Boot: appliance.Spec,
	}
	for _, f := range args[3:] {
		key, value, _ := strings.Cut(f, "=")
		switch key {
		case "product":
			rel.Product = value
		case "arch":
			rel.Architecture = value
		case "compatible":
			rel.Compatible = []string{value}
		case "layout":
			rel.Layout, err = strconv.Atoi(value)
			ts.Check(err)
		case "min_agent":
			rel.MinAgent = value
		default:
			ts.Fatalf("no such field: %s", key)
		}
	}
	rel.Images = []release.Image{
		w.repo.AddImage(release.Image{Role: "root", Kind: release.KindPartition}, o.Root(imageSize)),
		w.repo.AddImage(release.Image{Role: "kernel", Kind: release.KindFile, Name: "vmlinuz"}, o.Kernel()),
	}
	w.repo.AddRelease(rel)
	w.repo.Publish()
}

// releaseOf reads a release from the repository.
func (w *world) release(ts *testscript.TestScript, version string) (rel release.Release) {
	for name, data := range w.repo.Files() {
		if strings.HasPrefix(name, "targets/releases/") && strings.Contains(string(data), strconv.Quote(version)) {
			ts.Check(json.Unmarshal(data, &rel))
			return rel
		}
	}
	ts.Fatalf("no release %s was published", version)
	return rel
}

// cmdExits is "exits CODE PROGRAM ARGS...": the program must end with this code. What it prints is masked.
func cmdExits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if status := new(exec.ExitError); errors.As(err, &status) {
		code = status.ExitCode()
	} else {
		ts.Check(err)
	}
	mask := worldOf(ts).mask
	fmt.Fprint(ts.Stdout(), mask(ts.ReadFile("stdout")))
	fmt.Fprint(ts.Stderr(), mask(ts.ReadFile("stderr")))
	if strconv.Itoa(code) != args[0] {
		ts.Logf("[console]\n%s", worldOf(ts).console)
		ts.Fatalf("exit code %d; want %s", code, args[0])
	}
}

// masks are what no two runs have in common. Where lines are wrapped, the mask is as long as what it hides.
var masks = []struct {
	what *regexp.Regexp
	mask string
}{
	{regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`), "YYYY-MM-DD hh:mm:ss"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d`), "YYYY-MM-DD hh:mm"},
	{regexp.MustCompile(`\b\d+(\.\d+)?m?s\b`), "N s"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "SHA256"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "HOST"},
	{regexp.MustCompile(`"(took|uptime_seconds|free)": \d+`), `"$1": N`},
	{regexp.MustCompile(`process \d+`), "process N"},
}

func (w *world) mask(s string) string {
	s = strings.ReplaceAll(s, w.dir, "$M")
	for _, m := range masks {
		s = m.what.ReplaceAllString(s, m.mask)
	}
	return s
}

// cmdHUP is "hup": the agent is to read its configuration again.
func cmdHUP(ts *testscript.TestScript, _ bool, _ []string) { worldOf(ts).signal(ts, syscall.SIGHUP) }

// cmdSignal is "signal KILL": the agent alone dies.
func cmdSignal(ts *testscript.TestScript, _ bool, _ []string) {
	worldOf(ts).signal(ts, syscall.SIGKILL)
}

// signal reaches the agent, whose process the lock file names.
func (w *world) signal(ts *testscript.TestScript, s syscall.Signal) {
	data, err := os.ReadFile(filepath.Join(w.dir, "state/lock"))
	ts.Check(err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	ts.Check(err)
	ts.Check(syscall.Kill(pid, s))
}

// cmdWithdraw is "withdraw VERSION REASON".
func cmdWithdraw(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	rel := w.release(ts, args[0])
	rel.Withdrawn = args[1]
	w.repo.AddRelease(rel)
	w.repo.Publish()
}

// cmdRepo is "repo gone", "repo back", "repo tamper pack|index|release VERSION", "repo tamper timestamp", "repo expire",
// "repo stall VERSION", which makes the download of the root image stop in the middle, "repo stalled", which waits until
// somebody is held up by that, or "repo go".
func cmdRepo(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	switch args[0] {
	case "gone":
		w.served = w.repo.Files()
		w.repo.Gone()
	case "back":
		w.repo.Restore(w.served)
	case "tamper":
		w.served = w.repo.Files()
		w.repo.Tamper(w.file(ts, args[1:]))
	case "expire":
		w.served = w.repo.Files()
		w.repo.Expire(time.Now().Add(-24 * time.Hour))
	case "stall":
		w.stall("targets/" + w.release(ts, args[1]).Images[0].Pack)
	case "stalled":
		select {
		case <-w.stalled:
		case <-time.After(patience):
			ts.Fatalf("nobody fetched it\n%s", w.console)
		}
	case "go":
		w.repo.Answer("targets/"+w.release(ts, args[1]).Images[0].Pack, nil)
		close(w.resume)
	default:
		ts.Fatalf("repo %s?", args[0])
	}
}

func (w *world) file(ts *testscript.TestScript, what []string) string {
	switch what[0] {
	case "timestamp":
		return "metadata/timestamp.json"
	case "pack":
		return "targets/" + w.release(ts, what[1]).Images[0].Pack
	}
	sum := w.release(ts, what[1]).Images[0].SHA256.String()
	for name := range w.repo.Files() {
		if strings.HasSuffix(name, "."+sum+".index") {
			return name
		}
	}
	ts.Fatalf("no such file: %v", what)
	return ""
}

// stall makes requests for a file hang until "repo go", or the client leaves.
func (w *world) stall(name string) {
	w.stalled, w.resume = make(chan struct{}), make(chan struct{})
	resume := w.resume
	first := make(chan bool, 1)
	first <- true
	w.repo.Answer(name, func(rw http.ResponseWriter, r *http.Request) {
		select {
		case <-first:
			close(w.stalled)
		default:
		}
		select {
		case <-resume:
			w.repo.ServeHTTP(rw, r)
		case <-r.Context().Done():
		}
	})
}

// cmdDamage is "damage FILE": it changes bytes all over a file, and "damage FILE -" makes it empty.
func cmdDamage(ts *testscript.TestScript, _ bool, args []string) {
	name := ts.MkAbs(args[0])
	data, err := os.ReadFile(name)
	ts.Check(err)
	for i := range data {
		if i%7 == 0 {
			data[i] ^= 0x55
		}
	}
	ts.Check(os.WriteFile(name, data, 0o600))
}

// cmdExpand is "expand FILE TO": it copies a file with $M and $URL filled in.
func cmdExpand(ts *testscript.TestScript, _ bool, args []string) {
	text := strings.NewReplacer("$M", worldOf(ts).dir, "$URL", worldOf(ts).url).Replace(ts.ReadFile(args[0]))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}

// cmdAside is "aside": bytes that could not be read are kept for a person.
func cmdAside(ts *testscript.TestScript, _ bool, _ []string) {
	names, err := filepath.Glob(filepath.Join(worldOf(ts).dir, "state/record.*"))
	ts.Check(err)
	if len(names) == 0 {
		ts.Fatalf("nothing was kept aside")
	}
}

// cmdUnmount is "unmount": the state partition is not mounted any more.
func cmdUnmount(ts *testscript.TestScript, _ bool, _ []string) {
	name := filepath.Join(worldOf(ts).dir, "host/proc/self/mountinfo")
	lines := strings.SplitAfter(ts.ReadFile(name), "\n")
	kept := slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, "/state ") })
	if len(kept) == len(lines) {
		ts.Fatalf("it was not mounted")
	}
	ts.Check(os.WriteFile(name, []byte(strings.Join(kept, "")), 0o600))
}
