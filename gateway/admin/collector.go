package admin

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"tributary.io/gateway/stage"
)

// collector shows the stages' metrics to Prometheus. Its Describe sends nothing,
// which makes it an unchecked collector: the set of metrics may change between
// scrapes, since groups and applications come and go.
type collector []func() []stage.Metric

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
func convert(m *stage.Metric) prometheus.Metric {
	names, values := make([]string, len(m.Labels)), make([]string, len(m.Labels))
	for i, l := range m.Labels {
		names[i], values[i] = l.Name, l.Value
	}
	desc := prometheus.NewDesc(m.Name, m.Help, names, nil)
	var metric prometheus.Metric
	var err error
	switch {
	case m.Kind == stage.CounterMetric:
		metric, err = prometheus.NewConstMetric(desc, prometheus.CounterValue, m.Value, values...)
	case m.Kind == stage.GaugeMetric:
		metric, err = prometheus.NewConstMetric(desc, prometheus.GaugeValue, m.Value, values...)
	case m.Kind == stage.HistogramMetric && m.Hist != nil:
		count, sum, buckets := m.Hist.Snapshot()
		metric, err = prometheus.NewConstHistogram(desc, count, sum, buckets, values...)
	default:
		err = fmt.Errorf("metric %s has kind %d and no value of that kind", m.Name, m.Kind)
	}
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	return metric
}

var _ prometheus.Collector = collector(nil)
