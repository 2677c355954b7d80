package release

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Host is what a machine says of itself when a release asks whether it may run there.
type Host struct {
	Product      string `json:"product"`
	Compatible   string `json:"compatible"`
	Architecture string `json:"architecture"`
	Layout       int    `json:"layout"`
	Agent        string `json:"agent"` // version of the agent, "MAJOR.MINOR.PATCH", perhaps with a "-suffix"
}

// Incompatible says why r may not be installed on h, as one sentence for a person, or returns "" when it may. Serial
// order, blocked and withdrawn releases are not its business.
func (r *Release) Incompatible(h Host) string {
	switch {
	case r.Product != h.Product:
		return fmt.Sprintf("it is for product %q, this host is %q", r.Product, h.Product)
	case r.Architecture != h.Architecture:
		return fmt.Sprintf("it is for architecture %q, this host is %q", r.Architecture, h.Architecture)
	case !slices.Contains(r.Compatible, h.Compatible):
		return fmt.Sprintf("it is for %s, this host is %q", quoted(r.Compatible), h.Compatible)
	case r.Layout != h.Layout:
		return fmt.Sprintf("it needs disk layout %d, this host has layout %d", r.Layout, h.Layout)
	case Older(h.Agent, r.MinAgent):
		return fmt.Sprintf("it needs agent %s or newer, this one is %s: install a release in between first", r.MinAgent, h.Agent)
	}
	return ""
}

// Older reports whether version a is older than b. Versions are compared number by number; what follows the first "-"
// or "+" is ignored. An empty b is older than nothing; parts that are no numbers count as 0.
func Older(a, b string) bool {
	if b == "" {
		return false
	}
	x, y := numbers(a), numbers(b)
	for i := range max(len(x), len(y)) {
		if xi, yi := at(x, i), at(y, i); xi != yi {
			return xi < yi
		}
	}
	return false
}

func at(n []uint64, i int) uint64 {
	if i < len(n) {
		return n[i]
	}
	return 0
}

func numbers(version string) (n []uint64) {
	version, _, _ = strings.Cut(strings.TrimPrefix(version, "v"), "-")
	version, _, _ = strings.Cut(version, "+")
	for part := range strings.SplitSeq(version, ".") {
		v, _ := strconv.ParseUint(part, 10, 64)
		n = append(n, v)
	}
	return n
}

func quoted(names []string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = strconv.Quote(n)
	}
	return strings.Join(q, " or ")
}
