package tuf_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel-os/evenkeel/fixtures"
)

func TestReport(t *testing.T) {
	w := newWorld(t)
	before := w.open().Report()
	if len(before.Roles) != 1 || before.Roles[0].Name != "root" || len(before.Marks) != 0 {
		t.Errorf("before the first refresh: %+v", before)
	}
	w.repo.SetDelegatedKeys("releases", 2, fixtures.NewKey("r1"), fixtures.NewKey("r2"), fixtures.NewKey("r3"))
	w.repo.Publish()
	r := w.mustRefresh().Report()
	var names []string
	for _, role := range r.Roles {
		names = append(names, role.Name)
		if role.Version == 0 || role.Expires.Before(start) || len(role.Keys) == 0 || role.Threshold == 0 {
			t.Errorf("role %+v lacks something", role)
		}
	}
	if want := []string{"root", "timestamp", "snapshot", "targets", "releases"}; !slices.Equal(names, want) {
		t.Errorf("roles = %v, want %v", names, want)
	}
	releases := r.Roles[4]
	if releases.Threshold != 2 || len(releases.Keys) != 3 || releases.Targets != 2 || releases.Delegator != "targets" {
		t.Errorf("releases = %+v", releases)
	}
	if first := r.FirstToExpire(); first.Name != "timestamp" || !first.Expires.Equal(start.Add(-time.Hour).Add(7*24*time.Hour)) {
		t.Errorf("first to expire = %+v", first)
	}
	if r.Marks["snapshot"] != 3 || r.Marks["policy"] != 3 || r.Marks["root"] != 1 {
		t.Errorf("marks = %v", r.Marks)
	}
	if !r.Clock.Now.Equal(start) || r.Clock.Source != "the system clock" {
		t.Errorf("clock = %+v", r.Clock)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
}

// TestReadersDoNotWait: what is trusted can be seen while a refresh hangs.
func TestReadersDoNotWait(t *testing.T) {
	w := newWorld(t)
	c := w.mustRefresh()
	entered, leave := make(chan struct{}), make(chan struct{})
	w.repo.Answer("metadata/timestamp.json", func(http.ResponseWriter, *http.Request) { close(entered); <-leave })
	done := make(chan error)
	go func() { done <- c.Refresh(context.Background()) }()
	<-entered
	if got := serials(t, c); len(got) != 2 {
		t.Errorf("offers = %v", got)
	}
	if r := c.Report(); len(r.Roles) != 5 {
		t.Errorf("report = %+v", r)
	}
	close(leave)
	if err := <-done; err == nil {
		t.Error("an empty timestamp was trusted")
	}
}

func TestRefreshCanBeCancelled(t *testing.T) {
	w := newWorld(t)
	c := w.mustRefresh()
	ctx, cancel := context.WithCancel(context.Background())
	w.repo.Answer("metadata/timestamp.json", func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	if err := c.Refresh(ctx); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("refresh: %v", err)
	}
	if got := serials(t, c); len(got) != 2 {
		t.Errorf("offers = %v", got)
	}
}

// TestOneBadMirror: a mirror that lies, lags or is empty does not keep the others from being believed.
func TestOneBadMirror(t *testing.T) {
	for name, bad := range map[string]func(*world) http.Handler{
		"empty": func(*world) http.Handler { return http.NotFoundHandler() },
		"lies": func(*world) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte("{}")) })
		},
		"lags": func(w *world) http.Handler {
			old := fixtures.NewRepo(start)
			old.Restore(w.repo.Files())
			return old
		},
		"another's": func(*world) http.Handler {
			r := fixtures.NewRepo(start)
			r.Keys["timestamp"] = []*fixtures.Key{thief}
			r.Timestamp.Version = 100
			r.PublishTimestamp()
			return r
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			handler := bad(w)
			w.repo.PublishTimestamp() // what bad copied lies below the marks now
			w.mustRefresh()
			publish3(w)
			server := httptest.NewServer(handler)
			defer server.Close()
			o := w.options()
			o.Transport = w.transport(server.URL, w.server.URL)
			c := mustOpen(t, o)
			if err := c.Refresh(context.Background()); err != nil {
				t.Fatal(err)
			}
			if got := serials(t, c); !slices.Equal(got, []uint64{1, 2, 3}) {
				t.Errorf("offers = %v", got)
			}
		})
	}
}
