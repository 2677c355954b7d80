package bootloader

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/evenkeel-os/evenkeel/bootloader/grubenv"
	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

// EntrySize is the size of every boot.cfg in bytes. Disk images bring the files along, so that nothing has to be
// allocated later.
const EntrySize = 4096

// The first lines of an entry. They have one length, so that an entry can be made usable or not in one sector.
const (
	entryUsable  = "set ek_use=yes\n"
	entryRetired = "set ek_use=no \n"
)

// Entry renders the boot entry of a slot as a GRUB script of EntrySize bytes. partUUID says where the partition of a role
// is. Every value is checked or quoted: nothing in a boot spec can become a command.
func Entry(s updater.Slot, spec release.BootSpec, partUUID func(updater.Slot, release.Role) (string, error)) ([]byte, error) {
	t := entryText{slot: s, partUUID: partUUID}
	data, err := t.render(spec)
	if err != nil {
		return nil, fmt.Errorf("cannot write the boot entry of slot %s: %w", s, err)
	}
	return data, nil
}

type entryText struct {
	slot     updater.Slot
	partUUID func(updater.Slot, release.Role) (string, error)
}

func (t entryText) render(spec release.BootSpec) ([]byte, error) {
	args, err := t.cmdline(spec.Cmdline)
	if err != nil {
		return nil, err
	}
	loads := []struct{ command, from, args string }{{"linux", spec.Kernel, " " + args}, {"initrd", spec.Initrd, ""}}
	if spec.Initrd == "" {
		loads = loads[:1]
	}
	var body, end strings.Builder
	fmt.Fprintf(&body, "set ek_slot=%s\nif [ \"$ek_use\" = yes ]; then\n", t.slot)
	for _, l := range loads {
		file, find, err := t.file(l.from)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.command, err)
		}
		if find != "" {
			fmt.Fprintf(&body, "if ek_find %s; then\n", find)
			end.WriteString("fi\n")
		}
		fmt.Fprintf(&body, "if %s %s%s; then\n", l.command, file, l.args)
		end.WriteString("fi\n")
	}
	return seal(body.String(), end.String()+"fi\n")
}

// seal puts the digest of the body before it and behind it: the script starts nothing when the two differ, as they do in
// an entry that was half written.
func seal(body, end string) ([]byte, error) {
	sum := sha256.Sum256([]byte(body))
	digest := hex.EncodeToString(sum[:8])
	text := entryUsable + "# Boot entry, written by evenkeel: changes are lost.\n" +
		"set ek_seal=" + digest + "\n" + body + "set ek_entry=" + digest + "\n" + end
	if len(text) > EntrySize {
		return nil, fmt.Errorf("it needs %d bytes, the file has %d: shorten the command line", len(text), EntrySize)
	}
	return append([]byte(text), bytes.Repeat([]byte("\n"), EntrySize-len(text))...), nil
}

// file returns the quoted place of "ROLE:name" or "ROLE:/path", and the partition to find first.
func (t entryText) file(from string) (quoted, find string, err error) {
	role, name, ok := strings.Cut(from, ":")
	switch {
	case from == "":
		return "", "", errors.New("the boot spec names no kernel")
	case !ok || name == "":
		return "", "", fmt.Errorf("%q does not say which file: want ROLE:name or ROLE:/path", from)
	}
	quoted, err = quote(name)
	if err != nil {
		return "", "", err
	}
	if strings.Contains("/"+name+"/", "/../") {
		return "", "", fmt.Errorf("path %q must not contain \"..\"", name)
	}
	if !path.IsAbs(name) {
		if strings.Contains(name, "/") {
			return "", "", fmt.Errorf("file name %q must not contain a slash", name)
		}
		return fmt.Sprintf(`"$ek_dir"/%s/%s`, t.slot, quoted), "", nil
	}
	uuid, err := t.partition(release.Role(role))
	return `"$ek_part"` + quoted, uuid, err
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func (t entryText) partition(role release.Role) (string, error) {
	if t.partUUID == nil {
		return "", fmt.Errorf("the boot spec refers to the partition of role %q, and this machine knows none", role)
	}
	uuid, err := t.partUUID(t.slot, role)
	if err != nil {
		return "", err
	}
	if !uuidForm.MatchString(uuid) {
		return "", fmt.Errorf("role %q has PARTUUID %q: want a lower-case GUID", role, uuid)
	}
	return uuid, nil
}

// cmdline returns the quoted arguments of the kernel.
func (t entryText) cmdline(template string) (string, error) {
	words, err := release.SplitCmdline(template)
	if err != nil {
		return "", err
	}
	for _, w := range words {
		if err := checkWord(w); err != nil {
			return "", err
		}
	}
	words = append(words, "evenkeel.slot={slot}")
	quoted := make([]string, len(words))
	for i, w := range words {
		if words[i], err = t.expand(w); err != nil {
			return "", err
		}
		if quoted[i], err = quote(words[i]); err != nil {
			return "", err
		}
	}
	if size := release.CmdlineSize(words); size > release.MaxCmdline {
		return "", fmt.Errorf("the command line has %d bytes, want at most %d", size, release.MaxCmdline)
	}
	return strings.Join(quoted, " "), nil
}

// checkWord refuses what would break the rules of slot identity.
func checkWord(w string) error {
	key, value, _ := strings.Cut(w, "=")
	switch {
	case key == "evenkeel.slot":
		return errors.New("the command line must not say evenkeel.slot=: it is added by itself")
	case strings.HasPrefix(value, "UUID=") || strings.HasPrefix(value, "LABEL="):
		return fmt.Errorf("the command line says %q: both slots may have that, use {ROLE}, PARTUUID= or PARTLABEL=", w)
	}
	return nil
}

var placeholder = regexp.MustCompile(`\{([^{}]*)\}`)

func (t entryText) expand(w string) (_ string, err error) {
	out := placeholder.ReplaceAllStringFunc(w, func(m string) string {
		name := m[1 : len(m)-1]
		if name == "slot" {
			return string(t.slot)
		}
		uuid, e := t.partition(release.Role(name))
		if e != nil && err == nil {
			err = fmt.Errorf("the command line says %s: %w", m, e)
		}
		return "PARTUUID=" + uuid
	})
	if err == nil && strings.ContainsAny(out, "{}") {
		err = fmt.Errorf("the command line says %q: want {slot} or {ROLE} where there are braces", w)
	}
	return out, err
}

// quote makes a word of GRUB's script language that stands for s itself. Within single quotes nothing has a meaning, and
// nothing can stand for a single quote. A backslash or double quote would reach the kernel with a backslash before it.
func quote(s string) (string, error) {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '\'' || c == '\\' || c == '"' {
			return "", fmt.Errorf("%q holds %q, which GRUB cannot pass on", s, c)
		}
	}
	return "'" + s + "'", nil
}

