package control

import "sync"

// backlog is how many messages may wait for a watcher.
const backlog = 256

// Feed tells every watcher what the agent does. Its zero value is ready.
type Feed struct {
	mu       sync.Mutex
	watchers map[chan Message]bool
}

// Join returns a channel of all messages from now on, and a function that ends it. The channel is closed early where its
// reader did not keep up.
func (f *Feed) Join() (messages <-chan Message, leave func()) {
	c := make(chan Message, backlog)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watchers == nil {
		f.watchers = map[chan Message]bool{}
	}
	f.watchers[c] = true
	return c, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.drop(c)
	}
}

func (f *Feed) drop(c chan Message) {
	if f.watchers[c] {
		delete(f.watchers, c)
		close(c)
	}
}

// Tell sends m to every watcher, and never waits for one.
func (f *Feed) Tell(m Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.watchers {
		if m.Progress != nil && len(c) > backlog/2 {
			continue // the next one says more
		}
		select {
		case c <- m:
		default:
			f.drop(c)
		}
	}
}
