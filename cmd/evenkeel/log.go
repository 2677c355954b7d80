package main

import (
	"io"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/sirupsen/logrus"

	"github.com/evenkeel-os/evenkeel/internal/config"
)

// newLog returns the agent's log as the configuration wants it.
func newLog(c config.Log, to io.Writer, lookup func(string) (string, bool)) *logrus.Logger {
	l := logrus.New()
	l.SetOutput(to)
	if level, err := logrus.ParseLevel(c.Level); err == nil {
		l.SetLevel(level)
	}
	format := c.Format
	if stream, _ := lookup("JOURNAL_STREAM"); format == "auto" && stream != "" && journal.Enabled() {
		format = "journal"
	}
	switch format {
	case "json":
		l.SetFormatter(&logrus.JSONFormatter{})
	case "journal":
		l.SetOutput(io.Discard)
		l.AddHook(journalHook{journal.Send, to})
	default:
		l.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, DisableColors: true})
	}
	return l
}

// journalHook sends entries to the journal with their fields, so that they can be searched; where that fails they go to the
// standard error stream, which systemd reads as well.
type journalHook struct {
	send     func(message string, p journal.Priority, fields map[string]string) error
	fallback io.Writer
}

// Levels implements logrus.Hook.
func (journalHook) Levels() []logrus.Level { return logrus.AllLevels }

// Fire implements logrus.Hook.
func (h journalHook) Fire(e *logrus.Entry) error {
	vars := map[string]string{"SYSLOG_IDENTIFIER": "evenkeel"}
	for k, v := range e.Data {
		if s, ok := v.(string); ok {
			vars["EVENKEEL_"+upper(k)] = s
		}
	}
	if err := h.send(e.Message, priority(e.Level), vars); err != nil {
		_, err = io.WriteString(h.fallback, e.Message+"\n")
		return err
	}
	return nil
}

func upper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}

func priority(l logrus.Level) journal.Priority {
	switch l {
	case logrus.PanicLevel, logrus.FatalLevel:
		return journal.PriCrit
	case logrus.ErrorLevel:
		return journal.PriErr
	case logrus.WarnLevel:
		return journal.PriWarning
	case logrus.InfoLevel:
		return journal.PriInfo
	}
	return journal.PriDebug
}
