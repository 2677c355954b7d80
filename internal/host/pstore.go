package host

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/evenkeel-os/evenkeel/internal/text"
	"github.com/evenkeel-os/evenkeel/updater"
)

const (
	maxDumpPart  = 1 << 20  // bytes read of one pstore file, more than the kernel writes into one
	maxDumpText  = 64 << 10 // the last of them are kept
	maxDumpFiles = 256      // looked at in each place, the last by name
	maxDetail    = 2 << 10
)

// dumpPart is one file that the kernel left in pstore. A dump is cut into parts where the backend's records are small;
// part 1 holds its last lines, part 2 those before.
type dumpPart struct {
	id     string // the same for the same content, wherever the file was moved
	dump   string // the same for all parts of a dump; later dumps have greater names, where names tell
	reason string // "Panic", "Oops", "Emergency", ...
	count  int    // of the dumps of one boot
	part   int
	text   string
}

// findDumps returns the parts below the two places, those of pstore itself first. A part that is in both is returned once.
func (h *Host) findDumps() []dumpPart {
	var parts []dumpPart
	seen := map[string]bool{}
	for _, dir := range []string{"sys/fs/pstore", "var/lib/systemd/pstore"} {
		paths := dumpFiles(h.path(dir))
		for _, path := range paths[max(0, len(paths)-maxDumpFiles):] {
			p, err := readDump(path)
			if err == nil && !seen[p.id] {
				seen[p.id] = true
				parts = append(parts, p)
			}
		}
	}
	return parts
}

// dumpFiles lists dmesg-* up to two directories down: systemd-pstore makes one for each dump. Its dmesg.txt, which is made
// of the same files, is left alone.
func dumpFiles(dir string) (paths []string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		switch {
		case err != nil && d != nil && d.IsDir():
			return fs.SkipDir
		case err != nil:
			return nil
		case d.IsDir() && strings.Count(rel, string(filepath.Separator)) >= 2:
			return fs.SkipDir
		case d.Type().IsRegular() && strings.HasPrefix(d.Name(), "dmesg-"):
			paths = append(paths, path)
		}
		return nil
	})
	return paths
}

func readDump(path string) (dumpPart, error) {
	f, err := os.Open(path)
	if err != nil {
		return dumpPart{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxDumpPart))
	if err != nil {
		return dumpPart{}, err
	}
	p, err := parseDump(data)
	sum := sha256.Sum256(append([]byte(filepath.Base(path)+"\n"), data...))
	p.id, p.dump = hex.EncodeToString(sum[:8]), dumpName(path)
	return p, err
}

// dumpName: the names of EFI's files end in the time of the dump, two digits of the part and three of the count. In other
// places systemd-pstore makes a directory for each dump.
func dumpName(path string) string {
	digits := path[strings.LastIndexByte(path, '-')+1:]
	if n := len(digits) - 5; n > 0 && strings.HasPrefix(filepath.Base(path), "dmesg-efi") {
		return digits[:n]
	}
	return filepath.Dir(path)
}

// follows reports whether p was written right after q, in one dump. EFI's parts are named after the second in which each
// was written, and a slow firmware takes several for a dump.
func (p dumpPart) follows(q dumpPart) bool {
	if p.count != q.count || p.part <= q.part {
		return false
	}
	at, err1 := strconv.ParseInt(p.dump, 10, 64)
	before, err2 := strconv.ParseInt(q.dump, 10, 64)
	return p.dump == q.dump || err1 == nil && err2 == nil && at-before <= 60
}

// parseDump reads what fs/pstore/platform.c writes: a line as "Panic#2 Part1", and then lines of the kernel's log.
func parseDump(data []byte) (dumpPart, error) {
	head, body, _ := strings.Cut(string(data), "\n")
	reason, rest, ok1 := strings.Cut(head, "#")
	count, part, ok2 := strings.Cut(rest, " Part")
	p := dumpPart{reason: reason, text: body[max(0, len(body)-maxDumpText):]}
	var err1, err2 error
	p.count, err1 = strconv.Atoi(count)
	p.part, err2 = strconv.Atoi(strings.TrimSpace(part))
	if !ok1 || !ok2 || reason == "" || errors.Join(err1, err2) != nil {
		return dumpPart{}, fmt.Errorf("it does not begin as a dump: %.40q", head)
	}
	return p, nil
}

// panicked looks for a panic among parts, the last if there are several. An oops that the kernel survived is none.
func panicked(parts []dumpPart) (updater.Reset, bool) {
	parts = slices.DeleteFunc(slices.Clone(parts), func(p dumpPart) bool { return p.reason != "Panic" })
	if len(parts) == 0 {
		return updater.Reset{}, false
	}
	slices.SortStableFunc(parts, func(a, b dumpPart) int {
		return cmp.Or(cmp.Compare(a.dump, b.dump), cmp.Compare(a.count, b.count), cmp.Compare(a.part, b.part))
	})
	var log strings.Builder
	for i := len(parts) - 1; i >= 0; i-- {
		log.WriteString(strings.TrimSuffix(parts[i].text, "\n") + "\n")
		if i > 0 && !parts[i].follows(parts[i-1]) {
			break
		}
	}
	return updater.Reset{Cause: updater.CausePanic, Slot: slotIn(log.String()), Detail: panicDetail(log.String())}, true
}

// panicDetail is what the kernel gave as the reason, on a line of its own, and then its last lines.
func panicDetail(log string) string {
	const mark = "Kernel panic - not syncing: "
	why := "the kernel did not say why"
	if i := strings.LastIndex(log, mark); i >= 0 {
		why, _, _ = strings.Cut(log[i+len(mark):], "\n")
	}
	why = text.Tail(why, 256)
	return why + "\n" + text.Tail(log, maxDetail-len(why)-1)
}

// slotIn returns the slot that a kernel command line in s names, NoSlot if there are several.
func slotIn(s string) updater.Slot {
	found := updater.NoSlot
	for word := range strings.FieldsFuncSeq(s, func(r rune) bool { return unicode.IsSpace(r) || r == '"' }) {
		name, is := strings.CutPrefix(word, "evenkeel.slot=")
		slot := updater.Slot(name)
		switch {
		case !is || slot != updater.A && slot != updater.B:
		case found != updater.NoSlot && found != slot:
			return updater.NoSlot
		default:
			found = slot
		}
	}
	return found
}
