package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
)

// DefaultFile is where the configuration is, unless a flag or EVENKEEL_CONFIG says otherwise.
const DefaultFile = "/etc/evenkeel/config.yaml"

// Sources says where a configuration comes from.
type Sources struct {
	File   string                      // the main file
	Dir    string                      // of the overrides; empty: config.d below the main file's state.dir
	NoDir  bool                        // no overrides at all
	Env    func(string) (string, bool) // as os.LookupEnv; nil: none
	Flags  []Flag                      // in order
	Strict bool                        // keys of overrides that are not known are errors
}

// Flag is one key that a flag of the command line sets.
type Flag struct {
	Name  string // as messages call it, such as "--set update.mode=off"
	Key   string
	Value string
}

// Origin is where a value comes from. The zero Origin is a default.
type Origin struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	Env  string `json:"env,omitempty"`
	Flag string `json:"flag,omitempty"`
}

// String names the origin as messages do: "FILE:LINE", the variable, the flag, or "default".
func (o Origin) String() string {
	switch {
	case o.Flag != "":
		return o.Flag
	case o.Env != "":
		return "environment variable " + o.Env
	case o.File != "" && o.Line > 0:
		return fmt.Sprintf("%s:%d", o.File, o.Line)
	case o.File != "":
		return o.File
	}
	return "default"
}

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	File    string `json:"file,omitempty"` // or the name of a variable or flag
	Line    int    `json:"line,omitempty"` // from 1; 0: the file as a whole
	Key     string `json:"key,omitempty"`
	Message string `json:"message"`
}

func (p Problem) String() string {
	where := p.File
	if p.Line > 0 {
		where = fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	for _, part := range []string{p.Key, p.Message} {
		if part != "" {
			where = strings.TrimPrefix(where+": "+part, ": ")
		}
	}
	return where
}

// Error is every problem of a configuration that is refused.
type Error struct{ Problems []Problem }

func (e *Error) Error() string {
	lines := make([]string, 0, len(e.Problems))
	for _, p := range e.Problems {
		lines = append(lines, p.String())
	}
	if len(lines) > maxProblems {
		lines = append(lines[:maxProblems], fmt.Sprintf("and %d more", len(e.Problems)-maxProblems))
	}
	return strings.Join(lines, "\n")
}

// Is makes errors.Is(err, fs.ErrNotExist) tell that there is no main file.
func (e *Error) Is(target error) bool {
	return target == fs.ErrNotExist && len(e.Problems) == 1 && e.Problems[0].Message == noFile
}

const noFile = "there is no such file"

// Loaded is a configuration, and what is known about it.
type Loaded struct {
	Config   Config
	Warnings []Problem
	Files    []string // that were read, in order
	origins  map[string]Origin
}

// Load reads and validates a configuration. Its error is an *Error, with every problem that was found.
func Load(s Sources) (Loaded, error) {
	l := &loader{s: s, v: viper.NewWithOptions(viper.KeyDelimiter(".")), out: Loaded{origins: map[string]Origin{}}}
	l.defaults()
	main := l.file(s.File, false)
	if len(l.problems) == 0 && !s.NoDir {
		l.dir(main)
	}
	l.environment()
	l.flags()
	if len(l.problems) == 0 {
		l.decode()
	}
	if len(l.problems) == 0 {
		l.out.Config.complete()
		l.problems = append(l.problems, l.out.check()...)
	}
	if s.Strict {
		l.problems, l.out.Warnings = append(l.problems, l.out.Warnings...), nil
	}
	if len(l.problems) > 0 {
		return l.out, &Error{Problems: sorted(l.problems)}
	}
	return l.out, nil
}

// sorted orders problems as a person reads files.
func sorted(ps []Problem) []Problem {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, strings.Compare(a.Key, b.Key))
	})
	return ps
}

type loader struct {
	s        Sources
	v        *viper.Viper
	out      Loaded
	problems []Problem
}

func (l *loader) defaults() {
	schema().leaves(func(f *field) {
		if f.hasDef {
			v, err := f.parse(f.def)
			if err != nil {
				l.problems = append(l.problems, Problem{File: "default", Key: f.path, Message: err.Error()})
			}
			l.v.SetDefault(f.path, v)
		}
	})
}

// file merges one file, and returns its values.
func (l *loader) file(name string, lenient bool) map[string]any {
	data, err := readFile(name)
	if err != nil {
		msg := err.Error()
		var pe *fs.PathError
		if errors.As(err, &pe) {
			msg = "it cannot be read: " + pe.Err.Error()
		}
		if errors.Is(err, fs.ErrNotExist) {
			msg = noFile
		}
		l.problems = append(l.problems, Problem{File: name, Message: msg})
		return nil
	}
	r := &fileReader{name: name, lenient: lenient, origins: map[string]Origin{}}
	values := r.read(data)
	l.problems = append(l.problems, r.problems...)
	l.out.Warnings = append(l.out.Warnings, r.warnings...)
	l.out.Files = append(l.out.Files, name)
	l.adopt(r.origins)
	if values == nil {
		return nil
	}
	if err := l.v.MergeConfigMap(values); err != nil {
		l.problems = append(l.problems, Problem{File: name, Message: err.Error()})
	}
	return values
}

