package config

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

var (
	nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	roleForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	uuidForm = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
)

// checker finds what is wrong with values that have the right types.
type checker struct {
	l        *Loaded
	problems []Problem
}

func (l *Loaded) check() []Problem {
	c := &checker{l: l}
	c.identity(l.Config)
	c.repository(l.Config.Repository)
	c.slots(l.Config.Slots)
	c.files(l.Config)
	c.boot(l.Config.Boot)
	c.health(l.Config.Health)
	c.update(l.Config.Update)
	c.paths(l.Config)
	return c.problems
}

// bad reports a problem at the place that set key, or the nearest section around it.
func (c *checker) bad(key, format string, args ...any) {
	p := Problem{Key: key, Message: fmt.Sprintf(format, args...)}
	o, _ := c.l.Origin(key)
	switch {
	case o.Flag != "":
		p.File = o.Flag
	case o.Env != "":
		p.File = o.Env
	case o.File != "":
		p.File, p.Line = o.File, o.Line
	case len(c.l.Files) > 0:
		p.File = c.l.Files[0]
	}
	c.problems = append(c.problems, p)
}

// Origin tells where the value of key was set. False: it is a default, and the Origin that of the section around it.
func (l *Loaded) Origin(key string) (Origin, bool) {
	for at := key; at != ""; at = parent(at) {
		if o, ok := l.origins[at]; ok {
			return o, at == key
		}
	}
	return Origin{}, false
}

func parent(key string) string {
	if i := strings.LastIndexAny(key, ".["); i > 0 {
		return key[:i]
	}
	return ""
}

func (c *checker) identity(v Config) {
	for key, name := range map[string]string{"product": v.Product, "compatible": v.Compatible} {
		if name == "" {
			c.bad(key, "it is required: releases are chosen by it")
		} else if !nameForm.MatchString(name) {
			c.bad(key, "%q is not legal: use 1 to 64 letters, digits, \".\", \"_\" and \"-\", beginning with a letter or digit", name)
		}
	}
	if v.Layout < 1 {
		c.bad("layout", "%d is not legal: layouts are numbered from 1", v.Layout)
	}
}

func (c *checker) repository(v Repository) {
	if len(v.URLs) == 0 {
		c.bad("repository.urls", "it is required: where do releases come from?")
	}
	for i, u := range v.URLs {
		if why := badURL(u, "http", "https", "file"); why != "" && !filepath.IsAbs(u) {
			c.bad(fmt.Sprintf("repository.urls[%d]", i), "%s", why)
		}
	}
	if v.Proxy != "" && v.Proxy != "none" {
		if why := badURL(v.Proxy, "http", "https", "socks5"); why != "" {
			c.bad("repository.proxy", "%s", why)
		}
	}
	if (v.Cert == "") != (v.Key == "") {
		c.bad("repository", "cert and key belong together: name both files or none")
	}
	if v.Tries < 1 {
		c.bad("repository.tries", "%d is not legal: use 1 or more", v.Tries)
	}
	c.positive("repository.connect_timeout", v.ConnectTimeout)
	c.positive("repository.header_timeout", v.HeaderTimeout)
	c.positive("repository.stall_timeout", v.StallTimeout)
}

// badURL says what is wrong with a URL, without showing what may be secret in it.
func badURL(text string, schemes ...string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "it is not a URL"
	case u.Scheme == "":
		return fmt.Sprintf("%q is not a URL: write it as in https://updates.example/", redactURL(text))
	case !slices.Contains(schemes, u.Scheme):
		return fmt.Sprintf("%q is not known: use %s", u.Scheme+"://", strings.Join(schemes, ", "))
	case u.Scheme != "file" && u.Host == "":
		return "the URL names no host"
	}
	return ""
}

func (c *checker) positive(key string, d time.Duration) {
	if d <= 0 {
		c.bad(key, "it must be longer than 0s")
	}
}

func (c *checker) slots(v Slots) {
	if !slices.Contains([]int{0, 512, 4096}, v.SectorSize) {
		c.bad("slots.sector_size", "%d is not legal: use 512 or 4096", v.SectorSize)
	}
	if len(v.Roles) == 0 {
		c.bad("slots.roles", "a slot without any image cannot be started: remove the key for the usual ones")
		return
	}
	partitions := 0
	for i, r := range v.Roles {
		at := fmt.Sprintf("slots.roles[%d]", i)
		if !roleForm.MatchString(r.Role) {
			c.bad(at+".role", "%q is not legal: use up to 32 lower-case letters, digits and \"-\", beginning with a letter", r.Role)
		}
		if slices.ContainsFunc(v.Roles[:i], func(o Role) bool { return o.Role == r.Role }) {
			c.bad(at+".role", "role %q is there twice", r.Role)
		}
		if r.Kind == "partition" {
			partitions++
		}
		c.place(at+".a", r.Kind, r.A)
		c.place(at+".b", r.Kind, r.B)
		if r.A == r.B {
			c.bad(at, "both slots name the same place: each needs one of its own")
		}
	}
	if partitions == 0 {
		c.bad("slots.roles", "one role must be of kind partition: the running slot is known by it")
	}
}

