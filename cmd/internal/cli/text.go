package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// JSON prints v as one indented JSON value.
func JSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// Bytes shows a number of bytes to people.
func Bytes(n int64) string {
	const unit = 1 << 10
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, suffix := float64(n)/unit, "KMGT"
	for value >= unit && len(suffix) > 1 {
		value, suffix = value/unit, suffix[1:]
	}
	return fmt.Sprintf("%.1f %ciB", value, suffix[0])
}

// Date shows a time to people.
func Date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
