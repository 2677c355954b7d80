package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/evenkeel-os/evenkeel/internal/durable"
)

// TestMain lets the scripts run the command as a process of its own. A weak scrypt keeps them quick; TEST_NOW sets the
// clock, and TEST_ANSWERS is what the person at the terminal types, separated by commas.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"evenkeel-repo": func() {
		a := &app{stdout: os.Stdout, stderr: os.Stderr, env: os.Getenv, now: testNow, ask: answers(os.Getenv("TEST_ANSWERS")), work: 4}
		os.Exit(a.run(context.Background(), os.Args[1:]))
	}})
}

func testNow() time.Time {
	t, err := time.Parse(time.RFC3339, os.Getenv("TEST_NOW"))
	if err != nil {
		panic(err)
	}
	return t
}

func answers(typed string) asker {
	var left []string
	if typed != "" {
		left = strings.Split(typed, ",")
	}
	return func(prompt string) (string, error) {
		if len(left) == 0 {
			return "", errNoTerminal
		}
		answer := left[0]
		left = left[1:]
		fmt.Fprintln(os.Stderr, prompt)
		return answer, nil
	}
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("TEST_NOW", "2026-11-24T12:00:00Z")
			e.Setenv(passphraseEnv, "correct horse")
			// Where Debian keeps the programs that make and check file systems.
			e.Setenv("PATH", e.Getenv("PATH")+":/usr/sbin:/sbin")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"image": makeImage, "flip": flip, "exits": exits, "hold": hold, "noplainkey": noPlainKey, "copydir": copyDir,
			"loader": makeLoader, "clean": clean, "followpage": followPage, "isjson": isJSON,
		},
	})
}

// makeImage is "image FILE SIZE SEED": noise and zeros.
func makeImage(ts *testscript.TestScript, _ bool, args []string) {
	size, err := strconv.Atoi(args[1])
	ts.Check(err)
	seed, err := strconv.ParseUint(args[2], 10, 64)
	ts.Check(err)
	data := make([]byte, size)
	rng := mrand.New(mrand.NewPCG(seed, 1))
	for i := range size / 2 {
		data[i] = byte(rng.Uint32())
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o600))
}

// flip is "flip GLOB": it changes one bit in the middle of the one file that matches.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	names, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(names) != 1 {
		ts.Fatalf("%s matches %d files: %v", args[0], len(names), names)
	}
	data, err := os.ReadFile(names[0])
	ts.Check(err)
	data[len(data)/2] ^= 1
	ts.Check(os.WriteFile(names[0], data, 0o600))
}

// exits is "exits CODE PROGRAM ARGS...": the program must end with this code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var status interface{ ExitCode() int }
	if errors.As(err, &status) {
		code = status.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] == !neg {
		ts.Fatalf("exit code %d", code)
	}
}

// hold is "hold FILE": another publisher has the lock until the script ends.
func hold(ts *testscript.TestScript, _ bool, args []string) {
	l, err := durable.Lock(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Defer(func() { _ = l.Unlock() })
}

// noPlainKey is "noplainkey DIR...": no file below holds anything that looks like a private key.
func noPlainKey(ts *testscript.TestScript, _ bool, args []string) {
	for _, dir := range args {
		ts.Check(filepath.WalkDir(ts.MkAbs(dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			if looksPrivate(data) {
				ts.Fatalf("%s holds a private key in the clear", path)
			}
			return err
		}))
	}
}

// looksPrivate finds PKCS #8 of ed25519, in DER, hex and base64, and the PEM headers of any private key.
func looksPrivate(data []byte) bool {
	der := []byte{0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20}
	for _, mark := range [][]byte{der, []byte("302e020100300506032b657004220420"), []byte("MC4CAQAwBQYDK2VwBCIEI"), []byte("PRIVATE KEY")} {
		if bytes.Contains(data, mark) {
			return true
		}
	}
	return false
}

func TestLooksPrivate(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range encodings(t, key) {
		if !looksPrivate(text) {
			t.Errorf("%s: not found", name)
		}
	}
	sum := sha256.Sum256(key)
	if looksPrivate(fmt.Appendf(nil, "%x", sum)) {
		t.Error("a digest was taken for a key")
	}
}

// copyDir is "copydir FROM TO": what a person carries on a stick.
func copyDir(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.CopyFS(ts.MkAbs(args[1]), os.DirFS(ts.MkAbs(args[0]))))
}

// isJSON is "isjson KEY...": standard output is one JSON value, an object with these keys if any are named.
func isJSON(ts *testscript.TestScript, _ bool, args []string) {
	d := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	var value any
	ts.Check(d.Decode(&value))
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		ts.Fatalf("there is more than one JSON value")
	}
	object, _ := value.(map[string]any)
	for _, key := range args {
		if _, ok := object[key]; !ok {
			ts.Fatalf("the JSON has no %q", key)
		}
	}
}
