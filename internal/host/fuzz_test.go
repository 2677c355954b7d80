package host_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/evenkeel-os/evenkeel/internal/host"
	"github.com/evenkeel-os/evenkeel/updater"
)

// FuzzDump: pstore lies in flash memory, and holds whatever a dying kernel left there.
func FuzzDump(f *testing.F) {
	for _, s := range []string{panicText, shortPanic, "Oops#1 Part1\nx", "Panic#", "Panic#1 Part", "Panic#-1 Part99999999999999999999\n", "Panic#1 Part1\nKernel panic - not syncing: "} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, ok := host.PanicIn(data)
		switch {
		case !ok && r != updater.Reset{}:
			t.Errorf("%q is no panic, and %+v", data, r)
		case ok && (r.Cause != updater.CausePanic || !strings.HasPrefix(string(data), "Panic#")):
			t.Errorf("%q is taken for %+v", data, r)
		case r.Slot != updater.NoSlot && !strings.Contains(string(data), "evenkeel.slot="+string(r.Slot)):
			t.Errorf("%q names slot %q", data, r.Slot)
		case len(r.Detail) > 2<<10 || !utf8.ValidString(r.Detail) || strings.ContainsAny(r.Detail, "\x00\x1b\r"):
			t.Errorf("%q gives the detail %q", data, r.Detail)
		}
	})
}

func FuzzUptime(f *testing.F) {
	for _, s := range []string{"12.34 45.60\n", "", "-0 1", "1e18 0", "0x1p-2", "inf", "9223372036.9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if up, err := host.ParseUptime(s); err == nil && up < 0 || err != nil && up != 0 {
			t.Errorf("%q: %v, %v", s, up, err)
		}
	})
}
