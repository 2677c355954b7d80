package config

import (
	"testing"
	"time"
)

func TestUnitsReadBack(t *testing.T) {
	for _, text := range []string{"0s", "1ms", "90s", "1h30m", "2d", "1d2h3m4s5ms", "1.5h"} {
		d, err := ParseDuration(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if again, err := ParseDuration(durationText(d)); err != nil || again != d {
			t.Errorf("%s: %v, shown as %s, reads %v, %v", text, d, durationText(d), again, err)
		}
	}
	for text, want := range map[string]Size{"0B": 0, "512B": 512, "64MiB": 64 << 20, "1.5GB": 1500000000, "64 MiB": 64 << 20, "2TiB": 2 << 40} {
		s, err := ParseSize(text)
		if err != nil || s != want {
			t.Errorf("%s = %d, %v, want %d", text, s, err, want)
		}
		if again, err := ParseSize(s.String()); err != nil || again != s {
			t.Errorf("%s shows as %s", text, s)
		}
	}
	if r, err := ParseRate("2MiB/s"); err != nil || r != 2<<20 || r.String() != "2MiB/s" {
		t.Errorf("rate %v, %v", r, err)
	}
}

func TestUnitsRefused(t *testing.T) {
	for _, text := range []string{"", "s", "5", "5 s", "-5s", "5s5", "1..5s", "5µ", "1e3s", "999999999999w"} {
		if d, err := ParseDuration(text); err == nil {
			t.Errorf("duration %q = %v", text, d)
		}
	}
	for _, text := range []string{"", "B", "5", "5 ", "-5B", "5mb", "5MB5", "1e9GB", "99999999999TiB"} {
		if s, err := ParseSize(text); err == nil {
			t.Errorf("size %q = %v", text, s)
		}
	}
	for _, text := range []string{"5", "5MB", "5MB/h", "5MB/s/s", "/s"} {
		if r, err := ParseRate(text); err == nil {
			t.Errorf("rate %q = %v", text, r)
		}
	}
}

func FuzzUnits(f *testing.F) {
	for _, s := range []string{"1h30m", "64MiB", "2MiB/s", "9223372036854775807B"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := ParseDuration(text); err == nil && d >= time.Millisecond {
			d = d.Truncate(time.Millisecond)
			if again, err := ParseDuration(durationText(d)); err != nil || again != d {
				t.Fatalf("%v shows as %s, which reads %v, %v", d, durationText(d), again, err)
			}
		}
		if s, err := ParseSize(text); err == nil {
			if again, err := ParseSize(s.String()); err != nil || again != s || s < 0 {
				t.Fatalf("%d shows as %s, which reads %d, %v", s, s, again, err)
			}
		}
	})
}
