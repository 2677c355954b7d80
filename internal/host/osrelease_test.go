package host_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/evenkeel-os/evenkeel/internal/host"
	"github.com/evenkeel-os/evenkeel/updater"
)

func TestOSRelease(t *testing.T) {
	tests := []struct {
		line, want string
		wrong      string // part of the error; "": it is right
	}{
		{`X=plain`, `plain`, ""},
		{`X=`, ``, ""},
		{`X=""`, ``, ""},
		{`X=''`, ``, ""},
		{`X="two words"`, `two words`, ""},
		{`X='single $HOME "x" \n'`, `single $HOME "x" \n`, ""},
		{`X="esc \" \\ \$ \` + "`" + `"`, `esc " \ $ ` + "`", ""},
		{`X="kept \n \x"`, `kept \n \x`, ""},
		{`X="it's"`, `it's`, ""},
		{`X=a=b`, `a=b`, ""},
		{"  X=indented\t\r", `indented`, ""},
		{"X=first\nX=second", `second`, ""},
		{"# X=comment\n\nX=y", `y`, ""},
		{`X="größer"`, `größer`, ""},
		{`X=two words`, ``, `line 1: the value of X has ' ' outside quotes`},
		{`X=$HOME`, ``, `has '$' outside quotes`},
		{`X=a\b`, ``, `has '\\' outside quotes`},
		{`X=it's`, ``, `has '\'' outside quotes`},
		{`X="$HOME"`, ``, `has '$' without a backslash before it`},
		{"X=\"`id`\"", ``, "has '`' without a backslash before it"},
		{`X="open`, ``, `has a quote too few`},
		{`X="open\"`, ``, `has a quote too few`},
		{`X="`, ``, `has a quote too few`},
		{`X="a"b`, ``, `without a backslash`},
		{`X='open`, ``, `has a quote too few or too many`},
		{`X='a'b'`, ``, `has a quote too few or too many`},
		{"Y=1\n\nnonsense", ``, `line 3 is no assignment: "nonsense"`},
		{`1X=y`, ``, `is no assignment`},
		{`X Y=z`, ``, `is no assignment`},
		{`=z`, ``, `is no assignment`},
		{`export X=y`, ``, `is no assignment`},
	}
	c := newComputer(t)
	for _, tt := range tests {
		c.put("etc/os-release", tt.line+"\n")
		vars, err := c.host().OSRelease()
		switch {
		case tt.wrong == "" && (err != nil || vars["X"] != tt.want):
			t.Errorf("%s: %q, %v, want %q", tt.line, vars["X"], err, tt.want)
		case tt.wrong != "" && (err == nil || !strings.Contains(err.Error(), tt.wrong) || !strings.Contains(err.Error(), "which release runs: /etc/os-release: ")):
			t.Errorf("%s: error %v, want %q", tt.line, err, tt.wrong)
		}
	}
}

func TestRunning(t *testing.T) {
	tests := []struct {
		text string
		want updater.Running
		err  string
	}{
		{osRelease, updater.Running{Version: "1.2.3", Serial: 42}, ""},
		{"IMAGE_VERSION='2'\nEVENKEEL_SERIAL=\"18446744073709551615\"\n", updater.Running{Version: "2", Serial: 1<<64 - 1}, ""},
		{"IMAGE_VERSION=0\nEVENKEEL_SERIAL=0\n", updater.Running{Version: "0"}, ""},
		{"EVENKEEL_SERIAL=1\n", updater.Running{}, "os-release has no IMAGE_VERSION; the image must be built with one"},
		{"IMAGE_VERSION=1\n", updater.Running{}, `EVENKEEL_SERIAL=""; the image must be built with the serial of its release, a number`},
		{"IMAGE_VERSION=1\nEVENKEEL_SERIAL=1.2\n", updater.Running{}, `EVENKEEL_SERIAL="1.2"; the image`},
		{"IMAGE_VERSION=1\nEVENKEEL_SERIAL=-1\n", updater.Running{}, `EVENKEEL_SERIAL="-1"`},
		{"IMAGE_VERSION=1\nEVENKEEL_SERIAL=18446744073709551616\n", updater.Running{}, `EVENKEEL_SERIAL="18446744073709551616"`},
		{"IMAGE_VERSION=1\nEVENKEEL_SERIAL=0x10\n", updater.Running{}, `EVENKEEL_SERIAL="0x10"`},
	}
	c := newComputer(t)
	for _, tt := range tests {
		c.put("etc/os-release", tt.text)
		r, err := c.host().Running()
		if (err == nil) != (tt.err == "") || err == nil && r != tt.want || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q: %+v, %v, want %+v, %q", tt.text, r, err, tt.want, tt.err)
		}
	}
}

func TestOSReleaseBelowUsr(t *testing.T) {
	c := newComputer(t)
	c.remove("etc/os-release")
	c.put("usr/lib/os-release", "IMAGE_VERSION=7\nEVENKEEL_SERIAL=7\n")
	if r, err := c.host().Running(); err != nil || r.Serial != 7 {
		t.Errorf("Running = %+v, %v", r, err)
	}
	c.put("usr/lib/os-release", "?\n")
	if _, err := c.host().Running(); err == nil || !strings.Contains(err.Error(), "runs: /usr/lib/os-release: line 1") {
		t.Errorf("error = %v, want one that names the file", err)
	}
	c.put("etc/os-release", osRelease)
	if r, err := c.host().Running(); err != nil || r.Serial != 42 {
		t.Errorf("Running = %+v, %v, want what /etc says", r, err)
	}
}

// TestAShellReadsTheSame as we do, from lines that we take.
func TestAShellReadsTheSame(t *testing.T) {
	for _, line := range []string{
		`X=plain`, `X=`, `X="two words"`, `X='single $HOME "x" \n'`, `X="esc \" \\ \$ \` + "`" + `"`, `X="kept \n \x"`, `X="it's"`,
		`X=a=b`, `X=a#b`, `X=a{b,c}`, `X=^!%@:,.-+/_`, "X=first\nX=second", "#X=comment\nX=y", `X="größer"`,
	} {
		vars, err := host.ParseOSRelease(line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		out, err := exec.Command("sh", "-c", line+"\nprintf '%s.' \"$X\"").Output()
		if err != nil || string(out) != vars["X"]+"." {
			t.Errorf("%s: we read %q, a shell reads %q, %v", line, vars["X"], out, err)
		}
	}
}

// FuzzOSRelease: no text makes it fall over, what is quoted by the rules is read back, and a bad line is not passed over.
func FuzzOSRelease(f *testing.F) {
	for _, s := range []string{osRelease, "X='a b'\n", `X="a\$b\\c\"d\e"`, "X=\"\n", "#x\nX=y#z\nX=~", `\`, "\x00"} {
		f.Add(s)
	}
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`")
	f.Fuzz(func(t *testing.T, text string) {
		vars, err := host.ParseOSRelease(text)
		if _, bad := host.ParseOSRelease(text + "\nno assignment"); bad == nil {
			t.Errorf("%q hides a bad line", text)
		}
		if err == nil && len(vars) > strings.Count(text, "=") {
			t.Errorf("%q gives %q", text, vars)
		}
		if strings.ContainsAny(text, "\n\r") {
			return
		}
		if vars, err := host.ParseOSRelease(`X="` + quote.Replace(text) + `"`); err != nil || vars["X"] != text {
			t.Errorf("%q is read as %q, %v", text, vars["X"], err)
		}
	})
}
