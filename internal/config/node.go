package config

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile and maxDepth bound what a hostile file can cost; maxProblems what it can print.
const (
	maxFile     = 1 << 20
	maxDepth    = 16
	maxProblems = 50
)

// fileReader turns one YAML file into values of the right types, and notes where each came from.
type fileReader struct {
	name     string
	lenient  bool // keys that are not known are warnings
	origins  map[string]Origin
	problems []Problem
	warnings []Problem
}

func (r *fileReader) problem(line int, key, format string, args ...any) {
	r.problems = append(r.problems, Problem{File: r.name, Line: line, Key: key, Message: fmt.Sprintf(format, args...)})
}

// read returns the values of a file, keyed as in the schema.
func (r *fileReader) read(data []byte) map[string]any {
	if len(data) > maxFile {
		r.problem(0, "", "it has more than %d bytes: this is not a configuration", maxFile)
		return nil
	}
	var doc yaml.Node
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	if err := dec.Decode(&doc); err != nil {
		if !errors.Is(err, io.EOF) {
			r.syntax(err)
		}
		return nil
	}
	var second yaml.Node
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		r.problem(second.Line, "", "it holds more than one document: remove the \"---\" between them")
		return nil
	}
	if len(doc.Content) != 1 {
		return nil
	}
	top := doc.Content[0]
	if isNull(top) {
		return nil
	}
	return r.section(schema(), top, "", 0)
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

func (r *fileReader) syntax(err error) {
	text, line := err.Error(), 0
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	r.problem(line, "", "it is not YAML: %s", strings.TrimPrefix(text, "yaml: "))
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// section reads a mapping. path is what messages call it, with indices of lists.
func (r *fileReader) section(f *field, n *yaml.Node, path string, depth int) map[string]any {
	if isNull(n) {
		return nil // everything below it is commented out
	}
	if n.Kind != yaml.MappingNode {
		r.problem(n.Line, path, "want a section, got %s", describe(n))
		return nil
	}
	if depth > maxDepth {
		r.problem(n.Line, path, "sections are nested too deeply")
		return nil
	}
	values := map[string]any{}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := join(path, key.Value)
		if first, ok := seen[key.Value]; ok {
			r.problem(key.Line, name, "it is given twice, first in line %d", first)
			continue
		}
		seen[key.Value] = key.Line
		child := f.child(key.Value)
		if child == nil || key.Kind != yaml.ScalarNode {
			r.unknown(f, key, path)
			continue
		}
		if v := r.value(child, value, name, depth+1); v != nil {
			values[child.name] = v
		}
	}
	return values
}

func (r *fileReader) unknown(f *field, key *yaml.Node, path string) {
	p := Problem{File: r.name, Line: key.Line, Key: join(path, key.Value)}
	switch near := f.closest(key.Value); {
	case key.Kind != yaml.ScalarNode || key.Tag == "!!merge":
		p.Key = path
		p.Message = "keys are plain words here: write everything out"
		r.problems = append(r.problems, p)
		return
	case near != "":
		p.Message = fmt.Sprintf("there is no such key: did you mean %q?", near)
	default:
		p.Message = "there is no such key: it may be one of " + strings.Join(names(f.sub), ", ")
	}
	if r.lenient {
		r.warnings = append(r.warnings, p)
		return
	}
	r.problems = append(r.problems, p)
}

func names(fs []*field) []string {
	ns := make([]string, len(fs))
	for i, f := range fs {
		ns[i] = f.name
	}
	slices.Sort(ns)
	return ns
}

// value reads what stands behind a key; nil: nothing usable, or nothing at all.
func (r *fileReader) value(f *field, n *yaml.Node, path string, depth int) any {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		r.problem(n.Line, path, "YAML anchors and aliases are not allowed here: write it out")
		return nil
	}
	r.origins[path] = Origin{File: r.name, Line: n.Line}
	switch {
	case f.isSection():
		if m := r.section(f, n, path, depth); m != nil {
			return m
		}
		return nil
	case f.isList():
		return r.list(f, n, path, depth)
	}
	return r.scalar(f, n, path)
}

func (r *fileReader) list(f *field, n *yaml.Node, path string, depth int) any {
	if n.Kind != yaml.SequenceNode {
		r.problem(n.Line, path, "want %s, got %s: write [...] or lines that begin with \"- \"", f.wants(), describe(n))
		return nil
	}
	texts, sections := []string{}, []any{}
	for i, e := range n.Content {
		at := path + "[" + strconv.Itoa(i) + "]"
		if e.Kind == yaml.AliasNode || e.Anchor != "" {
			r.problem(e.Line, at, "YAML anchors and aliases are not allowed here: write it out")
			continue
		}
		r.origins[at] = Origin{File: r.name, Line: e.Line}
		if f.isSections() {
			if isNull(e) {
				r.problem(e.Line, at, "want a section, got nothing")
				continue
			}
			sections = append(sections, withDefaults(f, r.section(f, e, at, depth+1)))
		} else if s, ok := r.text(e, at); ok {
			if err := f.allowed(s); err != nil {
				r.problem(e.Line, at, "%v", err)
			}
			texts = append(texts, s)
		}
	}
	if f.isSections() {
		return sections
	}
	return texts
}

// withDefaults fills in what one element of a list of sections does not say.
func withDefaults(f *field, values map[string]any) map[string]any {
	if values == nil {
		values = map[string]any{}
	}
	for _, c := range f.sub {
		if c.isSection() {
			sub, _ := values[c.name].(map[string]any)
			values[c.name] = withDefaults(c, sub)
			continue
		}
		if _, ok := values[c.name]; !ok && c.hasDef {
			values[c.name], _ = c.parse(c.def)
		}
	}
	return values
}

func (r *fileReader) text(n *yaml.Node, path string) (string, bool) {
	switch {
	case n.Kind != yaml.ScalarNode:
		r.problem(n.Line, path, "want text, got %s", describe(n))
	case n.Tag != "!!str" && n.Tag != "!!timestamp":
		r.problem(n.Line, path, "want text, got %s: write it in quotes", describe(n))
	default:
		return n.Value, true
	}
	return "", false
}

// tags are the YAML types that each kind of value may have. Everything with a unit is text to YAML; a number there is a
// value whose unit is missing, and gets the message that says so.
var tags = map[string][]string{
	"text":           {"!!str"},
	"true or false":  {"!!bool"},
	"a whole number": {"!!int"},
}

func (r *fileReader) scalar(f *field, n *yaml.Node, path string) any {
	switch want, plain := tags[f.wants()]; {
	case isNull(n):
		r.problem(n.Line, path, "it has no value: give it %s, or remove the line", f.wants())
		return nil
	case n.Kind != yaml.ScalarNode, plain && !slices.Contains(want, n.Tag):
		hint := ""
		switch {
		case f.wants() == "text" && n.Kind == yaml.ScalarNode:
			hint = ": write it in quotes"
		case n.Tag == "!!str" && n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
			hint = ": write it without quotes"
		}
		r.problem(n.Line, path, "want %s, got %s%s", f.wants(), describe(n), hint)
		return nil
	}
	v, err := f.parse(n.Value)
	if err != nil {
		r.problem(n.Line, path, "%v", err)
		return nil
	}
	return v
}

func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a section"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "nothing"
	}
	what := map[string]string{"!!int": "the number ", "!!float": "the number ", "!!bool": "", "!!str": "the text "}[n.Tag]
	return what + fmt.Sprintf("%.60q", n.Value)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
