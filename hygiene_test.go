package evenkeel_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// sources calls visit with every file of the project: not what git keeps, and not what scripts fetched or built.
func sources(t *testing.T, visit func(path string, data []byte)) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (path == "bin" || path != "." && path != ".ci" && strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		visit(path, data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 100 {
		t.Fatalf("only %d files were seen: this tests nothing", files)
	}
}

// code calls visit with every Go file of the project that is not a test.
func code(t *testing.T, visit func(path string, fset *token.FileSet, f *ast.File)) {
	t.Helper()
	sources(t, func(path string, data []byte) {
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "testdata") {
			return
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, data, parser.ParseComments)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return
		}
		visit(path, fset, f)
	})
}

// TestPackagesSayWhatTheyAre wants one package comment in each package.
func TestPackagesSayWhatTheyAre(t *testing.T) {
	docs := map[string][]string{}
	code(t, func(path string, _ *token.FileSet, f *ast.File) {
		dir := filepath.Dir(path)
		docs[dir] = append(docs[dir], "")
		want := "Package " + f.Name.Name + " "
		if f.Name.Name == "main" {
			want = "" // a command is called differently
		}
		if f.Doc == nil {
			return
		}
		docs[dir][len(docs[dir])-1] = path
		if !strings.HasPrefix(f.Doc.Text(), want) {
			t.Errorf("%s: the package comment does not begin with %q", path, want)
		}
	})
	for dir, files := range docs {
		if n := strings.TrimSpace(strings.Join(files, " ")); n == "" || len(strings.Fields(n)) > 1 {
			t.Errorf("%s: want one package comment, found them in: %s", dir, n)
		}
	}
}

// TestNothingIsTooLong keeps files and functions to what a reader can hold.
func TestNothingIsTooLong(t *testing.T) {
	code(t, func(path string, fset *token.FileSet, f *ast.File) {
		if n := fset.Position(f.FileEnd).Line; n > 501 {
			t.Errorf("%s has %d lines: 500 are enough for one subject", path, n-1)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n > 60 {
				t.Errorf("%s: %s has %d lines: 60 are enough for one thought", fset.Position(fn.Pos()), fn.Name.Name, n)
			}
		}
	})
}

// foreign are words of one machine or one network. They are put together here, so that this file does not hold them.
var foreign = regexp.MustCompile(strings.Join([]string{
	`\b(deb|snapshot|security|ftp)\.` + `debian\.org`, `\b(proxy|sum)\.` + `golang\.org`, `registry\.` + `npmjs`, `\bpypi\.` + `org`,
	`/work/` + `(main|shared)`, `/tmp/` + `brief`, `/root/\.` + `(pyenv|cargo|config)`,
}, "|"))

// TestNothingIsOfOneMachine: neither paths of the machine that something was written on nor the servers that it used.
func TestNothingIsOfOneMachine(t *testing.T) {
	sources(t, func(path string, data []byte) {
		if bytes.IndexByte(data, 0) >= 0 {
			return
		}
		for i, line := range bytes.Split(data, []byte("\n")) {
			if found := foreign.Find(line); found != nil {
				t.Errorf("%s:%d: says %q, which is of one machine or network", path, i+1, found)
			}
		}
	})
}

func TestLicense(t *testing.T) {
	text, err := os.ReadFile("LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Apache License", "Version 2.0, January 2004", "END OF TERMS AND CONDITIONS"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("LICENSE does not say %q", want)
		}
	}
}

// TestPins: versions of modules that must not move by an unwary go get -u.
func TestPins(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, pin := range []struct{ module, version, why string }{
		{"github.com/theupdateframework/go-tuf/v2", `v2\.4\.2`, "our guards are against the faults of this version"},
		{"github.com/sigstore/sigstore", `v1\.10\.\d+`, "1.11 needs Go 1.27"},
	} {
		found := regexp.MustCompile(`(?m)^\s*(?:require )?` + regexp.QuoteMeta(pin.module) + ` (\S+)`).FindSubmatch(mod)
		if found == nil {
			t.Errorf("go.mod does not name %s", pin.module)
		} else if !regexp.MustCompile("^" + pin.version + "$").Match(found[1]) {
			t.Errorf("go.mod has %s %s, want %s: %s", pin.module, found[1], pin.version, pin.why)
		}
	}
	for _, dead := range []string{"github.com/theupdateframework/go-tuf ", "replace "} {
		if bytes.Contains(mod, []byte(dead)) {
			t.Errorf("go.mod has %q", dead)
		}
	}
}
