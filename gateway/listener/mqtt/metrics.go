package mqtt

import (
	"fmt"
	"maps"
	"strconv"
	"sync/atomic"

	"tributary.io/gateway/metric"
)

// counters holds the counters of the server.
type counters struct {
	connects, refusedConnects, rejected, expired, reauthenticated atomic.Uint64
	receivedBytes, sentBytes                                      atomic.Uint64
	receivedMessages, sentMessages                                [3]atomic.Uint64 // by QoS
	refusedPublishes                                              atomic.Uint64
	unsent                                                        [len(unsentReasons)]atomic.Uint64
	limited                                                       [limitCount]atomic.Uint64
}

// Reasons why a message did not reach a connected client.
const (
	dropTooLarge   = iota // above the client's maximum packet size
	dropUnreadable        // a record that is no event
)

var unsentReasons = [...]string{"too_large", "unreadable"}

// Metrics returns the present counters and gauges of the server.
func (s *Server) Metrics() []metric.Sample {
	s.mu.Lock()
	conns, refusals := len(s.conns), maps.Clone(s.refusals)
	s.mu.Unlock()
	n := &s.count
	var set metric.Set
	set.Gauge("tributary_mqtt_connections", "Open connections.", float64(conns))
	set.Counter("tributary_mqtt_connects_total", "Connections that were accepted with a CONNACK.", n.connects.Load())
	for r, n := range refusals {
		set.Counter("tributary_mqtt_refused_logins_total", "Logins that were refused, by listener and reason code.", n,
			metric.Label{Name: "listener", Value: r.listener}, metric.Label{Name: "code", Value: fmt.Sprintf("%#x", byte(r.code))})
	}
	set.Counter("tributary_mqtt_refused_connects_total", "Connections that failed before that.", n.refusedConnects.Load())
	set.Counter("tributary_mqtt_rejected_connections_total", "Connections that the limits on connections did not let in.", n.rejected.Load())
	set.Counter("tributary_mqtt_expired_grants_total", "Connections that ended because their credentials expired.", n.expired.Load())
	set.Counter("tributary_mqtt_reauthentications_total", "Connections that authenticated again.", n.reauthenticated.Load())
	set.Counter("tributary_mqtt_received_bytes_total", "Bytes from clients.", n.receivedBytes.Load())
	set.Counter("tributary_mqtt_sent_bytes_total", "Bytes to clients.", n.sentBytes.Load())
	for qos := range n.receivedMessages {
		label := metric.Label{Name: "qos", Value: strconv.Itoa(qos)}
		set.Counter("tributary_mqtt_received_messages_total", "PUBLISH packets from clients.", n.receivedMessages[qos].Load(), label)
		set.Counter("tributary_mqtt_sent_messages_total", "PUBLISH packets to clients, repetitions included.",
			n.sentMessages[qos].Load(), label)
	}
	set.Counter("tributary_mqtt_refused_publishes_total",
		"Messages from clients that were refused; MQTT 3.1.1 clients are not told.", n.refusedPublishes.Load())
	for i := range n.unsent {
		set.Counter("tributary_mqtt_dropped_messages_total", "Messages that did not reach a client.", n.unsent[i].Load(),
			metric.Label{Name: "reason", Value: unsentReasons[i]})
	}
	s.limitMetrics(&set)
	return set
}
