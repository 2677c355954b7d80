package config_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel-os/evenkeel/internal/config"
)

const minimal = `product: edge-appliance
compatible: qemu-x86
repository:
  urls: [https://updates.example/]
`

// place is a main file and a state directory with overrides.
type place struct {
	t         *testing.T
	dir       string
	overrides map[string]string
	env       map[string]string
	flags     []config.Flag
	strict    bool
}

func newPlace(t *testing.T) *place {
	return &place{t: t, dir: t.TempDir(), overrides: map[string]string{}, env: map[string]string{}}
}

func (p *place) load(main string) (config.Loaded, error) {
	p.t.Helper()
	write := func(name, text string) {
		path := filepath.Join(p.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			p.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
	write("main.yaml", main)
	for name, text := range p.overrides {
		write("config.d/"+name, text)
	}
	return config.Load(config.Sources{
		File: filepath.Join(p.dir, "main.yaml"), Dir: filepath.Join(p.dir, "config.d"), Strict: p.strict, Flags: p.flags,
		Env: func(name string) (string, bool) { v, ok := p.env[name]; return v, ok },
	})
}

// problems returns the lines of err, without the directory.
func (p *place) problems(err error) string {
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), p.dir+"/", "")
}

func TestMinimalFileIsEnough(t *testing.T) {
	p := newPlace(t)
	l, err := p.load(minimal)
	if err != nil {
		t.Fatal(err)
	}
	c := l.Config
	for name, pair := range map[string][2]any{
		"product":   {c.Product, "edge-appliance"},
		"layout":    {c.Layout, 1},
		"state":     {c.State.Dir, "/var/lib/evenkeel"},
		"grubenv":   {c.Boot.Grubenv, "/efi/evenkeel/grubenv"},
		"poll":      {c.Update.Poll, time.Hour},
		"deadline":  {c.Health.Deadline, 10 * time.Minute},
		"stall":     {c.Repository.StallBytes, config.Size(8 << 10)},
		"roles":     {len(c.Slots.Roles), 3},
		"root in b": {c.Slots.Roles[0].B.Label, "root-b"},
		"kernel":    {c.Slots.Roles[1].A.Dir, "/efi/evenkeel/a"},
		"hold":      {c.Update.HoldUntil.IsZero(), true},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s = %v, want %v", name, pair[0], pair[1])
		}
	}
}

func TestLaterSourcesWin(t *testing.T) {
	main := minimal + "update: {mode: stage, poll: 2h, bandwidth: 1MiB/s}\nhealth:\n  units:\n    - unit: a.service\n    - unit: b.service\n"
	p := newPlace(t)
	p.overrides["10-site.yaml"] = "update: {poll: 3h, jitter: 1m}\n"
	p.overrides["20-host.yaml"] = "update: {poll: 4h}\nhealth: {units: [{unit: c.service}]}\n"
	p.env["EVENKEEL_UPDATE_POLL"] = "5h"
	p.env["EVENKEEL_LOG_LEVEL"] = "debug"
	p.env["EVENKEEL_UPDATE"] = "x" // an environment variable that is named like a section is nothing
	p.flags = []config.Flag{{Name: "--set", Key: "update.poll", Value: "6h"}}
	l, err := p.load(main)
	if err != nil {
		t.Fatal(err)
	}
	c := l.Config
	if c.Update.Poll != 6*time.Hour || c.Update.Jitter != time.Minute || c.Update.Mode != "stage" || c.Update.Bandwidth != 1<<20 {
		t.Errorf("update = %+v", c.Update)
	}
	if len(c.Health.Units) != 1 || c.Health.Units[0].Unit != "c.service" || !c.Health.Units[0].Required {
		t.Errorf("units = %+v, want c.service alone", c.Health.Units)
	}
	origins := map[string]string{}
	for _, it := range l.Items() {
		origins[it.Key] = strings.TrimPrefix(it.Origin, p.dir+"/")
	}
	for key, want := range map[string]string{
		"update.poll": "--set", "update.jitter": "config.d/10-site.yaml:1", "update.mode": "main.yaml:5", "layout": "default",
		"log.level": "environment variable EVENKEEL_LOG_LEVEL", "health.units[0].unit": "config.d/20-host.yaml:2",
		"repository.urls": "main.yaml:4",
	} {
		if origins[key] != want {
			t.Errorf("%s comes from %q, want %q", key, origins[key], want)
		}
	}
}

