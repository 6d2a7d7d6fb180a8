package metric

// Set is the samples of a stage as of now, which its Metrics method adds one after the
// other. The zero value is empty.
type Set []Sample

// Counter adds a number that only grows.
func (s *Set) Counter(name, help string, n uint64, labels ...Label) {
	*s = append(*s, Sample{Name: name, Help: help, Kind: CounterKind, Labels: labels, Value: float64(n)})
}

// Gauge adds a number that goes up and down.
func (s *Set) Gauge(name, help string, v float64, labels ...Label) {
	*s = append(*s, Sample{Name: name, Help: help, Kind: GaugeKind, Labels: labels, Value: v})
}

// Histogram adds durations.
func (s *Set) Histogram(name, help string, h *Histogram, labels ...Label) {
	*s = append(*s, Sample{Name: name, Help: help, Kind: HistogramKind, Labels: labels, Hist: h})
}
