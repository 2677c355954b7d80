package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

var errUnit = errors.New("it has no unit")

var timeUnits = map[string]time.Duration{
	"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
}

// ParseDuration reads a duration with units: "90s", "1h30m", "2d".
func ParseDuration(text string) (time.Duration, error) {
	total := 0.0
	rest := text
	for rest != "" {
		number, unit, after := nextPart(rest)
		n, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return 0, fmt.Errorf("%q is not a duration: write it as in 90s, 15m, 1h30m or 2d", text)
		}
		if unit == "" {
			return 0, fmt.Errorf("%q: %w: write %ss, %sm or %sh for seconds, minutes or hours", text, errUnit, number, number, number)
		}
		d, ok := timeUnits[unit]
		if !ok {
			return 0, fmt.Errorf("%q has the unit %q: use ms, s, m, h, d or w", text, unit)
		}
		total += n * float64(d)
		rest = after
	}
	if text == "" || total > math.MaxInt64/2 {
		return 0, fmt.Errorf("%q is not a duration: write it as in 90s, 15m, 1h30m or 2d", text)
	}
	return time.Duration(math.Round(total)), nil
}

// nextPart splits "1h30m" into "1", "h" and "30m".
func nextPart(text string) (number, unit, rest string) {
	i := 0
	for i < len(text) && (text[i] >= '0' && text[i] <= '9' || text[i] == '.') {
		i++
	}
	j := i
	for j < len(text) && (text[j] < '0' || text[j] > '9') && text[j] != '.' {
		j++
	}
	return text[:i], text[i:j], text[j:]
}

var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"B", 1},
	{"kB", 1e3},
	{"KiB", 1 << 10},
	{"MB", 1e6},
	{"MiB", 1 << 20},
	{"GB", 1e9},
	{"GiB", 1 << 30},
	{"TB", 1e12},
	{"TiB", 1 << 40},
}

// ParseSize reads a number of bytes with a unit: "512B", "64MiB", "1.5GB".
func ParseSize(text string) (Size, error) {
	number, unit, rest := nextPart(text)
	unit = strings.TrimSpace(unit)
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || rest != "" {
		return 0, fmt.Errorf("%q is not a size: write it as in 512B, 64MiB or 4GB", text)
	}
	if unit == "" {
		return 0, fmt.Errorf("%q: %w: write %sB, %sMiB or %sGB", text, errUnit, number, number, number)
	}
	for _, u := range sizeUnits {
		if u.name == unit {
			if v := n * float64(u.bytes); v < math.MaxInt64/2 {
				return Size(math.Round(v)), nil
			}
			return 0, fmt.Errorf("%q is too much", text)
		}
	}
	return 0, fmt.Errorf("%q has the unit %q: use B, kB, MB, GB, TB, KiB, MiB, GiB or TiB", text, unit)
}

// ParseRate reads a number of bytes per second with a unit: "2MiB/s".
func ParseRate(text string) (Rate, error) {
	size, ok := strings.CutSuffix(text, "/s")
	if !ok {
		if _, err := ParseSize(text); err == nil {
			return 0, fmt.Errorf("%q is a size: write %s/s for a rate", text, text)
		}
		return 0, fmt.Errorf("%q is not a rate: write it as in 512kB/s or 2MiB/s", text)
	}
	n, err := ParseSize(size)
	if err != nil {
		return 0, fmt.Errorf("%q is not a rate: %w", text, err)
	}
	return Rate(n), nil
}

// String writes a size in the largest unit that is exact.
func (s Size) String() string {
	best := sizeUnits[0]
	for _, u := range sizeUnits {
		if s != 0 && int64(s)%u.bytes == 0 && int64(s) >= u.bytes && u.bytes > best.bytes {
			best = u
		}
	}
	return strconv.FormatInt(int64(s)/best.bytes, 10) + best.name
}

// String writes a rate in the largest unit that is exact.
func (r Rate) String() string { return Size(r).String() + "/s" }

// durationText writes a duration so that ParseDuration reads the same.
func durationText(d time.Duration) string {
	var b strings.Builder
	for _, unit := range []string{"d", "h", "m", "s", "ms"} {
		if n := d / timeUnits[unit]; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, unit)
			d -= n * timeUnits[unit]
		}
	}
	if b.Len() == 0 {
		return "0s"
	}
	return b.String()
}
