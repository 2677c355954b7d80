package host

import "github.com/evenkeel-os/evenkeel/updater"

// ParseOSRelease is for the fuzzer, which needs no files.
var ParseOSRelease = parseOSRelease

// Bounded is how much is remembered of earlier boots.
var Bounded = bounded

// PanicIn is what is learnt from one file of pstore.
func PanicIn(data []byte) (updater.Reset, bool) {
	p, err := parseDump(data)
	if err != nil {
		return updater.Reset{}, false
	}
	return panicked([]dumpPart{p})
}

// ParseUptime is for the fuzzer.
var ParseUptime = parseUptime

// WithDog lets a test be the watchdog.
func WithDog(w *Watchdog, open func(path string) (Dog, error)) *Watchdog {
	w.open = open
	return w
}

// Dog is an open watchdog device.
type Dog = dog
