package host

// ParseOSRelease is for the fuzzer, which needs no files.
var ParseOSRelease = parseOSRelease

// Bounded is how much is remembered of earlier boots.
var Bounded = bounded

// WithDog lets a test be the watchdog.
func WithDog(w *Watchdog, open func(path string) (Dog, error)) *Watchdog {
	w.open = open
	return w
}

// Dog is an open watchdog device.
type Dog = dog
