package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
)

// result is every run of one contender in one state of the target.
type result struct {
	Name    string   `json:"name"`
	What    string   `json:"what"`
	Target  string   `json:"target"` // what the slot held before
	Samples []sample `json:"samples"`
}

// summary is what a result says.
type summary struct {
	Median  float64 `json:"median_seconds"`
	Min     float64 `json:"min_seconds"`
	Max     float64 `json:"max_seconds"`
	CPU     float64 `json:"median_cpu_seconds"`
	Peak    int64   `json:"peak_bytes"` // of all runs
	PerDD   float64 `json:"ratio_to_dd,omitempty"`
	PerPipe float64 `json:"ratio_to_pipe,omitempty"`
}

func (r result) each(of func(sample) float64) []float64 {
	vs := make([]float64, len(r.Samples))
	for i, s := range r.Samples {
		vs[i] = of(s)
	}
	return vs
}

func seconds(s sample) float64 { return s.Seconds }

func (r result) summary() (s summary) {
	times := r.each(seconds)
	s.Median, s.Min, s.Max = median(times), slices.Min(times), slices.Max(times)
	s.CPU = median(r.each(func(s sample) float64 { return s.CPU }))
	for _, run := range r.Samples {
		s.Peak = max(s.Peak, run.Peak)
	}
	return s
}

// ratio compares r with base round by round, since what else the machine did then slowed both, and returns the median.
func (r result) ratio(base result) float64 {
	n := min(len(r.Samples), len(base.Samples))
	ratios := make([]float64, n)
	for i := range ratios {
		ratios[i] = r.Samples[i].Seconds / base.Samples[i].Seconds
	}
	return median(ratios)
}

// median of nothing is not a number.
func median(vs []float64) float64 {
	if len(vs) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(vs))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}

// report is everything that was measured.
type report struct {
	Machine string             `json:"machine"`
	Image   string             `json:"image"`
	Size    int64              `json:"image_bytes"`
	Pack    int64              `json:"pack_bytes"`
	Load    string             `json:"load"` // average over a minute, when it began and when it ended
	Runs    int                `json:"runs"`
	Results []result           `json:"results"`
	Summary map[string]summary `json:"summary"`
	BigSize int64              `json:"big_image_bytes,omitempty"`
	Missed  []string           `json:"goals_missed"`
}

// The goals.
const (
	maxRatio = 1.2
	maxPeak  = 48 * mib
)

// conclude computes the summaries, and which goals were missed. A goal that nothing was measured for is missed too.
func (r *report) conclude() {
	r.Summary = map[string]summary{}
	dd, pipe := r.find("dd"), r.find("pipe")
	for _, res := range r.Results {
		if len(res.Samples) == 0 {
			continue
		}
		s := res.summary()
		if dd != nil && res.Target == dd.Target {
			s.PerDD = res.ratio(*dd)
		}
		if pipe != nil && res.Target == pipe.Target {
			s.PerPipe = res.ratio(*pipe)
		}
		r.Summary[res.Name] = s
		if res.ours() && s.Peak > maxPeak {
			r.miss("%s takes %.1f MiB of memory, more than %d", res.Name, inMiB(s.Peak), maxPeak/mib)
		}
		if s.PerPipe > maxRatio && res.Name == "evenkeel" {
			r.miss("%s takes %.2f times as long as the pipe, more than %.1f", res.Name, s.PerPipe, maxRatio)
		}
	}
	if r.find("evenkeel") == nil || pipe == nil {
		r.miss("the pipe and evenkeel were not both measured")
	}
}

// ours reports whether r measures Evenkeel.
func (r result) ours() bool { return len(r.Samples) > 0 && r.Samples[0].Filled != nil }

func (r *report) miss(format string, args ...any) {
	r.Missed = append(r.Missed, fmt.Sprintf(format, args...))
}

func (r *report) find(name string) *result {
	for i := range r.Results {
		if r.Results[i].Name == name && len(r.Results[i].Samples) > 0 {
			return &r.Results[i]
		}
	}
	return nil
}

func inMiB(n int64) float64 { return float64(n) / mib }

// print shows the report to a person.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "%s; load %s\n", r.Machine, r.Load)
	fmt.Fprintf(w, "%s: %.0f MiB, %.1f MiB as a pack; %d runs of each, taking turns\n\n", r.Image, inMiB(r.Size), inMiB(r.Pack), r.Runs)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "\tseconds\tmin..max\tx dd\tx pipe\tCPU s\tMiB peak\t\n")
	for _, res := range r.Results {
		s, ok := r.Summary[res.Name]
		if !ok {
			continue
		}
		fmt.Fprintf(t, "%s\t%.2f\t%.2f..%.2f\t%s\t%s\t%.2f\t%.1f\t%s\n", res.Name, s.Median, s.Min, s.Max,
			ratioText(s.PerDD), ratioText(s.PerPipe), s.CPU, inMiB(s.Peak), res.What)
	}
	t.Flush()
	for _, p := range r.Missed {
		fmt.Fprintf(w, "goal missed: %s\n", p)
	}
	if len(r.Missed) == 0 {
		fmt.Fprintf(w, "goals met: at most %.1f times the pipe, at most %d MiB\n", maxRatio, maxPeak/mib)
	}
}

func ratioText(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", v)
}
