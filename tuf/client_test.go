package tuf_test

import (
	"slices"
	"testing"
)

func TestFirstRefresh(t *testing.T) {
	w := newWorld(t)
	c := w.mustRefresh()
	if got := serials(t, c); !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("offers = %v", got)
	}
	w.mustNotWarn()
	again := w.open()
	w.server.Close()
	if got := serials(t, again); !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("offers without a network = %v", got)
	}
	w.mustNotWarn()
}
