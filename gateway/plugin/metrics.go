package plugin

import (
	"errors"
	"sync/atomic"
	"time"

	"tributary.io/gateway/metric"
)

// faultKinds lists the kinds for the counters.
func faultKinds() [9]string {
	return [...]string{FaultTrap, FaultExit, FaultDeadline, FaultFuel, FaultMemory, FaultStack, FaultOutput, FaultGarbage, FaultFailed}
}

// metrics counts what one plugin did.
type metrics struct {
	calls      metric.Histogram
	faults     [9]atomic.Uint64 // by position in faultKinds
	restores   atomic.Uint64
	violations atomic.Uint64
	fuel       atomic.Uint64
	trials     atomic.Uint64 // that ran out
	logDropped atomic.Uint64
}

func (m *metrics) observe(d time.Duration, fuel uint64, err error) {
	m.calls.Observe(d)
	m.fuel.Add(fuel)
	if err != nil {
		m.fault(err)
	}
}

func (m *metrics) fault(err error) {
	var f *Fault
	if !errors.As(err, &f) {
		return
	}
	if f.Kind == FaultTrial { // nothing is wrong with the plugin
		m.trials.Add(1)
		return
	}
	for i, kind := range faultKinds() {
		if kind == f.Kind {
			m.faults[i].Add(1)
		}
	}
}

// Metrics returns the samples of every plugin.
func (h *Host) Metrics() []metric.Sample {
	h.mu.Lock()
	plugins := h.plugins[:len(h.plugins):len(h.plugins)]
	h.mu.Unlock()
	var list []metric.Sample
	for _, p := range plugins {
		list = append(list, p.samples()...)
	}
	return list
}

func (p *Plugin) samples() []metric.Sample {
	m := &p.metrics
	own := metric.Label{Name: "plugin", Value: p.name}
	var memory int64
	for i := range p.slots {
		memory += p.slots[i].memory.Load()
	}
	var set metric.Set
	set.Histogram("tributary_plugin_call_seconds", "Time that plugins took for an event.", &m.calls, own)
	set.Gauge("tributary_plugin_memory_bytes", "Linear memory of the plugin's instances.", float64(memory), own)
	set.Counter("tributary_plugin_restores_total", "Instances that were put back to their first state after a fault.",
		m.restores.Load(), own)
	set.Counter("tributary_plugin_trials_total",
		"Events that took more than a trial, and were begun anew where others do not wait for them.", m.trials.Load(), own)
	set.Counter("tributary_plugin_refusals_total", "Results that were refused because of an effect that is not granted.",
		m.violations.Load(), own)
	set.Counter("tributary_plugin_fuel_total", "Units of fuel that plugins used.", m.fuel.Load(), own)
	set.Counter("tributary_plugin_log_dropped_bytes_total", "Log text of plugins beyond wasm.log_bytes.", m.logDropped.Load(), own)
	for i, kind := range faultKinds() {
		set.Counter("tributary_plugin_faults_total", "Events on which a plugin broke, by kind.", m.faults[i].Load(), own,
			metric.Label{Name: "kind", Value: kind})
	}
	return set
}
