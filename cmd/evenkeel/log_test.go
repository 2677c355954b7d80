package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/sirupsen/logrus"

	"github.com/evenkeel-os/evenkeel/internal/config"
)

func TestLog(t *testing.T) {
	nowhere := func(string) (string, bool) { return "", false }
	var b bytes.Buffer
	l := newLog(config.Log{Level: "warning", Format: "auto"}, &b, nowhere)
	l.Info("quiet")
	l.WithField("do", "save").Warn("loud")
	if got := b.String(); strings.Contains(got, "quiet") || !strings.Contains(got, "level=warning msg=loud do=save\n") {
		t.Errorf("logged %q", got)
	}
	b.Reset()
	newLog(config.Log{Level: "info", Format: "json"}, &b, nowhere).WithField("do", "save").Info("x")
	var e map[string]string
	if err := json.Unmarshal(b.Bytes(), &e); err != nil || e["msg"] != "x" || e["do"] != "save" || e["level"] != "info" {
		t.Errorf("logged %s, %v", b.Bytes(), err)
	}
}

// TestJournal: entries come with their fields; where the journal does not take them, they are not lost.
func TestJournal(t *testing.T) {
	var b bytes.Buffer
	var got string
	var broken error
	l := logrus.New()
	l.SetOutput(&bytes.Buffer{})
	l.AddHook(journalHook{func(message string, p journal.Priority, fields map[string]string) error {
		got = fmt.Sprint(message, p, fields)
		return broken
	}, &b})
	l.WithField("do", "save").WithField("n", 1).Warn("saved")
	if want := "saved4 map[EVENKEEL_DO:save SYSLOG_IDENTIFIER:evenkeel]"; got != want || b.Len() > 0 {
		t.Errorf("the journal got %q, the fallback %q; want %q", got, b.String(), want)
	}
	broken = errors.New("no journal")
	l.Info("kept")
	if b.String() != "kept\n" {
		t.Errorf("the fallback got %q", b.String())
	}
}

func TestPriorities(t *testing.T) {
	want := map[logrus.Level]journal.Priority{
		logrus.PanicLevel: journal.PriCrit, logrus.FatalLevel: journal.PriCrit, logrus.ErrorLevel: journal.PriErr,
		logrus.WarnLevel: journal.PriWarning, logrus.InfoLevel: journal.PriInfo, logrus.DebugLevel: journal.PriDebug,
		logrus.TraceLevel: journal.PriDebug,
	}
	for _, l := range logrus.AllLevels {
		if priority(l) != want[l] {
			t.Errorf("%s: priority %d; want %d", l, priority(l), want[l])
		}
	}
	if upper("do_it2") != "DO_IT2" {
		t.Error(upper("do_it2"))
	}
}
