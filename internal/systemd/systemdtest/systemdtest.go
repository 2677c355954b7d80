// Package systemdtest is a service manager for tests: it speaks D-Bus on a real socket, as systemd does on
// /run/systemd/private, and knows the units that it is told.
package systemdtest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
)

// Unit is what the manager says of one unit.
type Unit struct {
	Load, Active, Sub, Result string
	Status                    int32
}

// Manager is the far end of the socket. Its methods may be called while clients are connected.
type Manager struct {
	mu     sync.Mutex
	state  string
	units  map[string]Unit
	starts []string
	asked  func(method string)
	refuse map[string]string
}

// Start serves a running system without units on the private socket below root, until the test ends.
func Start(t testing.TB, root string) *Manager {
	return serve(t, filepath.Join(root, "run/systemd/private"))
}

// StartBus serves the same on the system bus's socket instead.
func StartBus(t testing.TB, root string) *Manager {
	return serve(t, filepath.Join(root, "run/dbus/system_bus_socket"))
}

// Mute accepts connections on the private socket and never says a word.
func Mute(t testing.TB, root string) {
	listen(t, filepath.Join(root, "run/systemd/private"), func(net.Conn) {})
}

func serve(t testing.TB, socket string) *Manager {
	m := &Manager{state: "running", units: map[string]Unit{}, refuse: map[string]string{}}
	listen(t, socket, m.talk)
	return m
}

func listen(t testing.TB, socket string, talk func(net.Conn)) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var open sync.Map
	t.Cleanup(func() {
		l.Close()
		open.Range(func(c, _ any) bool { return c.(net.Conn).Close() == nil })
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Store(c, true)
			go talk(c)
		}
	}()
}

// SetState sets the state of the system.
func (m *Manager) SetState(s string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = s
}

// SetUnit sets what is said of a unit.
func (m *Manager) SetUnit(name string, u Unit) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.units[name] = u
}

// Refuse answers every call of a method with an error.
func (m *Manager) Refuse(method, message string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refuse[method] = message
}

// OnCall is called before each method or property ("Get SystemState") is answered.
func (m *Manager) OnCall(f func(method string)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = f
}

// Started returns what was asked to start, as "reboot.target replace-irreversibly", in order.
func (m *Manager) Started() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.starts...)
}

// talk is the server's half of one connection: the handshake in lines, then messages.
func (m *Manager) talk(c net.Conn) {
	in := bufio.NewReader(c)
	if !handshake(in, c) {
		c.Close()
		return
	}
	for {
		msg, err := dbus.DecodeMessage(in)
		if err != nil {
			c.Close()
			return
		}
		if msg.Type == dbus.TypeMethodCall {
			_ = m.answer(msg).EncodeTo(c, binary.LittleEndian)
		}
	}
}

func handshake(in *bufio.Reader, out io.Writer) bool {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return false
		}
		switch word := strings.Fields(strings.Trim(line, "\x00\r\n")); {
		case len(word) == 1 && word[0] == "AUTH":
			fmt.Fprint(out, "REJECTED EXTERNAL\r\n")
		case len(word) >= 2 && word[0] == "AUTH":
			fmt.Fprint(out, "DATA\r\n")
		case len(word) >= 1 && word[0] == "DATA":
			fmt.Fprint(out, "OK 0123456789abcdef0123456789abcdef\r\n")
		case len(word) == 1 && word[0] == "BEGIN":
			return true
		default:
			fmt.Fprint(out, "ERROR\r\n")
		}
	}
}

func (m *Manager) answer(call *dbus.Message) *dbus.Message {
	method, _ := call.Headers[dbus.FieldMember].Value().(string)
	path, _ := call.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	m.mu.Lock()
	asked := m.asked
	m.mu.Unlock()
	if asked != nil {
		name := method
		if method == "Get" {
			name += " " + call.Body[1].(string)
		}
		asked(name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	body, fail := m.handle(method, path, call.Body)
	reply := &dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{}, Body: body}
	if fail != "" {
		reply.Type, reply.Body = dbus.TypeError, []any{fail}
		reply.Headers[dbus.FieldErrorName] = dbus.MakeVariant("org.freedesktop.DBus.Error.Failed")
	}
	reply.Headers[dbus.FieldReplySerial] = dbus.MakeVariant(call.Serial())
	if len(reply.Body) > 0 {
		reply.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(reply.Body...))
	}
	return reply
}

func (m *Manager) handle(method string, path dbus.ObjectPath, args []any) (body []any, fail string) {
	if why := m.refuse[method]; why != "" {
		return nil, why
	}
	switch method {
	case "Hello":
		return []any{":1.1"}, ""
	case "LoadUnit":
		return []any{unitPath(args[0].(string))}, ""
	case "Get":
		return m.get(path, args[1].(string))
	case "ListUnitsFiltered":
		return []any{m.failed()}, ""
	case "StartUnit":
		m.starts = append(m.starts, fmt.Sprintf("%s %s", args...))
		return []any{dbus.ObjectPath("/org/freedesktop/systemd1/job/1")}, ""
	}
	return nil, "no such method: " + method
}

func (m *Manager) get(path dbus.ObjectPath, name string) ([]any, string) {
	if name == "SystemState" {
		return []any{dbus.MakeVariant(m.state)}, ""
	}
	u := Unit{Load: "not-found", Active: "inactive", Sub: "dead"}
	for n, x := range m.units {
		if unitPath(n) == path {
			u = x
		}
	}
	values := map[string]any{
		"LoadState": u.Load, "ActiveState": u.Active, "SubState": u.Sub, "Result": u.Result, "ExecMainStatus": u.Status,
	}
	if v, ok := values[name]; ok {
		return []any{dbus.MakeVariant(v)}, ""
	}
	return nil, "no such property: " + name
}

type listed struct {
	Name, Description, Load, Active, Sub, Followed string
	Path                                           dbus.ObjectPath
	Job                                            uint32
	JobType                                        string
	JobPath                                        dbus.ObjectPath
}

func (m *Manager) failed() []listed {
	list := []listed{}
	for n, u := range m.units {
		if u.Active == "failed" {
			list = append(list, listed{Name: n, Load: u.Load, Active: u.Active, Sub: u.Sub, Path: unitPath(n), JobPath: "/"})
		}
	}
	return list
}

// unitPath escapes a unit's name as systemd does: all but letters and digits as _XX.
func unitPath(name string) dbus.ObjectPath {
	var b strings.Builder
	for _, c := range []byte(name) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return dbus.ObjectPath("/org/freedesktop/systemd1/unit/" + b.String())
}