// readFile reads no more than is needed to know that a file is too large.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// adopt takes the origins of a later source. A list is replaced as a whole, so its old elements are forgotten.
func (l *loader) adopt(origins map[string]Origin) {
	for key := range origins {
		for old := range l.out.origins {
			if strings.HasPrefix(old, key+"[") {
				delete(l.out.origins, old)
			}
		}
	}
	for key, o := range origins {
		l.out.origins[key] = o
	}
}

// dir merges the overrides. They are below the state directory, which they cannot move therefore.
func (l *loader) dir(main map[string]any) {
	dir := l.s.Dir
	if dir == "" {
		dir = filepath.Join(l.stateDir(main), "config.d")
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.problems = append(l.problems, Problem{File: dir, Message: "it cannot be read: " + err.Error()})
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."), strings.HasSuffix(e.Name(), "~"), e.IsDir():
		case filepath.Ext(name) != ".yaml":
			l.out.Warnings = append(l.out.Warnings, Problem{File: name, Message: "it is ignored: overrides end in .yaml"})
		default:
			before := len(l.problems)
			values := l.file(name, true)
			if state, ok := values["state"].(map[string]any); ok && state["dir"] != nil && len(l.problems) == before {
				o := l.out.origins["state.dir"]
				l.problems = append(l.problems, Problem{File: o.File, Line: o.Line, Key: "state.dir", Message: "an override lies below it and cannot move it"})
			}
		}
	}
}

// stateDir is what state.dir will be, for finding the overrides.
func (l *loader) stateDir(main map[string]any) string {
	dir := schema().find("state.dir")
	for i := range slices.Backward(l.s.Flags) {
		if l.s.Flags[i].Key == dir.path {
			return l.s.Flags[i].Value
		}
	}
	if v, ok := l.lookup(dir.env); ok {
		return v
	}
	state, _ := main["state"].(map[string]any)
	if v, ok := state["dir"].(string); ok {
		return v
	}
	return dir.def
}

func (l *loader) lookup(name string) (string, bool) {
	if l.s.Env == nil {
		return "", false
	}
	return l.s.Env(name)
}

func (l *loader) environment() {
	for _, v := range Variables() {
		text, ok := l.lookup(v.Name)
		if ok {
			l.set(Origin{Env: v.Name}, v.Name, v.Key, text)
		}
	}
}

func (l *loader) flags() {
	for _, f := range l.s.Flags {
		l.set(Origin{Flag: f.Name}, f.Name, f.Key, f.Value)
	}
}

func (l *loader) set(o Origin, name, key, text string) {
	fail := func(format string, args ...any) {
		l.problems = append(l.problems, Problem{File: name, Key: key, Message: fmt.Sprintf(format, args...)})
	}
	f := schema().find(key)
	switch {
	case f == nil:
		fail("there is no such key: see docs/configuration.md")
		return
	case f.isSections():
		fail("a list of sections can only be set in a file")
		return
	}
	v, err := f.parse(text)
	if err != nil {
		fail("%v", err)
		return
	}
	l.v.Set(key, v)
	l.adopt(map[string]Origin{key: o})
}

// decode makes a Config of what was merged. Types are right already; viper must not help.
func (l *loader) decode() {
	err := l.v.UnmarshalExact(&l.out.Config, func(c *mapstructure.DecoderConfig) {
		c.WeaklyTypedInput = false
		c.DecodeHook = nil
	})
	if err != nil {
		l.problems = append(l.problems, Problem{File: l.s.File, Message: err.Error()})
	}
}

// complete fills in the defaults that depend on other keys.
func (c *Config) complete() {
	set := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	own := filepath.Join(c.Slots.ESP, "evenkeel")
	set(&c.Architecture, runtime.GOARCH)
	set(&c.Boot.Grubenv, filepath.Join(own, "grubenv"))
	set(&c.Boot.Entries, own)
	if c.Slots.Roles == nil {
		c.Slots.Roles = []Role{{Role: "root", Kind: "partition"}, {Role: "kernel", Kind: "file"}, {Role: "initrd", Kind: "file"}}
	}
	for i := range c.Slots.Roles {
		r := &c.Slots.Roles[i]
		for name, p := range map[string]*Place{"a": &r.A, "b": &r.B} {
			if r.Kind == "file" {
				set(&p.Dir, filepath.Join(own, name))
			} else if *p == (Place{}) {
				p.Label = r.Role + "-" + name
			}
		}
	}
	for i := range c.Health.HTTP {
		set(&c.Health.HTTP[i].Name, "http "+redactURL(c.Health.HTTP[i].URL))
	}
	for i := range c.Health.TCP {
		set(&c.Health.TCP[i].Name, "tcp "+c.Health.TCP[i].Address)
	}
}