func (c *checker) place(at, kind string, p Place) {
	ways := 0
	for _, set := range []bool{p.Label != "", p.PartUUID != "", p.Type != "" || p.Order != 0} {
		if set {
			ways++
		}
	}
	switch {
	case kind == "file" && ways > 0:
		c.bad(at, "a file is in a directory, not in a partition of its own: use dir")
	case kind == "file":
		c.absolute(at+".dir", p.Dir)
	case p.Dir != "":
		c.bad(at+".dir", "a partition has no directory: remove it, or use kind: file")
	case ways != 1:
		c.bad(at, "say where it is in one way: label, partuuid, or type with order")
	case p.Type != "" && p.Order < 1:
		c.bad(at+".order", "%d is not legal: say the how-manieth partition of that type it is, from 1", p.Order)
	case p.Type == "" && p.Order != 0:
		c.bad(at+".order", "it needs a type")
	}
	for key, id := range map[string]string{"partuuid": p.PartUUID, "type": p.Type} {
		if id != "" && !uuidForm.MatchString(id) {
			c.bad(at+"."+key, "%q is not a GUID: write it as in 4f68bce3-e8cd-4db1-96e7-fbcaf984b709", id)
		}
	}
}

func (c *checker) boot(v Boot) {
	if v.Tries < 1 || v.Tries > 7 {
		c.bad("boot.tries", "%d is not legal: use 1 to 7", v.Tries)
	}
	if v.Script == "rauc" && v.Tries != 1 {
		if _, set := c.l.Origin("boot.tries"); set {
			c.bad("boot.tries", "RAUC's script gives a slot one try: use 1")
		}
	}
	if v.Attempts < 1 || v.Attempts > 100 {
		c.bad("boot.attempts", "%d is not legal: use 1 to 100", v.Attempts)
	}
	if v.Script == "evenkeel" && (v.NameA != "A" || v.NameB != "B") {
		c.bad("boot", "name_a and name_b are for RAUC's script: ours calls the slots A and B")
	}
	if v.Script == "evenkeel" && v.Entries == "none" {
		c.bad("boot.entries", "our script needs boot entries: name their directory")
	}
	if v.NameA == v.NameB {
		c.bad("boot.name_b", "both slots are called %q", v.NameA)
	}
}

func (c *checker) health(v Health) {
	c.positive("health.timeout", v.Timeout)
	c.positive("health.deadline", v.Deadline)
	if v.Deadline > 0 && v.Timeout >= v.Deadline {
		c.bad("health.timeout", "a check may not take as long as all of them: health.deadline is %s", durationText(v.Deadline))
	}
	if v.Deadline > 0 && v.Settle >= v.Deadline {
		c.bad("health.settle", "it must be shorter than health.deadline, %s", durationText(v.Deadline))
	}
	used := map[string]bool{}
	name := func(key, n string) {
		if used[n] {
			c.bad(key, "check %q is there twice: give each a name", n)
		}
		used[n] = true
	}
	for i, h := range v.HTTP {
		at := fmt.Sprintf("health.http[%d]", i)
		if why := badURL(h.URL, "http", "https"); why != "" {
			c.bad(at+".url", "%s", why)
		}
		if h.Status != 0 && (h.Status < 100 || h.Status > 599) {
			c.bad(at+".status", "%d is no HTTP status", h.Status)
		}
		name(at+".name", h.Name)
	}
	for i, t := range v.TCP {
		at := fmt.Sprintf("health.tcp[%d]", i)
		if _, port, err := net.SplitHostPort(t.Address); err != nil || port == "" {
			c.bad(at+".address", "%q is not an address: write it as in localhost:443", t.Address)
		}
		name(at+".name", t.Name)
	}
	for i, u := range v.Units {
		at := fmt.Sprintf("health.units[%d]", i)
		if !strings.Contains(u.Unit, ".") || strings.ContainsAny(u.Unit, "/ \t\n") {
			c.bad(at+".unit", "%q is not a unit: write its whole name, as in nginx.service", u.Unit)
		}
		name(at+".unit", u.Unit)
	}
}

func (c *checker) update(v Update) {
	if v.Poll < time.Second {
		c.bad("update.poll", "%s is too short: use 1s or more; mode: off does not look at all", durationText(v.Poll))
	}
}

func (c *checker) absolute(key, path string) {
	if !filepath.IsAbs(path) {
		c.bad(key, "%q is not an absolute path", path)
	}
}

func (c *checker) paths(v Config) {
	c.absolute("state.dir", v.State.Dir)
	c.absolute("repository.root", v.Repository.Root)
	c.absolute("slots.esp", v.Slots.ESP)
	c.absolute("slots.root_mount", v.Slots.RootMount)
	c.absolute("boot.grubenv", v.Boot.Grubenv)
	c.absolute("host.root", v.Host.Root)
	c.absolute("host.run_dir", v.Host.RunDir)
	for key, path := range map[string]string{
		"repository.ca": v.Repository.CA, "repository.cert": v.Repository.Cert, "repository.key": v.Repository.Key,
		"repository.token": v.Repository.Token, "slots.disk": v.Slots.Disk, "update.hold_file": v.Update.HoldFile,
	} {
		if path != "" {
			c.absolute(key, path)
		}
	}
	if v.Boot.Entries != "none" {
		c.absolute("boot.entries", v.Boot.Entries)
	}
	for i, dir := range v.Health.Dirs {
		c.absolute(fmt.Sprintf("health.dirs[%d]", i), dir)
	}
	if len(v.Host.Reboot) > 0 {
		c.absolute("host.reboot_command[0]", v.Host.Reboot[0])
	}
}
