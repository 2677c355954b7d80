//go:build race

package repo

// The race detector costs ten times as much, and sees nothing in one goroutine: it tries a sample of the points where a
// publisher may be killed.
const stride = 8