// TestProblems: each is told with file, line and what to do.
func TestProblems(t *testing.T) {
	for name, tt := range map[string]struct {
		text string // after minimal, so its first line is line 5
		want string
	}{
		"typo":                 {"updat: {}", `main.yaml:5: updat: there is no such key: did you mean "update"?`},
		"typo below":           {"update:\n  pol: 5h", `main.yaml:6: update.pol: there is no such key: did you mean "poll"?`},
		"typo in a list":       {"slots:\n  roles:\n    - role: root\n      a: {labl: x}", `main.yaml:8: slots.roles[0].a.labl: there is no such key: did you mean "label"?`},
		"unknown":              {"log: {zzz: 1}", `main.yaml:5: log.zzz: there is no such key: it may be one of format, level`},
		"upper case":           {"Layout: 2", `main.yaml:5: Layout: there is no such key: did you mean "layout"?`},
		"dotted key":           {"update.poll: 5h", `main.yaml:5: update.poll: there is no such key`},
		"no unit":              {"update:\n\n  poll: 5", `main.yaml:7: update.poll: "5": it has no unit: write 5s, 5m or 5h for seconds, minutes or hours`},
		"no unit, quoted":      {"update: {poll: \"5\"}", `main.yaml:5: update.poll: "5": it has no unit`},
		"no unit, size":        {"update: {max_bytes: 500}", `main.yaml:5: update.max_bytes: "500": it has no unit: write 500B, 500MiB or 500GB`},
		"wrong unit":           {"update: {poll: 5y}", `"5y" has the unit "y": use ms, s, m, h, d or w`},
		"size for rate":        {"update: {bandwidth: 2MiB}", `"2MiB" is a size: write 2MiB/s for a rate`},
		"bits":                 {"update: {bandwidth: 2Mbit/s}", `the unit "Mbit"`},
		"negative":             {"update: {poll: -5h}", `"-5h" is not a duration`},
		"number for text":      {"state: {dir: 0123}", `main.yaml:5: state.dir: want text, got the number "0123": write it in quotes`},
		"bool for text":        {"state: {dir: true}", `want text, got "true": write it in quotes`},
		"number in texts":      {"health: {dirs: [/a, 7]}", `main.yaml:5: health.dirs[1]: want text, got the number "7": write it in quotes`},
		"text for number":      {"layout: \"2\"", `main.yaml:5: layout: want a whole number, got the text "2": write it without quotes`},
		"fraction":             {"layout: 1.5", `layout: want a whole number, got the number "1.5"`},
		"huge":                 {"layout: 99999999999999999999", `layout: want a whole number`},
		"yes":                  {"health: {units: [{unit: a.service, required: yes}]}", `want true or false, got the text "yes"`},
		"text for list":        {"health:\n  dirs: /a", `main.yaml:6: health.dirs: want a list of texts, got the text "/a": write [...] or lines that begin with "- "`},
		"text for section":     {"update: often", `main.yaml:5: update: want a section, got the text "often"`},
		"list for text":        {"state: {dir: [a]}", `want text, got a list`},
		"nothing":              {"log:\n  level:", `main.yaml:6: log.level: it has no value: give it text, or remove the line`},
		"word":                 {"update: {mode: sometimes}", `"sometimes" is not known: use one of auto, stage, check, off`},
		"word in a list":       {"boot: {accept_risk: [all]}", `boot.accept_risk[0]: "all" is not known: use loader-cannot-count`},
		"twice":                {"layout: 1\nlayout: 2", `main.yaml:6: layout: it is given twice, first in line 5`},
		"alias":                {"update: &x {poll: 1h}\nlog: *x", `YAML anchors and aliases are not allowed here`},
		"merge key":            {"update:\n  <<: {poll: 1h}", `main.yaml:6: update: keys are plain words here`},
		"two documents":        {"---\nlayout: 1", `main.yaml:5: it holds more than one document: remove the`},
		"not YAML":             {"update: [", `main.yaml:5: it is not YAML`},
		"tab":                  {"log:\n\tlevel: info", `main.yaml:6: it is not YAML`},
		"time":                 {"update: {hold_until: tomorrow}", `"tomorrow" is not a time: write it as in 2026-11-24T06:00:00Z`},
		"product":              {"product: x", `main.yaml:5: product: it is given twice`},
		"layout":               {"layout: 0", `main.yaml:5: layout: 0 is not legal`},
		"relative":             {"state: {dir: state}", `main.yaml:5: state.dir: "state" is not an absolute path`},
		"half a certificate":   {"repository: {}", `repository: it is given twice`},
		"tries":                {"boot: {tries: 9}", `main.yaml:5: boot.tries: 9 is not legal: use 1 to 7`},
		"RAUC's tries":         {"boot: {script: rauc, tries: 2}", `RAUC's script gives a slot one try`},
		"names":                {"boot: {name_a: system0}", `name_a and name_b are for RAUC's script`},
		"no roles":             {"slots: {roles: []}", `main.yaml:5: slots.roles: a slot without any image`},
		"no partition":         {"slots: {roles: [{role: kernel, kind: file}]}", `one role must be of kind partition`},
		"role twice":           {"slots:\n  roles:\n  - {role: root}\n  - {role: root}", `main.yaml:8: slots.roles[1].role: role "root" is there twice`},
		"role's name":          {"slots: {roles: [{role: Root}]}", `"Root" is not legal`},
		"same place":           {"slots: {roles: [{role: root, a: {label: x}, b: {label: x}}]}", `both slots name the same place`},
		"two ways":             {"slots: {roles: [{role: root, a: {label: x, partuuid: 4f68bce3-e8cd-4db1-96e7-fbcaf984b709}}]}", `say where it is in one way`},
		"no GUID":              {"slots: {roles: [{role: root, a: {partuuid: x}}]}", `"x" is not a GUID`},
		"order without type":   {"slots: {roles: [{role: root, a: {order: 1}}]}", `it needs a type`},
		"type without order":   {"slots: {roles: [{role: root, a: {type: 4f68bce3-e8cd-4db1-96e7-fbcaf984b709}}]}", `0 is not legal`},
		"file in a partition":  {"slots: {roles: [{role: root}, {role: kernel, kind: file, a: {label: x}}]}", `a file is in a directory`},
		"partition with dir":   {"slots: {roles: [{role: root, a: {dir: /x}}]}", `a partition has no directory`},
		"timeout over all":     {"health: {timeout: 20m}", `health.deadline is 10m`},
		"settle over all":      {"health: {settle: 20m}", `it must be shorter than health.deadline, 10m`},
		"zero":                 {"health: {timeout: 0s}", `it must be longer than 0s`},
		"no URL to check":      {"health: {http: [{name: x}]}", `main.yaml:5: health.http[0].url: "" is not a URL`},
		"check twice":          {"health: {tcp: [{address: \"a:1\"}, {address: \"a:1\"}]}", `check "tcp a:1" is there twice`},
		"no port":              {"health: {tcp: [{address: localhost}]}", `write it as in localhost:443`},
		"no suffix":            {"health: {units: [{unit: nginx}]}", `write its whole name, as in nginx.service`},
		"poll":                 {"update: {poll: 10ms}", `10ms is too short`},
		"sector":               {"slots: {sector_size: 1024}", `1024 is not legal: use 512 or 4096`},
		"reboot":               {"host: {reboot_command: [reboot]}", `"reboot" is not an absolute path`},
		"files over grubenv":   {fileRole("a: {dir: /efi/evenkeel}"), `main.yaml:5: slots.roles[1].a.dir: /efi/evenkeel holds boot.grubenv`},
		"files far above":      {fileRole("b: {dir: /}"), `slots.roles[1].b.dir: / holds boot.grubenv`},
		"files in capitals":    {fileRole("b: {dir: /efi/EVENKEEL/}"), `slots.roles[1].b.dir: /efi/EVENKEEL/ holds boot.grubenv`},
		"files over entries":   {"boot: {grubenv: /efi/grub/grubenv}\n" + fileRole("a: {dir: /efi/evenkeel}"), `main.yaml:6: slots.roles[1].a.dir: /efi/evenkeel holds boot.entries`},
		"files of the other":   {fileRole("a: {dir: /efi/evenkeel/b}"), `slots.roles[1].a.dir: /efi/evenkeel/b holds /efi/evenkeel/b of the other slot`},
		"files over the other": {"boot: {script: rauc, entries: none}\n" + fileRole("a: {dir: /efi/x}, b: {dir: /efi/x/b}"), `slots.roles[1].a.dir: /efi/x holds /efi/x/b of the other slot`},
		"files of two roles":   {"boot: {script: rauc, entries: none}\nslots: {roles: [{role: root}, {role: k, kind: file, a: {dir: /efi/x}, b: {dir: /efi/y}}, {role: i, kind: file, a: {dir: /efi/y}, b: {dir: /efi/z}}]}", `slots.roles[1].b.dir: /efi/y holds /efi/y of the other slot`},
		"files elsewhere":      {fileRole("a: {dir: /efi/kernels/a}"), `slots.roles[1].a.dir: our script loads the files of slot a from /efi/evenkeel/a (boot.entries)`},
		"entries elsewhere":    {"boot: {entries: /efi/x}", `main.yaml: slots.roles[1].a.dir: our script loads the files of slot a from /efi/x/a`},
		"several are all told": {"updat: 1\nlayout: x", "main.yaml:5: updat: there is no such key: did you mean \"update\"?\nmain.yaml:6: layout: want a whole number"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			_, err := p.load(minimal + tt.text + "\n")
			if got := p.problems(err); !strings.Contains(got, tt.want) {
				t.Errorf("problems:\n%s\nwant:\n%s", got, tt.want)
			}
			var ce *config.Error
			if !errors.As(err, &ce) {
				t.Errorf("the error is a %T", err)
			}
		})
	}
}

