package vmtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// OVMF, as Debian installs it.
const (
	ovmfCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	ovmfVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// VM is a machine that is powered on. The firmware's variables live as long as its directory: power cuts do not clear
// them.
type VM struct {
	cmd      *exec.Cmd
	operator net.Conn
	done     chan struct{} // closed when QEMU ended
	err      error         // why, once done is closed
	onLine   func(string)

	mu     sync.Mutex
	news   chan struct{} // closed and replaced when there is a line
	lines  []string      // of the console
	read   int           // lines that Expect has passed
	answer []string      // lines of the operator's port
	asked  int           // commands so far
	prompt bool          // the operator can type
}

// Machine says what to power on.
type Machine struct {
	Dir      string   // for what belongs to the machine: firmware variables, sockets; short
	Disk     string   // raw disk image
	WriteLog string   // where every write is logged; empty: nowhere
	Connect  []string // program that connects its standard input and output to the repository
	OnLine   func(string)
}

// PowerOn starts the machine.
func (m Machine) PowerOn(ctx context.Context) (*VM, error) {
	vars := filepath.Join(m.Dir, "vars.fd")
	if _, err := os.Stat(vars); err != nil {
		data, err := os.ReadFile(ovmfVars)
		if err == nil {
			err = os.WriteFile(vars, data, 0o644)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot make the firmware's variables: %w", err)
		}
	}
	socket := filepath.Join(m.Dir, "operator")
	_ = os.Remove(socket)
	l, err := new(net.ListenConfig).Listen(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	v := &VM{done: make(chan struct{}), news: make(chan struct{}), onLine: m.OnLine}
	v.cmd = exec.CommandContext(ctx, "qemu-system-x86_64", m.args(vars, socket)...)
	return v, v.start(l)
}

func (m Machine) args(vars, socket string) []string {
	disk := "driver=raw,node-name=disk,file.driver=file,file.filename=" + m.Disk
	if m.WriteLog != "" {
		disk = "driver=blklogwrites,node-name=disk,log-sector-size=512,log-super-update-interval=1,log.driver=file,log.filename=" + m.WriteLog +
			",file.driver=raw,file.file.driver=file,file.file.filename=" + m.Disk
	}
	return []string{
		"-machine", "q35,accel=tcg", "-cpu", "Nehalem", "-m", "384", "-display", "none", "-nodefaults", "-no-user-config",
		"-drive", "if=pflash,format=raw,readonly=on,file=" + ovmfCode, "-drive", "if=pflash,format=raw,file=" + vars,
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-chardev", "socket,id=operator,path=" + socket, "-serial", "chardev:operator",
		"-blockdev", disk, "-device", "virtio-blk-pci,drive=disk,bootindex=1,write-cache=on",
		"-netdev", "user,id=net,restrict=on,guestfwd=tcp:10.0.2.100:80-cmd:" + strings.Join(m.Connect, " "),
		"-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci", "-device", "i6300esb",
	}
}

func (v *VM) start(l net.Listener) error {
	out, w := io.Pipe()
	v.cmd.Stdout, v.cmd.Stderr = w, w
	stdin, err := v.cmd.StdinPipe() // nobody types at the console: noise there would stop GRUB's clock
	if err != nil {
		return err
	}
	if err := v.cmd.Start(); err != nil {
		return fmt.Errorf("cannot start QEMU: %w", err)
	}
	go func() {
		v.err = v.cmd.Wait()
		_ = w.Close()
		_ = stdin.Close()
		close(v.done)
	}()
	go v.follow(out)
	if u, ok := l.(*net.UnixListener); ok {
		_ = u.SetDeadline(time.Now().Add(time.Minute))
	}
	if v.operator, err = l.Accept(); err != nil {
		v.Cut()
		return fmt.Errorf("cannot start QEMU: %w: %s", err, strings.Join(v.Console(), "\n"))
	}
	go v.listen()
	return nil
}

var escapes = regexp.MustCompile(`\x1b\[[0-9;?=]*[a-zA-Z]|\x1b[()][0-9A-Za-z]|[\x00-\x08\x0b-\x1f]`) //nolint:gochecknoglobals // a constant

// follow collects what the console says.
func (v *VM) follow(r io.Reader) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		line := strings.TrimSpace(escapes.ReplaceAllString(s.Text(), ""))
		if line == "" {
			continue
		}
		if v.onLine != nil {
			v.onLine(line)
		}
		v.mu.Lock()
		v.lines = append(v.lines, line)
		v.prompt = v.prompt && !strings.HasPrefix(line, "Welcome to GRUB")
		v.ring()
		v.mu.Unlock()
	}
	_, _ = io.Copy(io.Discard, r)
}

