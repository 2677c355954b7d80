package partitions

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
	"golang.org/x/sys/unix"
)

// Layout is what a look at the whole machine found, for people and for start-up checks.
type Layout struct {
	Disk       string       `json:"disk"`
	Size       int64        `json:"size"`        // bytes
	SectorSize int          `json:"sector_size"` // bytes
	Running    updater.Slot `json:"running"`     // empty: not known, and Problems says why
	Places     []Row        `json:"places"`
	Problems   []string     `json:"problems,omitempty"` // of the machine as a whole; any of them forbids writing
	Warnings   []string     `json:"warnings,omitempty"` // should be looked at, forbid nothing
}

// Row is one place of one slot.
type Row struct {
	Slot      updater.Slot `json:"slot"`
	Role      release.Role `json:"role"`
	Kind      release.Kind `json:"kind"`
	Path      string       `json:"path"`                // device, or directory
	Partition *Partition   `json:"partition,omitempty"` // release.KindPartition
	Size      int64        `json:"size"`                // bytes of the partition, or of the files
	Free      int64        `json:"free,omitempty"`      // release.KindFile: bytes that still fit
	InUse     string       `json:"in_use,omitempty"`    // by what
	Running   bool         `json:"running"`
	Problem   string       `json:"problem,omitempty"`
}

// Err returns the problems as one error, each once, or nil.
func (l Layout) Err() error {
	all := slices.Clone(l.Problems)
	for _, r := range l.Places {
		if r.Problem != "" {
			all = append(all, placeProblem(r.Slot, r.Role, r.Problem))
		}
	}
	var errs []error
	for i, p := range all {
		if !slices.Contains(all[:i], p) {
			errs = append(errs, errors.New(p))
		}
	}
	return errors.Join(errs...)
}

func placeProblem(slot updater.Slot, role release.Role, problem any) string {
	return fmt.Sprintf("role %q of slot %s: %v", role, slot, problem)
}

// Check looks at everything that is declared. It never fails: what it cannot see is a problem of the Layout.
func (s *Slots) Check() Layout {
	l := Layout{Disk: s.o.Disk}
	run, err := s.Running()
	if err != nil {
		l.Problems = append(l.Problems, err.Error())
	}
	l.Running = run
	d, err := s.openDisk()
	if err != nil {
		l.Problems = append(l.Problems, err.Error())
		return l
	}
	l.Disk, l.Size, l.SectorSize = d.path, d.size, d.sector
	l.Problems = append(l.Problems, s.layoutProblems(d)...)
	if d.recovered {
		l.Warnings = append(l.Warnings, fmt.Sprintf("the primary partition table of %s is damaged, its backup is used: repair it (sgdisk -e, or gdisk's recovery menu)", d.path))
	}
	claims, err := s.claims(d)
	if err != nil {
		l.Problems = append(l.Problems, err.Error())
	}
	for _, slot := range []updater.Slot{updater.A, updater.B} {
		for _, r := range s.o.Roles {
			l.Places = append(l.Places, s.row(d, claims, slot, r, run))
		}
	}
	return l
}

func (s *Slots) row(d *disk, claims []claim, slot updater.Slot, r Role, run updater.Slot) Row {
	row := Row{Slot: slot, Role: r.Name, Kind: r.Kind, Running: slot == run}
	if r.Kind == release.KindFile {
		s.fileRow(&row, r.Place(slot).Dir)
		return row
	}
	p, err := d.find(r.Place(slot).Partition)
	if err != nil {
		row.Problem = err.Error()
		return row
	}
	row.Partition, row.Size, row.Path = &p, p.Size, d.path
	row.InUse = describe(claims, p.extent)
	if row.InUse != "" && slot == run.Other() {
		row.Problem = "it is in use though it does not run: " + row.InUse
	}
	at, err := s.place(d, p)
	if err != nil {
		row.Problem = err.Error()
		return row
	}
	row.Path = at.path
	return row
}

func (s *Slots) fileRow(row *Row, dir string) {
	row.Path = dir
	if err := s.espProblem(dir); err != nil {
		row.Problem = err.Error()
		return
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		row.Problem = err.Error()
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			row.Size += info.Size()
		}
	}
	var st unix.Statfs_t
	for up := dir; ; up = filepath.Dir(up) {
		if err := unix.Statfs(up, &st); err == nil || up == filepath.Dir(up) {
			break
		}
	}
	row.Free = int64(st.Bavail) * st.Bsize
}
