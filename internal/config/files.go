package config

import (
	"fmt"
	"path/filepath"
	"strings"
)

// files checks where the files of the slots lie. What a release does not name is removed from such a directory, so it may
// hold nothing else: neither what the boot loader reads, nor the other slot.
func (c *checker) files(v Config) {
	for i, r := range v.Slots.Roles {
		if r.Kind != "file" {
			continue
		}
		at := fmt.Sprintf("slots.roles[%d]", i)
		c.directory(v, at+".a.dir", "a", r.A.Dir)
		c.directory(v, at+".b.dir", "b", r.B.Dir)
	}
}

func (c *checker) directory(v Config, key, slot, dir string) {
	entries := v.Boot.Entries != "none"
	own := filepath.Join(v.Boot.Entries, slot)
	switch other := otherFiles(v.Slots.Roles, slot, dir); {
	case !filepath.IsAbs(dir): // told already
	case holds(dir, filepath.Dir(v.Boot.Grubenv)):
		c.bad(key, "%s holds boot.grubenv, and what a release does not name is removed from it: use a directory for slot %s alone", dir, slot)
	case entries && holds(dir, v.Boot.Entries):
		c.bad(key, "%s holds boot.entries, and what a release does not name is removed from it: use a directory for slot %s alone", dir, slot)
	case other != "":
		c.bad(key, "%s holds %s of the other slot, and what a release does not name is removed from it: use a directory for slot %s alone",
			dir, other, slot)
	case entries && v.Boot.Script == "evenkeel" && filepath.Clean(dir) != own:
		c.bad(key, "our script loads the files of slot %s from %s (boot.entries), so it would start an old file from there: "+
			"use that directory, or set boot.entries", slot, own)
	}
}

// otherFiles returns a directory of the other slot that is dir, or lies below it.
func otherFiles(roles []Role, slot, dir string) string {
	for _, r := range roles {
		other := r.A.Dir
		if slot == "a" {
			other = r.B.Dir
		}
		if r.Kind == "file" && filepath.IsAbs(other) && holds(dir, other) {
			return other
		}
	}
	return ""
}

// holds reports whether path is dir, or lies below it, on a file system that takes capital letters for small ones.
func holds(dir, path string) bool {
	rel, err := filepath.Rel(strings.ToLower(dir), strings.ToLower(path))
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
