package vmtest

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
)

// tree is a file system in memory: what a tar file held, in its order, by path without a leading slash.
type tree struct {
	order []string
	files map[string]*node
}

type node struct {
	tar.Header
	data []byte
}

// newTree returns an empty tree.
func newTree() *tree { return &tree{files: map[string]*node{}} }

// readTree reads a tar file, without what drop matches.
func readTree(name string, drop *regexp.Regexp) (*tree, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t := newTree()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", name, err)
		}
		p := path.Clean(h.Name)
		if p == "." || drop.MatchString(p) {
			continue
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", name, err)
		}
		t.put(p, &node{*h, data})
	}
}

// put adds n, or puts it in the place of what has its path.
func (t *tree) put(p string, n *node) {
	if _, ok := t.files[p]; !ok {
		t.order = append(t.order, p)
	}
	t.files[p] = n
}

// remove takes p out.
func (t *tree) remove(p string) {
	delete(t.files, p)
	t.order = slices.DeleteFunc(t.order, func(o string) bool { return o == p })
}

// clone returns a copy whose nodes are shared.
func (t *tree) clone() *tree {
	c := newTree()
	for _, p := range t.order {
		c.put(p, t.files[p])
	}
	return c
}

// add puts a file, or with data nil a directory, with the directories above it. What it replaces moves to the end of the
// order: releases that differ in a few files have the same beginning, which an update copies.
func (t *tree) add(p string, mode int64, data []byte) {
	t.addParents(p)
	if _, ok := t.files[p]; ok {
		t.remove(p)
	}
	h := tar.Header{Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(data))}
	if data == nil {
		h.Typeflag = tar.TypeDir
	}
	t.put(p, &node{h, data})
}

func (t *tree) addParents(p string) {
	if dir := path.Dir(p); dir != "." && t.files[dir] == nil {
		t.add(dir, 0o755, nil)
	}
}

// link puts a symbolic link.
func (t *tree) link(p, target string) {
	t.addParents(p)
	if _, ok := t.files[p]; ok {
		t.remove(p)
	}
	t.put(p, &node{tar.Header{Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}, nil})
}

// resolve follows links in p, as the kernel would.
func (t *tree) resolve(p string) (*node, error) {
	for range 20 {
		n, rest := t.prefix(p)
		switch {
		case n == nil:
			return nil, fmt.Errorf("there is no %s in the base", p)
		case n.Typeflag == tar.TypeSymlink && path.IsAbs(n.Linkname):
			p = path.Join(n.Linkname[1:], rest)
		case n.Typeflag == tar.TypeSymlink:
			at := strings.TrimSuffix(strings.TrimSuffix(p, rest), "/")
			p = path.Join(path.Dir(at), n.Linkname, rest)
		case n.Typeflag == tar.TypeLink:
			p = path.Join(path.Clean(n.Linkname), rest)
		default:
			return n, nil
		}
	}
	return nil, fmt.Errorf("%s: too many links", p)
}

// prefix returns the first part of p that is a link, and what comes after it; or p itself.
func (t *tree) prefix(p string) (n *node, rest string) {
	parts := strings.Split(p, "/")
	for i := 1; i < len(parts); i++ {
		if n := t.files[path.Join(parts[:i]...)]; n != nil && n.Typeflag == tar.TypeSymlink {
			return n, path.Join(parts[i:]...)
		}
	}
	return t.files[p], ""
}

// glob returns the paths that pattern matches, sorted.
func (t *tree) glob(pattern string) []string {
	var found []string
	for _, p := range t.order {
		if ok, _ := path.Match(pattern, p); ok {
			found = append(found, p)
		}
	}
	slices.Sort(found)
	return found
}

// write writes the tree as a tar file. Every file has the same time.
func (t *tree) write(w io.Writer) error {
	out := tar.NewWriter(w)
	for _, p := range t.order {
		n := t.files[p]
		h := tar.Header{
			Name: p, Typeflag: n.Typeflag, Linkname: n.Linkname, Mode: n.Mode, Uid: n.Uid, Gid: n.Gid, Size: int64(len(n.data)),
			ModTime: buildTime, Devmajor: n.Devmajor, Devminor: n.Devminor,
		}
		if err := out.WriteHeader(&h); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		if _, err := out.Write(n.data); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return out.Close()
}
