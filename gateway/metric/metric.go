// Package metric describes what stages show to the admin endpoint, so that none of them needs
// a metrics library. It imports nothing of the gateway.
package metric

import (
	"sync/atomic"
	"time"
)

// Kind is the Prometheus type of a metric.
type Kind uint8

// The kinds of Sample.
const (
	CounterKind Kind = iota
	GaugeKind
	HistogramKind
)

// Sample is one sample that a stage shows to the admin endpoint. Stages offer
// Metrics() []Sample, read at scrape time, so that they need no metrics library.
type Sample struct {
	Name   string // Prometheus name with unit suffix, e.g. tributary_mqtt_received_bytes_total
	Help   string
	Kind   Kind
	Labels []Label
	Value  float64    // counters and gauges
	Hist   *Histogram // histograms
}

// Label is one metric label.
type Label struct{ Name, Value string }

// Histogram counts durations in fixed buckets. The zero value is ready;
// Observe costs two atomic adds and a short search.
type Histogram struct {
	counts [len(bounds) + 1]atomic.Uint64
	sum    atomic.Int64
}

// bounds are the upper bucket bounds: 50 µs to 10 s, which spans a call of a
// plugin to a stalled disk.
var bounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 10 * time.Second,
}

// Observe adds one duration.
func (h *Histogram) Observe(d time.Duration) {
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

// Snapshot returns the count, the sum in seconds and the cumulative count per
// upper bound in seconds.
func (h *Histogram) Snapshot() (count uint64, sum float64, buckets map[float64]uint64) {
	buckets = make(map[float64]uint64, len(bounds))
	for i := range h.counts {
		count += h.counts[i].Load()
		if i < len(bounds) {
			buckets[bounds[i].Seconds()] = count
		}
	}
	return count, time.Duration(h.sum.Load()).Seconds(), buckets
}
