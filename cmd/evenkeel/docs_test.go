package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/evenkeel-os/evenkeel/internal/config"
	"github.com/evenkeel-os/evenkeel/updater"
)

// section returns what docs/cli.md says below a heading, up to the next one.
func section(t *testing.T, heading string) string {
	t.Helper()
	data, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(data), "\n"+heading+"\n")
	if !ok {
		t.Fatalf("docs/cli.md has no heading %q", heading)
	}
	text, _, _ := strings.Cut(after, "\n#")
	return text
}

// items returns the items of a list, by the code that they begin with.
func items(t *testing.T, heading string) map[string]string {
	t.Helper()
	m := map[string]string{}
	for _, match := range regexp.MustCompile("(?m)^- `([^`]+)`((?:.*\n?)(?:  .*\n?)*)").FindAllStringSubmatch(section(t, heading), -1) {
		if m[match[1]] != "" {
			t.Errorf("%s: %s is there twice", heading, match[1])
		}
		m[match[1]] = match[2]
	}
	return m
}

// same compares what is documented with what is.
func same(t *testing.T, heading string, docs, code []string) {
	t.Helper()
	for _, c := range code {
		if !slices.Contains(docs, c) {
			t.Errorf("docs/cli.md, %q: %s is missing", heading, c)
		}
	}
	for _, d := range docs {
		if !slices.Contains(code, d) {
			t.Errorf("docs/cli.md, %q: there is no %s any more", heading, d)
		}
	}
}

func keys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func TestDocumentedExitCodes(t *testing.T) {
	docs := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| (\d) \| ([^|]+) \|`).FindAllStringSubmatch(section(t, "## Exit codes"), -1) {
		docs[m[1]] = m[2]
	}
	help := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^  (\d)  (.+)$`).FindAllStringSubmatch(exitHelp, -1) {
		help[m[1]] = m[2]
	}
	if !reflect.DeepEqual(docs, help) {
		t.Errorf("docs/cli.md says %v; the help says %v", docs, help)
	}
	var code []string
	for name, value := range constants(t, "app.go") {
		if strings.HasPrefix(name, "exit") && len(value) == 1 {
			code = append(code, value)
		}
	}
	same(t, "## Exit codes", keys(docs), code)
}

// constants returns the untyped constants of a file of this package, and their values as they are written.
func constants(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Names) == len(v.Values) {
			for i := range v.Names {
				if lit, ok := v.Values[i].(*ast.BasicLit); ok {
					m[v.Names[i].Name] = lit.Value
				}
			}
		}
		return true
	})
	return m
}

// TestDocumentedEvents compares the list with what package updater puts into Step.Event: texts, and outcomes.
func TestDocumentedEvents(t *testing.T) {
	var code []string
	files, err := filepath.Glob("../../updater/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			code = append(code, eventsIn(t, file)...)
		}
	}
	slices.Sort(code)
	same(t, "### Kinds of events", keys(items(t, "### Kinds of events")), slices.Compact(code))
}

func eventsIn(t *testing.T, file string) (kinds []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	add := func(e ast.Expr) {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			kind, _ := strconv.Unquote(lit.Value)
			kinds = append(kinds, kind)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.KeyValueExpr:
			if id, ok := n.Key.(*ast.Ident); ok && id.Name == "Event" {
				add(n.Value)
			}
		case *ast.ValueSpec:
			if id, ok := n.Type.(*ast.Ident); ok && id.Name == "Outcome" {
				add(n.Values[0])
			}
		}
		return true
	})
	return kinds
}

// TestDocumentedFields compares the JSON of every command with its list.
func TestDocumentedFields(t *testing.T) {
	tests := []struct {
		heading string
		value   any
	}{
		{"### evenkeel status --json", status{}},
		{"### evenkeel why --json", reasons{}},
		{"### evenkeel check, update, rollback, confirm, cancel, retry --json", operated{}},
		{"### evenkeel plan --json", planned{}},
		{"### evenkeel history --json", []updater.Event{}},
		{"### evenkeel slots --json", layout{}},
		{"### evenkeel config show --json", []config.Item{}},
	}
	for _, tt := range tests {
		same(t, tt.heading, keys(items(t, tt.heading)), fields(reflect.TypeOf(tt.value), ""))
	}
}

// fields lists the JSON fields of a type. Events and checks have lists of their own.
func fields(typ reflect.Type, prefix string) (all []string) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	own := typ == reflect.TypeFor[updater.Event]() || typ == reflect.TypeFor[updater.Check]()
	if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[time.Time]() || own && prefix != "" {
		return nil
	}
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			all = append(all, fields(f.Type, prefix)...)
		case f.IsExported() && name != "-":
			if name == "" {
				name = f.Name
			}
			all = append(all, prefix+name)
			all = append(all, fields(f.Type, prefix+name+".")...)
		}
	}
	return all
}

// TestDocumentedCommands: every command and every flag is in the list, and nothing else.
func TestDocumentedCommands(t *testing.T) {
	docs, commands := map[string]string{}, map[string]*cobra.Command{}
	for use, text := range items(t, "## Commands") {
		words := strings.Fields(use)
		n := slices.IndexFunc(words, func(w string) bool { return strings.ContainsAny(w, "[-") })
		if n < 0 {
			n = len(words)
		}
		docs[strings.Join(words[:n], " ")] = use + text
	}
	walk(testApp().command(), commands)
	same(t, "## Commands", keys(docs), keys(commands))
	for name, c := range commands {
		c.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
			if !strings.Contains(docs[name], "--"+f.Name) && f.Name != "help" {
				t.Errorf("docs/cli.md, %s: --%s is missing", name, f.Name)
			}
		})
	}
	testApp().command().PersistentFlags().VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(section(t, "## Commands"), "`--"+f.Name) {
			t.Errorf("docs/cli.md, ## Commands: --%s is missing", f.Name)
		}
	})
}

func walk(c *cobra.Command, all map[string]*cobra.Command) {
	if c.Runnable() && !c.HasSubCommands() && c.IsAvailableCommand() {
		all[c.CommandPath()] = c
	}
	for _, sub := range c.Commands() {
		if !sub.Hidden {
			walk(sub, all)
		}
	}
}

// TestExitCodesAreScripted: no exit code is promised that no script has seen.
func TestExitCodesAreScripted(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, s := range scripts {
		data, err := os.ReadFile(s)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(data)
	}
	for code := exitOK; code <= exitWaiting; code++ {
		if !strings.Contains(all.String(), "\nexits "+strconv.Itoa(code)+" evenkeel ") {
			t.Errorf("no script ends with exit code %d", code)
		}
	}
}
