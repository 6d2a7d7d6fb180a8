package mqtt

import (
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/metric"
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

// overstepped counts a limit that a client broke with one packet, which ends its connection.
func (s *Server) overstepped(code byte) {
	switch code {
	case packet.CodePacketTooLarge:
		s.limited(limitPacketBytes)
	case packet.CodeReceiveMaximumExceeded:
		s.limited(limitReceiveMaximum)
	}
}
