package admin

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"tributary.io/gateway/metric"
)

// collector shows the stages' metrics to Prometheus. Its Describe sends nothing,
// which makes it an unchecked collector: the set of metrics may change between
// scrapes, since groups and applications come and go.
type collector []func() []metric.Sample

func (c collector) Describe(chan<- *prometheus.Desc) {}

func (c collector) Collect(out chan<- prometheus.Metric) {
	for _, metrics := range c {
		for _, m := range metrics() {
			out <- convert(&m)
		}
	}
}

// convert turns a stage's metric into Prometheus's; an impossible one becomes
// an error of the scrape that leaves the others alone.
func convert(m *metric.Sample) prometheus.Metric {
	names, values := make([]string, len(m.Labels)), make([]string, len(m.Labels))
	for i, l := range m.Labels {
		names[i], values[i] = l.Name, l.Value
	}
	desc := prometheus.NewDesc(m.Name, m.Help, names, nil)
	var out prometheus.Metric
	var err error
	switch {
	case m.Kind == metric.CounterKind:
		out, err = prometheus.NewConstMetric(desc, prometheus.CounterValue, m.Value, values...)
	case m.Kind == metric.GaugeKind:
		out, err = prometheus.NewConstMetric(desc, prometheus.GaugeValue, m.Value, values...)
	case m.Kind == metric.HistogramKind && m.Hist != nil:
		count, sum, buckets := m.Hist.Snapshot()
		out, err = prometheus.NewConstHistogram(desc, count, sum, buckets, values...)
	default:
		err = fmt.Errorf("metric %s has kind %d and no value of that kind", m.Name, m.Kind)
	}
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	return out
}

var _ prometheus.Collector = collector(nil)
