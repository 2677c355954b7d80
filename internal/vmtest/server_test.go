package vmtest

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func serve(t *testing.T) *Server {
	t.Helper()
	dir := t.TempDir()
	for name, data := range map[string]string{"metadata/timestamp.json": "{}", "targets/packs/x.pack": strings.Repeat("x", 100_000)} {
		path := filepath.Join(dir, "repo", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Serve(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func get(ctx context.Context, s *Server, name, ranges string) (int, string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Addr+"/"+name, nil)
	if err != nil {
		return 0, "", err
	}
	if ranges != "" {
		r.Header.Set("Range", ranges)
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer a.Body.Close()
	data, err := io.ReadAll(a.Body)
	return a.StatusCode, string(data), err
}

func TestServer(t *testing.T) {
	s := serve(t)
	code, data, err := get(t.Context(), s, "metadata/timestamp.json", "")
	if code != 200 || data != "{}" || err != nil {
		t.Errorf("%d %q %v", code, data, err)
	}
	if code, data, err := get(t.Context(), s, "targets/packs/x.pack", "bytes=10-19"); code != 206 || len(data) != 10 || err != nil {
		t.Errorf("a range: %d %q %v", code, data, err)
	}
	for _, name := range []string{"nothing", "../server.go", ""} {
		if code, _, err := get(t.Context(), s, name, ""); code != 404 || err != nil {
			t.Errorf("%q: %d, %v", name, code, err)
		}
	}
}

func TestServerLies(t *testing.T) {
	s := serve(t)
	x := &run{server: s}
	a := lying("timestamp.json", "")
	if err := a.begin(x, t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, data, _ := get(t.Context(), s, "metadata/timestamp.json", ""); data == "{}" || len(data) != 2 {
		t.Errorf("it serves %q", data)
	}
	if _, data, _ := get(t.Context(), s, "targets/packs/x.pack", ""); data != strings.Repeat("x", 100_000) {
		t.Error("it lies about the pack, too")
	}
	if err := a.end(x, t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, data, _ := get(t.Context(), s, "metadata/timestamp.json", ""); data != "{}" {
		t.Errorf("afterwards it serves %q", data)
	}
}

func TestServerVanishes(t *testing.T) {
	s := serve(t)
	s.Vanish(true)
	if code, _, err := get(t.Context(), s, "metadata/timestamp.json", ""); err == nil {
		t.Errorf("it answers: %d", code)
	}
	s.Vanish(false)
	if code, _, err := get(t.Context(), s, "metadata/timestamp.json", ""); code != 200 || err != nil {
		t.Errorf("%d, %v", code, err)
	}
}

// TestServerStalls: exactly so many bytes arrive, whoever asks for them, and then none.
func TestServerStalls(t *testing.T) {
	s := serve(t)
	stalled := s.StallAfter(50_000)
	if _, data, err := get(t.Context(), s, "targets/packs/x.pack", "bytes=0-19999"); len(data) != 20_000 || err != nil {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got := make(chan string, 1)
	go func() {
		_, data, _ := get(ctx, s, "targets/packs/x.pack", "bytes=20000-99999")
		got <- data
	}()
	<-stalled
	if code, _, err := get(t.Context(), s, "metadata/timestamp.json", ""); code != 200 || err != nil {
		t.Errorf("metadata stalls, too: %d, %v", code, err)
	}
	cancel()
	if data := <-got; len(data) > 30_000 {
		t.Errorf("%d bytes came", len(data))
	}
	s.Flow()
	if _, data, err := get(t.Context(), s, "targets/packs/x.pack", ""); len(data) != 100_000 || err != nil {
		t.Errorf("afterwards: %d bytes, %v", len(data), err)
	}
}
