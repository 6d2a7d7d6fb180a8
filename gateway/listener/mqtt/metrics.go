package mqtt

import (
	"strconv"
	"sync/atomic"

	"tributary.io/gateway/stage"
)

// counters are what the server counts.
type counters struct {
	connects, refusedConnects, rejected, takeovers, wills atomic.Uint64
	expired, revoked, kicked, reauthenticated             atomic.Uint64
	receivedBytes, sentBytes                              atomic.Uint64
	receivedMessages, sentMessages                        [3]atomic.Uint64 // by QoS
	refusedPublishes, refusedByClient, retainedRefused    atomic.Uint64
	dropped                                               [len(dropReasons)]atomic.Uint64
	damaged                                               atomic.Uint64
	limited                                               [limitCount]atomic.Uint64
}

// The reasons why a message did not reach a client.
const (
	dropOffline    = iota // QoS 0, or no persistent session
	dropSlow              // QoS 0 while the write buffer is full
	dropQueue             // the session's queue is full
	dropExpired           // message expiry
	dropTooLarge          // above the client's maximum packet size
	dropUnreadable        // a record that is no event
	dropRevoked           // the right to read it went
)

var dropReasons = [...]string{"offline", "slow", "queue_full", "expired", "too_large", "unreadable", "revoked"}

// Metrics returns the server's counters and gauges as of now.
func (s *Server) Metrics() []stage.Metric {
	s.mu.Lock()
	conns := len(s.conns)
	s.mu.Unlock()
	s.Sessions.mu.Lock()
	sessions := len(s.sessions)
	s.Sessions.mu.Unlock()
	n := &s.count
	var list []stage.Metric
	add := func(kind stage.MetricKind, name, help string, value float64, labels ...stage.Label) {
		list = append(list, stage.Metric{Name: "tributary_mqtt_" + name, Help: help, Kind: kind, Value: value, Labels: labels})
	}
	count := func(name, help string, v *atomic.Uint64, labels ...stage.Label) {
		add(stage.CounterMetric, name, help, float64(v.Load()), labels...)
	}
	add(stage.GaugeMetric, "connections", "Open connections.", float64(conns))
	add(stage.GaugeMetric, "sessions", "Sessions, connected or kept.", float64(sessions))
	subscriptions, kept, size, queued := s.sizes()
	add(stage.GaugeMetric, "subscriptions", "Subscriptions to topics.", float64(subscriptions))
	add(stage.GaugeMetric, "retained_messages", "Retained messages.", float64(kept))
	add(stage.GaugeMetric, "retained_bytes", "Bytes of retained messages.", float64(size))
	add(stage.GaugeMetric, "queued_bytes", "Bytes of messages that wait for clients or for their acknowledgement, nearly.", float64(queued))
	count("connects_total", "Connections that were accepted with a CONNACK.", &n.connects)
	count("refused_connects_total", "Connections that failed before that.", &n.refusedConnects)
	count("rejected_connections_total", "Connections that the limits on connections did not let in.", &n.rejected)
	count("takeovers_total", "Sessions taken over by a new connection.", &n.takeovers)
	count("expired_grants_total", "Connections that ended because their credentials expired.", &n.expired)
	count("revoked_grants_total", "Clients, connected or away, whose rights were revoked.", &n.revoked)
	count("kicked_total", "Connections and sessions ended by an operator.", &n.kicked)
	count("reauthentications_total", "Connections that authenticated again.", &n.reauthenticated)
	count("wills_total", "Will messages sent.", &n.wills)
	count("received_bytes_total", "Bytes from clients.", &n.receivedBytes)
	count("sent_bytes_total", "Bytes to clients.", &n.sentBytes)
	for qos := range n.receivedMessages {
		label := stage.Label{Name: "qos", Value: strconv.Itoa(qos)}
		count("received_messages_total", "PUBLISH packets from clients.", &n.receivedMessages[qos], label)
		count("sent_messages_total", "PUBLISH packets to clients, repetitions included.", &n.sentMessages[qos], label)
	}
	count("refused_publishes_total", "Messages from clients that were refused; MQTT 3.1.1 clients are not told.", &n.refusedPublishes)
	count("refused_by_client_total", "Messages that clients refused with a reason code.", &n.refusedByClient)
	count("retained_refused_total", "Messages that the limits kept from being retained.", &n.retainedRefused)
	count("damaged_records_total", "Stored sessions, queued and retained messages that could not be read.", &n.damaged)
	for i := range n.dropped {
		count("dropped_messages_total", "Messages that did not reach a client.", &n.dropped[i], stage.Label{Name: "reason", Value: dropReasons[i]})
	}
	return append(list, s.limitMetrics()...)
}

// sizes adds up what the spaces hold.
func (s *Sessions) sizes() (subscriptions, retained, bytes, queued int) {
	s.spacesMu.Lock()
	defer s.spacesMu.Unlock()
	for _, sp := range s.spaces {
		sp.mu.RLock()
		subscriptions += sp.trie.count
		retained += sp.retained.count
		bytes += sp.retained.bytes
		sp.mu.RUnlock()
		queued += int(sp.queued.Load())
	}
	return subscriptions, retained, bytes, queued
}
