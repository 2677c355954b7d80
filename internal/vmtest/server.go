package vmtest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Server serves a repository to one machine, as honestly as it is told to.
type Server struct {
	Addr string // of the listener, on loopback

	mu     sync.Mutex
	dir    string
	gone   bool
	lie    func(name string, data []byte) []byte
	budget int64         // bytes of packs that are still served before it stalls; negative: it does not
	stall  chan struct{} // closed when it stalls
	http   *http.Server
}

// Serve serves the repository in dir until Close.
func Serve(ctx context.Context, dir string) (*Server, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{Addr: l.Addr().String(), dir: dir, budget: -1}
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	go s.http.Serve(l) //nolint:errcheck // it ends when it is closed
	return s, nil
}

// Close ends it, and every connection.
func (s *Server) Close() { _ = s.http.Close() }

// Offer serves another directory from now on.
func (s *Server) Offer(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dir = dir
}

// Vanish makes the repository unreachable, or reachable again.
func (s *Server) Vanish(gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = gone
}

// Lie changes what is served, file by file; nil: nothing.
func (s *Server) Lie(lie func(name string, data []byte) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lie = lie
}

// StallAfter makes it stop in the middle, once it served so many bytes of packs. What it returns is closed then.
func (s *Server) StallAfter(n int64) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.budget, s.stall = n, make(chan struct{})
	return s.stall
}

// Flow undoes StallAfter, for requests to come.
func (s *Server) Flow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.budget = -1
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := path.Clean("/" + r.URL.Path)
	s.mu.Lock()
	dir, gone, lie := s.dir, s.gone, s.lie
	s.mu.Unlock()
	if gone {
		panic(http.ErrAbortHandler)
	}
	data, err := os.ReadFile(filepath.Join(dir, "repo", filepath.FromSlash(name)))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	if lie != nil {
		data = lie(name, data)
	}
	if data == nil {
		http.NotFound(w, r)
		return
	}
	if strings.HasSuffix(name, ".pack") {
		w = &throttled{w, s, r.Context()}
	}
	http.ServeContent(w, r, name, time.Time{}, strings.NewReader(string(data)))
}

// throttled is a response that ends in a stall when the budget is used up.
type throttled struct {
	http.ResponseWriter
	s   *Server
	ctx context.Context
}

func (t *throttled) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n := t.s.take(min(len(p)-done, 16<<10))
		if n == 0 {
			t.ResponseWriter.(http.Flusher).Flush()
			<-t.ctx.Done()
			return done, fmt.Errorf("stalled: %w", t.ctx.Err())
		}
		if _, err := t.ResponseWriter.Write(p[done : done+n]); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// take returns how many of n bytes may be sent.
func (s *Server) take(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.budget < 0 {
		return n
	}
	n = int(min(int64(n), s.budget))
	s.budget -= int64(n)
	if n == 0 && s.stall != nil {
		close(s.stall)
		s.stall = nil
	}
	return n
}
