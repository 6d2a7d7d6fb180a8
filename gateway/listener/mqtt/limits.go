package mqtt

import (
	"sync/atomic"
	"time"

	"tributary.io/gateway/stage"
)

// limit names a limit that somebody came up against.
type limit int

// The limits, by the name of their key in limitNames.
const (
	limitConnectionsTotal limit = iota
	limitConnections
	limitConnectionsPerAddress
	limitConnecting
	limitConnectingPerAddress
	limitConnectRate
	limitConnectTimeout
	limitBytesBeforeConnect
	limitLogins
	limitSessions
	limitSessionsOfApplication
	limitPacketBytes
	limitClientID
	limitTopic
	limitUserProperties
	limitWillBytes
	limitSubscriptions
	limitSubscriptionsOfApplication
	limitFilters
	limitReceiveMaximum
	limitUnreleased
	limitRateWait
	limitDeviceRate
	limitApplicationRate
	limitRetained
	limitQueue
	limitQueueTotal
	limitWriteTimeout
	limitSlowConsumer
	limitKeepAlive
	limitCount
)

var limitNames = [limitCount]string{
	limitConnectionsTotal:           "max_connections_total",
	limitConnections:                "max_connections",
	limitConnectionsPerAddress:      "max_connections_per_address",
	limitConnecting:                 "max_connecting",
	limitConnectingPerAddress:       "max_connecting_per_address",
	limitConnectRate:                "connect_rate_per_address",
	limitConnectTimeout:             "connect_timeout",
	limitBytesBeforeConnect:         "max_bytes_before_connect",
	limitLogins:                     "login_failures",
	limitSessions:                   "max_sessions",
	limitSessionsOfApplication:      "max_sessions_per_application",
	limitPacketBytes:                "max_packet_bytes",
	limitClientID:                   "max_client_id_bytes",
	limitTopic:                      "max_topic",
	limitUserProperties:             "max_user_properties",
	limitWillBytes:                  "max_will_bytes",
	limitSubscriptions:              "max_subscriptions",
	limitSubscriptionsOfApplication: "max_subscriptions_per_application",
	limitFilters:                    "max_filters",
	limitReceiveMaximum:             "receive_maximum",
	limitUnreleased:                 "max_unreleased",
	limitRateWait:                   "rate_wait",
	limitDeviceRate:                 "device_rate",
	limitApplicationRate:            "application_rate",
	limitRetained:                   "max_retained",
	limitQueue:                      "queue",
	limitQueueTotal:                 "queue_total_bytes",
	limitWriteTimeout:               "write_timeout",
	limitSlowConsumer:               "slow_consumer_timeout",
	limitKeepAlive:                  "keep_alive",
}

// limited counts that somebody came up against a limit.
func (s *Server) limited(l limit) { s.count.limited[l].Add(1) }

// limitMetrics are the counters of limited.
func (s *Server) limitMetrics() (list []stage.Metric) {
	for i, name := range limitNames {
		list = append(list, stage.Metric{Name: "tributary_mqtt_limited_total", Kind: stage.CounterMetric,
			Help: "Times that somebody came up against a limit.", Value: float64(s.count.limited[i].Load()),
			Labels: []stage.Label{{Name: "reason", Value: name}}})
	}
	return list
}

// keepAlive is the keep-alive in seconds that a client gets who asks for one.
func (l *Limits) keepAlive(asked uint16) uint16 {
	least, most := uint16(l.KeepAliveMin/time.Second), uint16(l.KeepAliveMax/time.Second)
	switch {
	case most > 0 && (asked == 0 || asked > most):
		return most
	case asked > 0 && asked < least:
		return least
	}
	return asked
}

// budget bounds the bytes that are lent to clients who are not known yet.
type budget struct {
	max  int64
	used atomic.Int64
}

// take lends n bytes, or none.
func (b *budget) take(in *input, n int) bool {
	if b.used.Add(int64(n)) > b.max {
		b.used.Add(-int64(n))
		return false
	}
	in.borrowed += n
	return true
}

// give takes back what a connection borrowed.
func (b *budget) give(in *input) {
	b.used.Add(-int64(in.borrowed))
	in.borrowed = 0
}

// roomForStranger makes room for more of a CONNECT as its bytes come, fourfold
// each time, within the budget for all of them.
func (c *conn) roomForStranger() error {
	in := &c.input
	if in.buf == nil {
		in.buf = in.small[:]
	}
	if in.end < len(in.buf) {
		return nil
	}
	size := 4 * len(in.buf)
	if !c.server.strangers.take(in, size) {
		c.server.count.rejected.Add(1)
		c.server.limited(limitBytesBeforeConnect)
		return errBytes
	}
	b := make([]byte, size)
	in.start, in.end = 0, copy(b, in.buf[in.start:in.end])
	in.big, in.buf = &buffer{b}, b
	return nil
}
