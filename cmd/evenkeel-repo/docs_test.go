package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// block is a fenced block of a page: its language, and its lines.
type block struct{ language, text string }

var fence = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

func blocks(page []byte) (all []block) {
	for _, m := range fence.FindAllSubmatch(page, -1) {
		all = append(all, block{string(m[1]), string(m[2])})
	}
	return all
}

// cronCommand returns the commands of a crontab.
func cronCommand(crontab string) string {
	var commands []string
	for _, line := range strings.Split(crontab, "\n") {
		if f := regexp.MustCompile(`\s+`).Split(line, 6); len(f) == 6 && !strings.HasPrefix(line, "#") {
			commands = append(commands, f[5])
		}
	}
	return strings.Join(commands, "\n")
}

// followPage is "followpage PAGE": it runs every command of a page, in order, in one directory. What a block "text" shows
// must be in what the commands before it printed, line by line; "..." stands for anything.
func followPage(ts *testscript.TestScript, _ bool, args []string) {
	page, err := os.ReadFile(args[0])
	ts.Check(err)
	root, err := filepath.Abs("../..")
	ts.Check(err)
	ran, printed := 0, ""
	for _, b := range blocks(page) {
		switch b.language {
		case "crontab":
			b.text = cronCommand(b.text)
		case "text":
			shows(ts, printed, b.text)
			continue
		case "sh":
		default:
			continue // a picture
		}
		cmd := exec.Command("sh", "-euc", b.text)
		cmd.Dir = ts.Getenv("WORK")
		for _, name := range []string{"PATH", "TEST_NOW", passphraseEnv, "HOME", "TMPDIR"} {
			cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
		}
		cmd.Env = append(cmd.Env, "EVENKEEL="+root)
		out, err := cmd.CombinedOutput()
		if err != nil {
			ts.Fatalf("%s: %v in\n%s\n%s", args[0], err, b.text, out)
		}
		ran, printed = ran+1, string(out)
	}
	if ran < 10 {
		ts.Fatalf("only %d blocks were run: this tests nothing", ran)
	}
}

func shows(ts *testscript.TestScript, printed, page string) {
	for _, line := range strings.Split(strings.TrimSpace(page), "\n") {
		pattern := "(?m)^" + strings.ReplaceAll(regexp.QuoteMeta(line), `\.\.\.`, ".*") + "$"
		if !regexp.MustCompile(strings.ReplaceAll(pattern, " .* ", " .*")).MatchString(printed) {
			ts.Fatalf("the page shows %q, but the commands printed\n%s", line, printed)
		}
	}
}
