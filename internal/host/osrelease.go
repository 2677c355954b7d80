package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/evenkeel-os/evenkeel/updater"
)

// OSRelease returns the variables of the running slot's os-release file.
func (h *Host) OSRelease() (map[string]string, error) {
	path := "/etc/os-release"
	text, err := os.ReadFile(h.path(path))
	if errors.Is(err, fs.ErrNotExist) {
		path = "/usr/lib/os-release"
		text, err = os.ReadFile(h.path(path))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot tell which release runs: %w", err)
	}
	vars, err := parseOSRelease(string(text))
	if err != nil {
		return nil, fmt.Errorf("cannot tell which release runs: %s: %w", path, err)
	}
	return vars, nil
}

// Running returns the release that the running slot says it is.
func (h *Host) Running() (updater.Running, error) {
	vars, err := h.OSRelease()
	if err != nil {
		return updater.Running{}, err
	}
	r := updater.Running{Version: vars["IMAGE_VERSION"]}
	if r.Version == "" {
		return r, errors.New("cannot tell which release runs: os-release has no IMAGE_VERSION; the image must be built with one")
	}
	if r.Serial, err = strconv.ParseUint(vars["EVENKEEL_SERIAL"], 10, 64); err != nil {
		return r, fmt.Errorf("cannot tell which release runs: os-release says EVENKEEL_SERIAL=%q; "+
			"the image must be built with the serial of its release, a number", vars["EVENKEEL_SERIAL"])
	}
	return r, nil
}

// parseOSRelease reads the format of os-release(5): assignments as a shell would take them, without any expansion. A
// later assignment replaces an earlier one.
func parseOSRelease(text string) (map[string]string, error) {
	vars := map[string]string{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.Trim(line, " \t\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		key, raw, ok := strings.Cut(line, "=")
		if !ok || !isName(key) {
			return nil, fmt.Errorf("line %d is no assignment: %.80q", n, line)
		}
		value, err := unquote(raw)
		if err != nil {
			return nil, fmt.Errorf("line %d: the value of %s %w", n, key, err)
		}
		vars[key] = value
	}
	return vars, nil
}

func isName(s string) bool {
	for i, c := range []byte(s) {
		if !isLetter(c) && c != '_' && (i == 0 || !isDigit(c)) {
			return false
		}
	}
	return s != ""
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }

func unquote(s string) (string, error) {
	switch {
	case s == "":
		return "", nil
	case s[0] == '\'':
		return singleQuoted(s)
	case s[0] == '"':
		return doubleQuoted(s)
	}
	// What a shell would not take literally has to be quoted.
	if i := strings.IndexAny(s, " \t'\"\\$`;&|<>()*?[]"); i >= 0 {
		return "", fmt.Errorf("has %q outside quotes", s[i])
	}
	return s, nil
}

func singleQuoted(s string) (string, error) {
	inner, rest, closed := strings.Cut(s[1:], "'")
	if !closed || rest != "" {
		return "", errors.New("has a quote too few or too many")
	}
	return inner, nil
}

// doubleQuoted: a backslash makes one of these literal, and is literal itself before anything else.
func doubleQuoted(s string) (string, error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' && i == len(s)-1:
			return b.String(), nil
		case c == '"', c == '$', c == '`':
			return "", fmt.Errorf("has %q without a backslash before it", c)
		case c == '\\' && i+1 < len(s) && strings.IndexByte("\"\\$`", s[i+1]) >= 0:
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", errors.New("has a quote too few")
}