func fileRole(places string) string {
	return "slots: {roles: [{role: root}, {role: kernel, kind: file, " + places + "}]}"
}

// TestFilesMayLie where nothing else does, and where the script looks for them.
func TestFilesMayLie(t *testing.T) {
	for name, text := range map[string]string{
		"beside the entries":        fileRole("a: {dir: /efi/evenkeel/a/}, b: {dir: /efi/./evenkeel/b}"),
		"with the entries":          "boot: {entries: /efi/x}\n" + fileRole("a: {dir: /efi/x/a}, b: {dir: /efi/x/b}"),
		"where RAUC's script looks": "boot: {script: rauc, entries: none, grubenv: /efi/EFI/BOOT/grubenv}\n" + fileRole("a: {dir: /efi/kernels/a}, b: {dir: /efi/kernels/b}"),
		"not at all":                "boot: {entries: /efi/x}\nslots: {roles: [{role: root}]}",
	} {
		if _, err := newPlace(t).load(minimal + text + "\n"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRequiredKeys(t *testing.T) {
	p := newPlace(t)
	_, err := p.load("")
	for _, want := range []string{"product: it is required", "compatible: it is required", "repository.urls: it is required"} {
		if !strings.Contains(p.problems(err), want) {
			t.Errorf("problems %q do not say %q", p.problems(err), want)
		}
	}
}

func TestSecretsAreNotInMessages(t *testing.T) {
	for _, text := range []string{
		"repository: {urls: ['gopher://u:hunter2@h/?hunter2']}", "repository: {urls: ['h?hunter2']}", "repository: {urls: ['http://%zzhunter2']}",
		"health: {http: [{url: 'ftp://u:hunter2@x/?t=hunter2'}]}",
	} {
		p := newPlace(t)
		_, err := p.load("product: x\ncompatible: y\n" + text + "\n")
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestOverridesMayHoldKeysOfTheOtherSlot(t *testing.T) {
	p := newPlace(t)
	p.overrides["new.yaml"] = "update:\n  turbo: 7\nlog: {level: debug}\n"
	l, err := p.load(minimal)
	if err != nil || l.Config.Log.Level != "debug" {
		t.Fatalf("%v, level %q", err, l.Config.Log.Level)
	}
	if len(l.Warnings) != 1 || !strings.HasSuffix(l.Warnings[0].String(), "new.yaml:2: update.turbo: there is no such key: it may be one of bandwidth, hold_file, hold_until, jitter, max_bytes, mode, poll") {
		t.Errorf("warnings = %v", l.Warnings)
	}
	p.strict = true
	if _, err = p.load(minimal); !strings.Contains(p.problems(err), "config.d/new.yaml:2: update.turbo") {
		t.Errorf("strict: %v", err)
	}
	p.strict = false
	p.overrides["new.yaml"] = "layout: x\n"
	if _, err = p.load(minimal); !strings.Contains(p.problems(err), "config.d/new.yaml:1: layout: want a whole number") {
		t.Errorf("a wrong value of a known key: %v", err)
	}
}

func TestOverridesDirectory(t *testing.T) {
	p := newPlace(t)
	p.overrides["a.yml"], p.overrides["b.yaml~"], p.overrides[".c.yaml"], p.overrides["README"] = "x: 1", "x: 1", "x: 1", "hello"
	l, err := p.load(minimal)
	if err != nil || len(l.Warnings) != 2 || len(l.Files) != 1 {
		t.Errorf("%v, warnings %v, files %v", err, l.Warnings, l.Files)
	}
	p.overrides["z.yaml"] = "state: {dir: /elsewhere}\n"
	if _, err := p.load(minimal); !strings.Contains(p.problems(err), "config.d/z.yaml:1: state.dir: an override lies below it") {
		t.Errorf("moving the state: %v", err)
	}
}

func TestOverridesAreBelowTheStateDirectory(t *testing.T) {
	for name, way := range map[string]func(dir string, s *config.Sources) string{
		"in the file": func(dir string, _ *config.Sources) string { return "state: {dir: " + dir + "}\n" },
		"environment": func(dir string, s *config.Sources) string {
			s.Env = func(n string) (string, bool) { return dir, n == "EVENKEEL_STATE_DIR" }
			return ""
		},
		"flag": func(dir string, s *config.Sources) string {
			s.Flags = []config.Flag{{Name: "--set", Key: "state.dir", Value: dir}}
			return ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, "state/config.d"), 0o755); err != nil {
				t.Fatal(err)
			}
			var s config.Sources
			more := way(filepath.Join(dir, "state"), &s)
			s.File = filepath.Join(dir, "main.yaml")
			for path, text := range map[string]string{s.File: minimal + more, filepath.Join(dir, "state/config.d/x.yaml"): "layout: 7\n"} {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if l, err := config.Load(s); err != nil || l.Config.Layout != 7 {
				t.Errorf("%v, layout %d", err, l.Config.Layout)
			}
			s.NoDir = true
			if l, err := config.Load(s); err != nil || l.Config.Layout != 1 {
				t.Errorf("without overrides: %v, layout %d", err, l.Config.Layout)
			}
		})
	}
}

func TestVariablesAndFlagsAreChecked(t *testing.T) {
	p := newPlace(t)
	p.env["EVENKEEL_UPDATE_POLL"] = "5"
	p.flags = []config.Flag{
		{Name: "--set a", Key: "layout", Value: "x"},
		{Name: "--set b", Key: "nothing", Value: "x"},
		{Name: "--set c", Key: "slots.roles", Value: "x"},
		{Name: "--set d", Key: "update", Value: "x"},
	}
	_, err := p.load(minimal)
	for _, want := range []string{
		`EVENKEEL_UPDATE_POLL: update.poll: "5": it has no unit`, `--set a: layout: "x" is not a whole number`,
		"--set b: nothing: there is no such key", "--set c: slots.roles: a list of sections can only be set in a file", "--set d: update: there is no such key",
	} {
		if !strings.Contains(p.problems(err), want) {
			t.Errorf("problems:\n%s\nwant %s", p.problems(err), want)
		}
	}
}

func TestNoFile(t *testing.T) {
	_, err := config.Load(config.Sources{File: "/nonexistent/evenkeel.yaml"})
	if !errors.Is(err, fs.ErrNotExist) || err.Error() != "/nonexistent/evenkeel.yaml: there is no such file" {
		t.Errorf("%v", err)
	}
	if _, err = config.Load(config.Sources{File: t.TempDir()}); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory: %v", err)
	}
	p := newPlace(t)
	if _, err := p.load(minimal + strings.Repeat("#", 2<<20)); !strings.Contains(p.problems(err), "this is not a configuration") {
		t.Errorf("a huge file: %v", err)
	}
}

func TestShowHidesSecrets(t *testing.T) {
	p := newPlace(t)
	p.env["EVENKEEL_REPOSITORY_PROXY"] = "http://me:hunter2@proxy:3128"
	l, err := p.load("product: x\ncompatible: y\nrepository: {urls: ['https://u:hunter2@h/p?sig=hunter2', /srv/repo]}\nhealth: {http: [{url: 'http://h/?hunter2'}]}\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range l.Items() {
		if s, ok := it.Value.(string); ok && strings.Contains(s, "hunter2") {
			t.Errorf("%s shows %s", it.Key, s)
		}
		if it.Key == "repository.urls" && !reflect.DeepEqual(it.Value, []string{"https://HIDDEN@h/p?HIDDEN", "/srv/repo"}) {
			t.Errorf("urls = %v", it.Value)
		}
	}
	if l.Config.Repository.URLs[0] != "https://u:hunter2@h/p?sig=hunter2" {
		t.Error("showing a configuration changed it")
	}
}

// TestItemsAreAConfiguration: what is shown reads back as the same configuration.
func TestItemsReadBack(t *testing.T) {
	p := newPlace(t)
	first, err := p.load(minimal + "update: {bandwidth: 1500kB/s, poll: 90s, max_bytes: 3GiB, hold_until: 2026-11-24T06:00:00Z}\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range first.Items() {
		if s, ok := it.Value.(string); ok && !strings.Contains(it.Key, "[") {
			p.flags = append(p.flags, config.Flag{Name: it.Key, Key: it.Key, Value: s})
		}
	}
	p.flags = append(p.flags[:0:0], removeEmptyTimes(p.flags)...)
	second, err := p.load(minimal)
	if err != nil || !reflect.DeepEqual(first.Config, second.Config) {
		t.Errorf("%v:\n%+v\n%+v", err, first.Config, second.Config)
	}
}

func removeEmptyTimes(fs []config.Flag) (out []config.Flag) {
	for _, f := range fs {
		if f.Value != "" {
			out = append(out, f)
		}
	}
	return out
}

func TestReferenceIsInTheDocumentation(t *testing.T) {
	doc, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	if ref := config.Reference(); !strings.Contains(string(doc), ref) {
		t.Errorf("docs/configuration.md does not hold the reference of every key, which is:\n%s", ref)
	}
	for _, v := range config.Variables() {
		if !strings.Contains(string(doc), "`"+v.Name+"`") {
			t.Errorf("docs/configuration.md does not tell of %s", v.Name)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte("slots: {roles: [{role: x, a: {label: y}}, null]}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("? {x: y}\n: z\n---\n"))
	f.Add([]byte("update: {poll: 99999999999999w, max_bytes: 1e9GB}\n"))
	dir := f.TempDir()
	path := filepath.Join(dir, "fuzz.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := config.Load(config.Sources{File: path, NoDir: true})
		if err == nil && (l.Config.Product == "" || l.Config.Update.Poll < time.Second || len(l.Config.Repository.URLs) == 0) {
			t.Fatalf("accepted: %+v", l.Config)
		}
		if err == nil {
			l.Items()
		}
	})
}