// writeEntry makes boot.cfg say what spec says. While the slot may be chosen, and has an entry that it can be started from,
// that one stays: the slot still holds what the entry was written for, though this version might write it differently.
func (g *GRUB) writeEntry(s updater.Slot, spec release.BootSpec, enabled bool) error {
	old, err := g.o.Files.Read(g.entryPath(s))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if enabled && usable(old, s) {
		return nil
	}
	missing := err != nil
	want, err := g.wantEntry(s, spec, old)
	if err != nil || bytes.Equal(old, want) {
		return err
	}
	if missing || len(old) != EntrySize {
		err = g.o.Files.Make(g.entryPath(s), want)
	} else {
		err = g.o.Files.Write(g.entryPath(s), 0, want)
	}
	if err != nil {
		return err
	}
	return g.verify(g.entryPath(s), want)
}

// wantEntry is the entry that Try needs. Without a boot spec (a slot that a factory filled) it is the one that is there.
func (g *GRUB) wantEntry(s updater.Slot, spec release.BootSpec, old []byte) ([]byte, error) {
	if spec != (release.BootSpec{}) {
		return Entry(s, spec, g.o.PartUUID)
	}
	if !intact(old, s) {
		return nil, fmt.Errorf("no boot spec is known, and %s is no boot entry of that slot", g.entryPath(s))
	}
	return append([]byte(entryUsable), old[len(entryUsable):]...), nil
}

// intact reports whether data is a whole entry of slot s.
func intact(data []byte, s updater.Slot) bool {
	if len(data) != EntrySize {
		return false
	}
	_, rest, _ := strings.Cut(string(data), "set ek_seal=")
	digest, rest, _ := strings.Cut(rest, "\n")
	body, _, ok := strings.Cut(rest, "set ek_entry="+digest+"\n")
	sum := sha256.Sum256([]byte(body))
	return ok && digest == hex.EncodeToString(sum[:8]) && strings.HasPrefix(body, "set ek_slot="+string(s)+"\n")
}

// usable reports whether data is an entry of slot s that the script starts.
func usable(data []byte, s updater.Slot) bool {
	return intact(data, s) && bytes.HasPrefix(data, []byte(entryUsable))
}

// hasEntry reports whether a slot has a whole boot entry, usable or not: this is the boot partition then.
func (g *GRUB) hasEntry() bool {
	if g.o.Entries == "" {
		return false
	}
	for _, s := range []updater.Slot{updater.A, updater.B} {
		if data, err := g.o.Files.Read(g.entryPath(s)); err == nil && intact(data, s) {
			return true
		}
	}
	return false
}

// retireDisabled retires the entry of a slot that is not enabled, as it never is when the variables are damaged.
func (g *GRUB) retireDisabled(s updater.Slot) error {
	e, err := g.read()
	if err != nil || e.vars.enabled(g.n, s) {
		return err
	}
	return g.retireEntry(s)
}

// retireEntry keeps the script from starting a slot that is disabled, should it ever find the variables damaged.
func (g *GRUB) retireEntry(s updater.Slot) error {
	if g.o.Entries == "" {
		return nil
	}
	old, err := g.o.Files.Read(g.entryPath(s))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.HasPrefix(old, []byte(entryUsable)) {
		return nil
	}
	if err != nil {
		return err
	}
	return g.markEntry(s, old, entryRetired)
}

// restoreEntry undoes retireEntry.
func (g *GRUB) restoreEntry(s updater.Slot) error {
	if g.o.Entries == "" {
		return nil
	}
	old, err := g.o.Files.Read(g.entryPath(s))
	switch {
	case err != nil:
		return err
	case !intact(old, s):
		return fmt.Errorf("%s is no boot entry of slot %s: it could not be started from it", g.entryPath(s), s)
	case bytes.HasPrefix(old, []byte(entryUsable)):
		return nil
	}
	return g.markEntry(s, old, entryUsable)
}

func (g *GRUB) markEntry(s updater.Slot, old []byte, mark string) error {
	sector := bytes.Clone(old[:min(len(old), grubenv.Sector)])
	copy(sector, mark)
	if err := g.o.Files.Write(g.entryPath(s), 0, sector); err != nil {
		return err
	}
	return g.verify(g.entryPath(s), append(sector, old[len(sector):]...))
}

// BlankEntry returns the boot entry of a slot that was never filled. Disk images bring it along, for its space.
func BlankEntry() []byte { return bytes.Repeat([]byte("\n"), EntrySize) }
