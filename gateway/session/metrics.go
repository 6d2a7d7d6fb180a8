package session

import (
	"sync/atomic"

	"tributary.io/gateway/metric"
)

// sessionsCounters holds the counters of sessions.
type sessionsCounters struct {
	takeovers, wills, revoked, kicked                 atomic.Uint64
	refusedByClient, retainedRefused, damaged, waited atomic.Uint64
	dropped                                           [len(dropReasons)]atomic.Uint64
	limited                                           [sessionLimits]atomic.Uint64
}

// Reasons why a message did not reach a client.
const (
	dropOffline = iota // QoS 0, or no persistent session
	dropSlow           // QoS 0 while the write buffer is full
	dropQueue          // the session's queue is full
	dropExpired        // message expiry
	dropRevoked        // the client lost the right to read it
)

var dropReasons = [...]string{"offline", "slow", "queue_full", "expired", "revoked"}

// sessionLimit is a limit that a session or an application can reach, for the metric that counts how
// often they do.
type sessionLimit int

// sessionLimitNames has the names of these limits.
const (
	limitSessions sessionLimit = iota
	limitSessionsOfApplication
	limitSubscriptions
	limitSubscriptionsOfApplication
	limitRetained
	limitQueue
	limitQueueTotal
	limitSlowConsumer
	sessionLimits

	limitNone sessionLimit = -1
)

var sessionLimitNames = [sessionLimits]string{
	limitSessions:                   "max_sessions",
	limitSessionsOfApplication:      "max_sessions_per_application",
	limitSubscriptions:              "max_subscriptions",
	limitSubscriptionsOfApplication: "max_subscriptions_per_application",
	limitRetained:                   "max_retained",
	limitQueue:                      "queue",
	limitQueueTotal:                 "queue_total_bytes",
	limitSlowConsumer:               "slow_consumer_timeout",
}

// reached counts that a limit was reached.
func (s *Sessions) reached(l sessionLimit) { s.count.limited[l].Add(1) }

// Metrics returns the present counters and gauges of sessions.
func (s *Sessions) Metrics() []metric.Sample {
	s.mu.Lock()
	sessions := len(s.sessions)
	s.mu.Unlock()
	n := &s.count
	subscriptions, kept, size, queued := s.sizes()
	var set metric.Set
	set.Gauge("tributary_mqtt_sessions", "Sessions, connected or kept.", float64(sessions))
	set.Gauge("tributary_mqtt_subscriptions", "Subscriptions to topics.", float64(subscriptions))
	set.Gauge("tributary_mqtt_retained_messages", "Retained messages.", float64(kept))
	set.Gauge("tributary_mqtt_retained_bytes", "Bytes of retained messages.", float64(size))
	set.Gauge("tributary_mqtt_queued_bytes", "Bytes of messages that wait for clients or for their acknowledgement, nearly.",
		float64(queued))
	set.Counter("tributary_mqtt_takeovers_total", "Sessions taken over by a new connection.", n.takeovers.Load())
	set.Counter("tributary_mqtt_revoked_grants_total", "Clients, connected or away, whose rights were revoked.", n.revoked.Load())
	set.Counter("tributary_mqtt_kicked_total", "Connections and sessions ended by an operator.", n.kicked.Load())
	set.Counter("tributary_mqtt_wills_total", "Will messages sent.", n.wills.Load())
	set.Counter("tributary_mqtt_refused_by_client_total", "Messages that clients refused with a reason code.", n.refusedByClient.Load())
	set.Counter("tributary_mqtt_retained_refused_total", "Messages that the limits kept from being retained.", n.retainedRefused.Load())
	set.Counter("tributary_mqtt_publisher_waits_total",
		"Messages whose publisher was kept waiting until a subscriber took what it had.", n.waited.Load())
	set.Counter("tributary_mqtt_damaged_records_total",
		"Stored sessions, queued and retained messages that could not be read.", n.damaged.Load())
	for i := range n.dropped {
		set.Counter("tributary_mqtt_dropped_messages_total", "Messages that did not reach a client.", n.dropped[i].Load(),
			metric.Label{Name: "reason", Value: dropReasons[i]})
	}
	for i := range n.limited {
		set.Counter("tributary_mqtt_limited_total", "Times that somebody came up against a limit.", n.limited[i].Load(),
			metric.Label{Name: "reason", Value: sessionLimitNames[i]})
	}
	return set
}

// sizes returns the totals of all spaces.
func (s *Sessions) sizes() (subscriptions, retained, bytes, queued int) {
	s.spacesMu.Lock()
	defer s.spacesMu.Unlock()
	for _, sp := range s.spaces {
		sp.mu.RLock()
		subscriptions += sp.tree.Len()
		retained += sp.retained.tree.Len()
		bytes += sp.retained.bytes
		sp.mu.RUnlock()
		queued += int(sp.queued.Load())
	}
	return subscriptions, retained, bytes, queued
}
