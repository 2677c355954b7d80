package health

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/evenkeel-os/evenkeel/internal/text"
)

// scripts returns the executables, those of required.d first.
func (p *Prober) scripts() (checks []check, err error) {
	for _, l := range []Level{Required, Wanted} {
		sub := string(l) + ".d"
		paths, err := programs(p.c.Dirs, sub)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			checks = append(checks, check{
				Rule: Rule{Name: sub + "/" + text.Clean(filepath.Base(path)), Level: l},
				run:  func(ctx context.Context, out *output) error { return p.execute(ctx, path, out) },
			})
		}
	}
	return checks, nil
}

// programs returns what is to be run of sub in dirs, in lexical order of the names.
func programs(dirs []string, sub string) ([]string, error) {
	found := map[string]string{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			path := filepath.Join(dir, sub, e.Name())
			switch to, _ := os.Readlink(path); {
			case to == os.DevNull:
				delete(found, e.Name())
			case !e.IsDir() && !ignored(e.Name()):
				found[e.Name()] = path
			}
		}
	}
	var paths []string
	for _, path := range found {
		paths = append(paths, path)
	}
	slices.SortFunc(paths, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
	return paths, nil
}

// ignored: what editors, packages and people leave beside programs.
func ignored(name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "README") {
		return true
	}
	for _, suffix := range []string{"~", ".md", ".txt", ".bak", ".orig", ".dpkg-old", ".dpkg-new", ".dpkg-dist", ".rpmnew", ".rpmsave"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// execute runs a program in a process group of its own, and leaves nothing of that group behind.
func (p *Prober) execute(ctx context.Context, path string, out *output) error {
	if st, err := os.Stat(path); err != nil {
		return final{err}
	} else if !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		// To pass over it would be to call a system well that nobody has looked at.
		return final{fmt.Errorf("%s is no executable file", path)}
	}
	c := exec.CommandContext(ctx, path)
	c.Dir = "/"
	c.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}, p.c.Env...)
	c.Stdout, c.Stderr = out, out
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return killGroup(c.Process.Pid) }
	// A process that left its group may hold the output open for ever.
	c.WaitDelay = grace / 5
	if err := c.Start(); err != nil {
		return err
	}
	waitUnreaped(c.Process.Pid)
	// Its number is its group's until it is reaped, so this reaches nobody else.
	_ = killGroup(c.Process.Pid)
	if err := c.Wait(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return err
	}
	return nil
}

func killGroup(pid int) error {
	err := unix.Kill(-pid, unix.SIGKILL)
	if errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// waitUnreaped returns when the process has ended, and leaves it to be reaped.
func waitUnreaped(pid int) {
	for {
		if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
