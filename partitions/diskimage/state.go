package diskimage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// fillState makes the state file system inside of the image. mkfs.ext4 takes the files from a directory, with their
// owners, and (1.47.0) with times that nobody can set; debugfs makes both what they should be.
func (s Spec) fillState(ctx context.Context, f *os.File, p part) error {
	dir, err := os.MkdirTemp("", "evenkeel-state-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	tree := filepath.Join(dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	for _, x := range s.State {
		if err := x.place(tree); err != nil {
			return fmt.Errorf("cannot place %q: %w", x.Path, err)
		}
	}
	id := s.guid("state file system")
	err = s.run(ctx, "mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-L", stateLabel, "-U", id,
		"-E", fmt.Sprintf("offset=%d,hash_seed=%s,root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,nodiscard", p.start, id),
		"-d", tree, f.Name(), strconv.FormatInt(p.size/1024, 10)+"k")
	if err != nil {
		return err
	}
	script, err := s.ownership(tree)
	if err != nil {
		return err
	}
	commands := filepath.Join(dir, "commands")
	if err := os.WriteFile(commands, script, 0o600); err != nil {
		return err
	}
	return s.run(ctx, "debugfs", "-w", "-f", commands, fmt.Sprintf("%s?offset=%d", f.Name(), p.start))
}

// placeable says what is wrong with the paths of files: debugfs has to read them, too.
func placeable(files []File) error {
	seen := map[string]bool{}
	for _, x := range files {
		if strings.ContainsAny(x.Path, "\"\\\n\x00") || !filepath.IsLocal(strings.TrimSuffix(x.Path, "/")) {
			return fmt.Errorf("cannot place %q on the state partition: want a relative path without quotes, backslashes and line breaks", x.Path)
		}
		path := filepath.Clean(x.Path)
		if seen[path] && !strings.HasSuffix(x.Path, "/") {
			return fmt.Errorf("cannot place %q on the state partition: it is named twice", x.Path)
		}
		seen[path] = true
	}
	return nil
}

// place writes x below dir.
func (x File) place(dir string) error {
	path := filepath.Join(dir, x.Path)
	if strings.HasSuffix(x.Path, "/") {
		return os.MkdirAll(path, 0o755)
	}
	if x.Open == nil {
		return errors.New("it has no content: a directory's path ends in \"/\"")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	r, err := x.checked()
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	n, err := io.Copy(w, r)
	if err == nil && n != x.Size {
		err = fmt.Errorf("it has %d bytes, not %d", n, x.Size)
	}
	return errors.Join(err, w.Close())
}

// ownership returns the debugfs commands that give everything to root, at the time of the image.
func (s Spec) ownership(tree string) ([]byte, error) {
	var b bytes.Buffer
	when := "@" + strconv.FormatInt(s.Time.Unix(), 10)
	err := filepath.WalkDir(tree, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := "0100644"
		if e.IsDir() {
			mode = "040755"
		}
		name := "/" + strings.TrimPrefix(strings.TrimPrefix(path, tree), "/")
		for _, set := range []string{"uid 0", "gid 0", "mode " + mode, "atime " + when, "mtime " + when, "ctime " + when, "crtime " + when} {
			fmt.Fprintf(&b, "set_inode_field \"%s\" %s\n", name, set)
		}
		return nil
	})
	return b.Bytes(), err
}

// run runs a program of e2fsprogs with the clock of the image.
func (s Spec) run(ctx context.Context, name string, args ...string) error {
	path, err := lookPath(name)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	now := strconv.FormatInt(s.Time.Unix(), 10)
	cmd.Env = append(os.Environ(), "E2FSPROGS_FAKE_TIME="+now, "SOURCE_DATE_EPOCH="+now, "LC_ALL=C")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	// debugfs never fails, it only says so; the first line is its version.
	complaint := strings.TrimSpace(errs.String())
	if name == "debugfs" {
		_, complaint, _ = strings.Cut(complaint+"\n", "\n")
		complaint = strings.TrimSpace(complaint)
	}
	if err != nil || name == "debugfs" && complaint != "" {
		return fmt.Errorf("%s failed: %w: %s", name, errOr(err), complaint)
	}
	return nil
}

func errOr(err error) error {
	if err == nil {
		return errors.New("it complained")
	}
	return err
}

// lookPath also looks where Debian keeps it, which is not on the PATH of ordinary users.
func lookPath(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed: it makes the state partition (Debian and Ubuntu: apt install e2fsprogs)", name)
}
