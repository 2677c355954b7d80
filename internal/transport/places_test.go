package transport

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

func TestRedirects(t *testing.T) {
	var hits atomic.Int32
	var leaked atomic.Value
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaked.Store(r.Header.Get("Authorization"))
		_, _ = w.Write([]byte("moved"))
	}))
	defer other.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		switch r.URL.Path {
		case "/circle":
			http.Redirect(w, r, "/circle", http.StatusFound)
		case "/moved":
			http.Redirect(w, r, strings.Replace(other.URL, "127.0.0.1", "localhost", 1)+"/x", http.StatusFound)
		}
	}))
	defer server.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	tr := mustNew(t, Options{Mirrors: []string{server.URL}, Tries: 1, TokenFile: token, Proxy: "none"})
	if data, err := tr.Get(t.Context(), "moved", 100, nil); err != nil || string(data) != "moved" {
		t.Errorf("moved: %q, %v", data, err)
	}
	if got := leaked.Load(); got != "" {
		t.Errorf("the token went to another host: %q", got)
	}
	if _, err := tr.Get(t.Context(), "circle", 100, nil); err == nil || !strings.Contains(err.Error(), "circles") {
		t.Errorf("circle: %v", err)
	}
}

func TestRedirectToPlainHTTP(t *testing.T) {
	asked := 0
	tr := mustNew(t, Options{Mirrors: []string{"https://a.example"}, Tries: 1, base: roundTripper(func(r *http.Request) (*http.Response, error) {
		if asked++; r.URL.Scheme == "http" {
			t.Error("the redirect was followed")
		}
		return answer(302, "", "Location", "http://a.example/x?token=s3cret"), nil
	})})
	_, err := tr.Get(t.Context(), "f", 100, nil)
	if err == nil || !strings.Contains(err.Error(), "less safe") || strings.Contains(err.Error(), "s3cret") || asked != 1 {
		t.Errorf("error = %v after %d requests", err, asked)
	}
}

func TestDirectoryAsRepository(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "metadata"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "metadata", "1.x.json"), []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, m := range []string{dir, "file://" + dir, dir + "/"} {
		tr := mustNew(t, Options{Mirrors: []string{m}, Tries: 1})
		if data, err := tr.Get(t.Context(), "metadata/1.x.json", 100, nil); err != nil || string(data) != "hello" {
			t.Errorf("%s: %q, %v", m, data, err)
		}
		if _, err := tr.Get(t.Context(), "metadata/2.x.json", 100, nil); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), dir+"/metadata/2.x.json") {
			t.Errorf("%s: a missing file: %v", m, err)
		}
		b, err := tr.Blob(t.Context(), "metadata/1.x.json", -1)
		if err != nil || b.Size() != 5 {
			t.Fatalf("%s: blob: %v", m, err)
		}
		r, err := b.Range(t.Context(), 1, 3)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != "ell" {
			t.Errorf("%s: range: %q, %v", m, got, err)
		}
	}
}
