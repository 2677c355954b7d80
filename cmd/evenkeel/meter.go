package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/schollz/progressbar/v3"

	"github.com/evenkeel-os/evenkeel/cmd/internal/cli"
	"github.com/evenkeel-os/evenkeel/updater"
)

// meter shows how far an install is.
type meter interface {
	show(updater.Progress)
	end()
}

func newMeter(w io.Writer, terminal bool) meter {
	if terminal {
		return &barMeter{w: w}
	}
	return &lineMeter{w: w, shown: -1}
}

// barMeter draws a bar. An image counts twice: once written, once read back.
type barMeter struct {
	w     io.Writer
	bar   *progressbar.ProgressBar
	image int
}

func (m *barMeter) show(p updater.Progress) {
	if m.bar == nil || m.image != p.Image {
		m.end()
		m.image = p.Image
		m.bar = progressbar.NewOptions64(2*p.Bytes.Total,
			progressbar.OptionSetWriter(m.w), progressbar.OptionSetWidth(24), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetElapsedTime(false), progressbar.OptionSetPredictTime(true))
	}
	m.bar.Describe(describe(p))
	_ = m.bar.Set64(p.Bytes.Done() + p.Bytes.Verified) // a terminal that went away is no reason to stop
}

func (m *barMeter) end() {
	if m.bar != nil {
		_ = m.bar.Clear()
		m.bar = nil
	}
}

// lineMeter prints a line for every quarter of an image, for logs and pipes.
type lineMeter struct {
	w     io.Writer
	image int
	shown int64
}

func (m *lineMeter) show(p updater.Progress) {
	if p.Image != m.image {
		m.image, m.shown = p.Image, -1
	}
	quarter := 4 * (p.Bytes.Done() + p.Bytes.Verified) / max(1, 2*p.Bytes.Total)
	if quarter == m.shown {
		return
	}
	m.shown = quarter
	fmt.Fprintf(m.w, "%s, %d%%\n", describe(p), 25*quarter)
}

func (m *lineMeter) end() {}

func describe(p updater.Progress) string {
	var parts []string
	for _, x := range []struct {
		n    int64
		what string
	}{{p.Bytes.Fetched, "fetched"}, {p.Bytes.Copied, "copied"}, {p.Bytes.Reused, "there already"}} {
		if x.n > 0 {
			parts = append(parts, cli.Bytes(x.n)+" "+x.what)
		}
	}
	s := fmt.Sprintf("%s (%d/%d)", p.Role, p.Image, p.Images)
	if len(parts) > 0 {
		s += " " + strings.Join(parts, ", ")
	}
	return s
}

// indent puts prefix before every line.
func indent(s, prefix string) string {
	return prefix + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n"+prefix)
}
