//go:build !race

package repo

// stride is from each point where a publisher is killed to the next: every one.
const stride = 1
