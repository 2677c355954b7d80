package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"
)

func TestChoose(t *testing.T) {
	for _, tt := range []struct {
		args []string
		n    int
		ok   bool
	}{
		{nil, 0, false},
		{[]string{"list"}, 0, true},
		{[]string{"good"}, 1, true},
		{[]string{"good", "sick"}, 2, true},
		{[]string{"goood"}, 0, false},
		{[]string{"good", "nothing"}, 0, false},
	} {
		got, err := choose(tt.args)
		if len(got) != tt.n || (err == nil) != tt.ok {
			t.Errorf("%q: %d scenarios, %v", tt.args, len(got), err)
		}
	}
	all, _ := choose([]string{"all"})
	ci, err := choose([]string{"ci"})
	if err != nil || len(ci) < 5 || len(ci) >= len(all) {
		t.Errorf("ci plays %d of %d: %v", len(ci), len(all), err)
	}
	names := map[string]bool{}
	for _, s := range all {
		if names[s.Name] || s.Shows == "" {
			t.Errorf("%q is there twice, or shows nothing", s.Name)
		}
		names[s.Name] = true
	}
}

// TestConnect is what QEMU does for each connection of the guest.
func TestConnect(t *testing.T) {
	if addr := os.Getenv("VM_CONNECT"); addr != "" {
		if err := connect(addr); err != nil {
			os.Exit(3)
		}
		os.Exit(0)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		all, _ := io.ReadAll(c)
		_, _ = c.Write(bytes.ToUpper(all))
		_ = c.Close()
	}()
	run := func() (string, error) {
		c := exec.Command(os.Args[0], "-test.run=TestConnect$")
		c.Env = append(os.Environ(), "VM_CONNECT="+l.Addr().String())
		c.Stdin = bytes.NewReader([]byte("hello"))
		out, err := c.Output()
		return string(out), err
	}
	if out, err := run(); out != "HELLO" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	_ = l.Close()
	if _, err := run(); err == nil {
		t.Error("nobody listens, and it succeeds")
	}
}
