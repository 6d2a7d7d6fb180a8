package mqtt

import (
	"strings"
	"sync/atomic"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/metric"
	"tributary.io/gateway/session"
	"tributary.io/sdk-plugin/event"
)

// limit is a limit that clients can reach, for the metric that counts how often they do.
type limit int

// limitNames has the names of these limits.
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
	limitPacketBytes
	limitClientID
	limitTopic
	limitUserProperties
	limitWillBytes
	limitFilters
	limitReceiveMaximum
	limitUnreleased
	limitRateWait
	limitDeviceRate
	limitApplicationRate
	limitWriteTimeout
	limitKeepAlive
	limitCount
)

var limitNames = [limitCount]string{
	limitConnectionsTotal:      "max_connections_total",
	limitConnections:           "max_connections",
	limitConnectionsPerAddress: "max_connections_per_address",
	limitConnecting:            "max_connecting",
	limitConnectingPerAddress:  "max_connecting_per_address",
	limitConnectRate:           "connect_rate_per_address",
	limitConnectTimeout:        "connect_timeout",
	limitBytesBeforeConnect:    "max_bytes_before_connect",
	limitLogins:                "login_failures",
	limitPacketBytes:           "max_packet_bytes",
	limitClientID:              "max_client_id_bytes",
	limitTopic:                 "max_topic",
	limitUserProperties:        "max_user_properties",
	limitWillBytes:             "max_will_bytes",
	limitFilters:               "max_filters",
	limitReceiveMaximum:        "receive_maximum",
	limitUnreleased:            "max_unreleased",
	limitRateWait:              "rate_wait",
	limitDeviceRate:            "device_rate",
	limitApplicationRate:       "application_rate",
	limitWriteTimeout:          "write_timeout",
	limitKeepAlive:             "keep_alive",
}

// limited counts that a client reached a limit.
func (s *Server) limited(l limit) { s.count.limited[l].Add(1) }

// limitMetrics returns what limited counted.
func (s *Server) limitMetrics(set *metric.Set) {
	for i, name := range limitNames {
		set.Counter("tributary_mqtt_limited_total", "Times that somebody came up against a limit.", s.count.limited[i].Load(),
			metric.Label{Name: "reason", Value: name})
	}
}

// keepAlive returns the keep-alive, in seconds, for a client that asks for one.
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

// budget bounds the bytes that are lent to clients before they are authenticated.
type budget struct {
	max  int64
	used atomic.Int64
}

// lend raises to n what a connection has borrowed. It returns false, and lends nothing, if the
// budget does not allow that.
func (b *budget) lend(in *input, n int) bool {
	more := int64(n - in.borrowed)
	if b.used.Add(more) > b.max {
		b.used.Add(-more)
		return false
	}
	in.borrowed = n
	return true
}

// giveBack takes back what a connection borrowed.
func (b *budget) giveBack(in *input) {
	b.used.Add(-int64(in.borrowed))
	in.borrowed = 0
}

// roomForStranger makes room for more bytes of a CONNECT as they come, four times as much each time,
// within the budget of all connections.
func (c *conn) roomForStranger() error {
	in := &c.input
	if in.buf == nil {
		in.buf = in.small[:]
	}
	if in.end < len(in.buf) {
		return nil
	}
	size := 4 * len(in.buf)
	if !c.server.strangers.lend(in, size) {
		c.server.count.rejected.Add(1)
		c.server.limited(limitBytesBeforeConnect)
		return errBytes
	}
	b := make([]byte, size)
	in.start, in.end = 0, copy(b, in.buf[in.start:in.end])
	in.big, in.buf = &buffer{b}, b
	return nil
}

// overstepped counts a limit that a client broke with one packet, which ends its connection.
func (s *Server) overstepped(code byte) {
	switch code {
	case packet.CodePacketTooLarge:
		s.limited(limitPacketBytes)
	case packet.CodeReceiveMaximumExceeded:
		s.limited(limitReceiveMaximum)
	}
}

// improper checks the limits on a message that the decoder does not know.
func (s *Server) improper(l *Limits, p *packet.Publish) (v session.Verdict) {
	switch {
	case len(p.Topic) > l.MaxTopicBytes:
		s.limited(limitTopic)
		return session.Verdict{Code: event.TopicNameInvalid, Reason: "the topic is too long"}
	case strings.Count(p.Topic, "/") >= l.MaxTopicLevels:
		s.limited(limitTopic)
		return session.Verdict{Code: event.TopicNameInvalid, Reason: "the topic has too many levels"}
	case p.Props != nil && len(p.Props.User) > l.MaxUserProperties:
		s.limited(limitUserProperties)
		return session.Verdict{Code: event.QuotaExceeded, Reason: "too many user properties"}
	}
	return v
}
