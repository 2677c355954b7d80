package main

import (
	"bytes"
	"time"
)

// testApp is a command with nothing around it.
func testApp() *app {
	return &app{
		stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, lookup: func(string) (string, bool) { return "", false },
		now: time.Now, version: "0.1.0", root: true,
	}
}
