package mqtt

import (
	"fmt"
	"maps"
	"strconv"
	"sync/atomic"

	"tributary.io/gateway/metric"
)

// counters are what the server counts.
type counters struct {
	connects, refusedConnects, rejected, expired, reauthenticated atomic.Uint64
	receivedBytes, sentBytes                                      atomic.Uint64
	receivedMessages, sentMessages                                [3]atomic.Uint64 // by QoS
	refusedPublishes                                              atomic.Uint64
	unsent                                                        [len(unsentReasons)]atomic.Uint64
	limited                                                       [limitCount]atomic.Uint64
}

// The reasons why a message did not reach a client that is connected.
const (
	dropTooLarge   = iota // above the client's maximum packet size
	dropUnreadable        // a record that is no event
)

var unsentReasons = [...]string{"too_large", "unreadable"}

// Metrics returns the server's counters and gauges as of now.
func (s *Server) Metrics() []metric.Sample {
	s.mu.Lock()
	conns, refusals := len(s.conns), maps.Clone(s.refusals)
	s.mu.Unlock()
	n := &s.count
	var list []metric.Sample
	add := func(kind metric.Kind, name, help string, value float64, labels ...metric.Label) {
		list = append(list, metric.Sample{Name: "tributary_mqtt_" + name, Help: help, Kind: kind, Value: value, Labels: labels})
	}
	count := func(name, help string, v *atomic.Uint64, labels ...metric.Label) {
		add(metric.CounterKind, name, help, float64(v.Load()), labels...)
	}
	add(metric.GaugeKind, "connections", "Open connections.", float64(conns))
	count("connects_total", "Connections that were accepted with a CONNACK.", &n.connects)
	for r, n := range refusals {
		add(metric.CounterKind, "refused_logins_total", "Logins that were refused, by listener and reason code.", float64(n),
			metric.Label{Name: "listener", Value: r.listener}, metric.Label{Name: "code", Value: fmt.Sprintf("%#x", byte(r.code))})
	}
	count("refused_connects_total", "Connections that failed before that.", &n.refusedConnects)
	count("rejected_connections_total", "Connections that the limits on connections did not let in.", &n.rejected)
	count("expired_grants_total", "Connections that ended because their credentials expired.", &n.expired)
	count("reauthentications_total", "Connections that authenticated again.", &n.reauthenticated)
	count("received_bytes_total", "Bytes from clients.", &n.receivedBytes)
	count("sent_bytes_total", "Bytes to clients.", &n.sentBytes)
	for qos := range n.receivedMessages {
		label := metric.Label{Name: "qos", Value: strconv.Itoa(qos)}
		count("received_messages_total", "PUBLISH packets from clients.", &n.receivedMessages[qos], label)
		count("sent_messages_total", "PUBLISH packets to clients, repetitions included.", &n.sentMessages[qos], label)
	}
	count("refused_publishes_total", "Messages from clients that were refused; MQTT 3.1.1 clients are not told.", &n.refusedPublishes)
	for i := range n.unsent {
		count("dropped_messages_total", "Messages that did not reach a client.", &n.unsent[i],
			metric.Label{Name: "reason", Value: unsentReasons[i]})
	}
	return append(list, s.limitMetrics()...)
}