func (v *VM) listen() {
	s := bufio.NewScanner(v.operator)
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		v.mu.Lock()
		line := strings.Trim(s.Text(), "\r")
		v.answer = append(v.answer, line)
		v.prompt = v.prompt || strings.HasPrefix(line, "@ready ")
		v.ring()
		v.mu.Unlock()
	}
}

// ring wakes everybody who waits. It is called with the lock held.
func (v *VM) ring() {
	close(v.news)
	v.news = make(chan struct{})
}

// Console returns what the console said so far.
func (v *VM) Console() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]string(nil), v.lines...)
}

// until waits until look, which is called with the lock held, says that it is done.
func (v *VM) until(ctx context.Context, what string, look func() bool) error {
	for {
		v.mu.Lock()
		ok, news := look(), v.news
		v.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-news:
		case <-v.done:
			v.mu.Lock()
			defer v.mu.Unlock()
			if look() {
				return nil
			}
			return fmt.Errorf("the machine went off while waiting for %s: %w", what, errors.Join(v.err, errOff))
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s: %w", what, context.Cause(ctx))
		}
	}
}

var errOff = errors.New("it is powered off")

// Expect waits for a line of the console that matches, behind the last one that was expected, and returns its groups.
func (v *VM) Expect(ctx context.Context, pattern string) (groups []string, err error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	err = v.until(ctx, strconv.Quote(pattern)+" on the console", func() bool {
		for v.read < len(v.lines) {
			groups = re.FindStringSubmatch(v.lines[v.read])
			v.read++
			if groups != nil {
				return true
			}
		}
		return false
	})
	return groups, err
}

// Run lets the operator run a command, and returns what it printed and its exit status.
func (v *VM) Run(ctx context.Context, command string) (out string, status int, err error) {
	if err := v.Ready(ctx); err != nil {
		return "", 0, err
	}
	v.mu.Lock()
	v.asked++
	number, from := v.asked, len(v.answer)
	v.mu.Unlock()
	if _, err := fmt.Fprintf(v.operator, "%d %s\n", number, strings.ReplaceAll(command, "\n", " ")); err != nil {
		return "", 0, fmt.Errorf("cannot type %q: %w", command, err)
	}
	end := fmt.Sprintf("@%d ", number)
	err = v.until(ctx, "the end of "+strconv.Quote(command), func() bool {
		for i := from; i < len(v.answer); i++ {
			if rest, ok := strings.CutPrefix(v.answer[i], end); ok {
				status, _ = strconv.Atoi(rest)
				out = strings.TrimSpace(strings.Join(v.answer[from:i], "\n"))
				return true
			}
		}
		return false
	})
	return out, status, err
}

// Type lets the operator type a command that the machine does not live to see the end of.
func (v *VM) Type(ctx context.Context, command string) error {
	if err := v.Ready(ctx); err != nil {
		return err
	}
	_, err := fmt.Fprintf(v.operator, "0 %s\n", command)
	return err
}

// Ready waits until the operator can type.
func (v *VM) Ready(ctx context.Context) error {
	return v.until(ctx, "the operator's prompt", func() bool { return v.prompt })
}

// Cut takes the power away. What the disk was not told to flush may or may not be there.
func (v *VM) Cut() {
	_ = v.cmd.Process.Kill()
	<-v.done
	if v.operator != nil {
		_ = v.operator.Close()
	}
}

// Worked returns the processor time of a machine that is off.
func (v *VM) Worked() time.Duration {
	<-v.done
	return v.cmd.ProcessState.UserTime() + v.cmd.ProcessState.SystemTime()
}

// Off waits until the machine has switched itself off.
func (v *VM) Off(ctx context.Context) error {
	select {
	case <-v.done:
		return v.err
	case <-ctx.Done():
		return fmt.Errorf("waited in vain for the machine to switch itself off: %w", context.Cause(ctx))
	}
}
