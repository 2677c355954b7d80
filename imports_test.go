package evenkeel_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/evenkeel-os/evenkeel/"

// core packages decide over values and ports; next to each, the only packages from outside the standard library.
var core = map[string][]string{
	"release":      {},
	"image":        {"github.com/klauspost/compress/zstd", "golang.org/x/time/rate"},
	"updater":      {module + "image", module + "release"},
	"fleet/policy": {module + "release"},
}

// noIO is what core packages do without.
var noIO = []string{"os", "net", "syscall", "path/filepath", "log"}

// adapters do not know each other: cmd/ puts them together.
var adapters = []string{"partitions", "bootloader", "health", "tuf", "fleet"}

func TestImportsPointDown(t *testing.T) {
	files := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && path != "." && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir // what scripts fetched: Go itself, for one
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		files++
		for _, imp := range f.Imports {
			name := strings.Trim(imp.Path.Value, `"`)
			if why := forbidden(filepath.ToSlash(filepath.Dir(path)), name); why != "" {
				t.Errorf("%s imports %s: %s", path, name, why)
			}
		}
		return nil
	})
	if err != nil || files < 50 {
		t.Fatalf("%d files were read, %v", files, err)
	}
}

func forbidden(dir, name string) string {
	inside, ours := strings.CutPrefix(name, module)
	allowed, isCore := core[dir]
	from, to := under(dir, adapters), under(inside, adapters)
	switch {
	case isCore && slices.ContainsFunc(noIO, func(p string) bool { return name == p || strings.HasPrefix(name, p+"/") }):
		return "the core does no I/O"
	case isCore && strings.Contains(name, ".") && !slices.Contains(allowed, name):
		return "it is not on the list of what this package may use"
	case ours && from != "" && to != "" && from != to:
		return "adapters do not know each other"
	case ours && under(dir, []string{"internal"}) != "" && to != "" && !isTestHelper(dir):
		return "what several adapters need knows none of them"
	case ours && strings.HasPrefix(inside, "fixtures") && !isTestHelper(dir):
		return "fixtures are for tests"
	case strings.HasPrefix(name, "github.com/sirupsen/logrus") && under(dir, []string{"cmd"}) == "":
		return "only commands log"
	}
	return ""
}

// isTestHelper: packages that no program of ours is built from.
func isTestHelper(dir string) bool {
	return under(dir, []string{"fixtures", "scripts", "internal/vmtest"}) != ""
}

// under returns which of roots dir is, or is below.
func under(dir string, roots []string) string {
	for _, r := range roots {
		if dir == r || strings.HasPrefix(dir, r+"/") {
			return r
		}
	}
	return ""
}
