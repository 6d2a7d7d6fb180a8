package mqtt

import (
	"errors"
	"fmt"
	"time"
)

// Config bounds what clients may do. Sizes are bytes. A zero limit means what
// its comment says, never "unlimited" by accident.
type Config struct {
	// ConnectTimeout bounds the time from accepting a connection to its CONNECT,
	// and once more the time that authentication may take.
	ConnectTimeout time.Duration `koanf:"connect_timeout"`
	// KeepAliveMax is the longest keep-alive a client may ask for; MQTT 5 clients
	// that ask for more, or for none, are given it. 0: no maximum.
	KeepAliveMax time.Duration `koanf:"keep_alive_max"`
	// WriteTimeout closes a connection whose socket takes no bytes for so long.
	WriteTimeout time.Duration `koanf:"write_timeout"`
	// Linger is how long the server waits, after its last packet, for the client
	// to close, so that the packet is not destroyed by a reset.
	Linger time.Duration `koanf:"linger"`
	// SessionExpiryMax bounds how long a session outlives its connection, and is
	// what MQTT 3.1.1 sessions without clean session get. 0: no maximum.
	SessionExpiryMax time.Duration `koanf:"session_expiry_max"`

	MaxConnections              int `koanf:"max_connections"`                 // open connections, authenticated or not
	MaxSessions                 int `koanf:"max_sessions"`                    // connected or kept
	MaxPacketBytes              int `koanf:"max_packet_bytes"`                // a packet from a client
	MaxPacketBytesBeforeConnect int `koanf:"max_packet_bytes_before_connect"` // its CONNECT
	MaxClientIDBytes            int `koanf:"max_client_id_bytes"`
	MaxTopicBytes               int `koanf:"max_topic_bytes"`     // topic name or filter
	MaxTopicLevels              int `koanf:"max_topic_levels"`    // levels between slashes
	MaxUserProperties           int `koanf:"max_user_properties"` // per packet
	MaxSubscriptions            int `koanf:"max_subscriptions"`   // per session
	ReceiveMaximum              int `koanf:"receive_maximum"`     // QoS 1 and 2 messages from a client that await their ack
	MaxInFlight                 int `koanf:"max_in_flight"`       // QoS 1 and 2 messages to a client that await its ack
	TopicAliasMax               int `koanf:"topic_alias_max"`     // per connection and direction; 0: none
	QueueMessages               int `koanf:"queue_messages"`      // waiting per session; above it new ones are dropped
	QueueBytes                  int `koanf:"queue_bytes"`         // same, payload and topic bytes
	WriteBufferBytes            int `koanf:"write_buffer_bytes"`  // unsent bytes per connection; above it QoS 0 is dropped, QoS 1 and 2 wait in the queue
	MaxRetained                 int `koanf:"max_retained"`        // retained messages per application
	MaxRetainedBytes            int `koanf:"max_retained_bytes"`  // same, payload and topic bytes
}

// Default returns the settings of an unchanged gateway.
func Default() Config {
	return Config{
		ConnectTimeout:   10 * time.Second,
		KeepAliveMax:     0,
		WriteTimeout:     20 * time.Second,
		Linger:           time.Second,
		SessionExpiryMax: 7 * 24 * time.Hour,

		MaxConnections:              100_000,
		MaxSessions:                 200_000,
		MaxPacketBytes:              1 << 20,
		MaxPacketBytesBeforeConnect: 64 << 10,
		MaxClientIDBytes:            256,
		MaxTopicBytes:               1024,
		MaxTopicLevels:              32,
		MaxUserProperties:           64,
		MaxSubscriptions:            1000,
		ReceiveMaximum:              1024,
		MaxInFlight:                 1024,
		TopicAliasMax:               32,
		QueueMessages:               10_000,
		QueueBytes:                  8 << 20,
		WriteBufferBytes:            256 << 10,
		MaxRetained:                 100_000,
		MaxRetainedBytes:            64 << 20,
	}
}

// Validate names every setting that cannot work.
func (c *Config) Validate() error {
	var errs []error
	within := func(key string, v, low, high int) {
		if v < low || v > high {
			errs = append(errs, fmt.Errorf("%s is %d; it must be from %d to %d", key, v, low, high))
		}
	}
	span := func(key string, d, low, high time.Duration) {
		if d < low || d > high {
			errs = append(errs, fmt.Errorf("%s is %v; it must be from %v to %v", key, d, low, high))
		}
	}
	const packet = 268_435_455 + 5 // the largest packet that MQTT can express
	const many = 1 << 30
	span("connect_timeout", c.ConnectTimeout, 100*time.Millisecond, time.Hour)
	span("keep_alive_max", c.KeepAliveMax, 0, 65535*time.Second)
	if c.KeepAliveMax%time.Second != 0 {
		errs = append(errs, fmt.Errorf("keep_alive_max is %v; MQTT counts it in whole seconds", c.KeepAliveMax))
	}
	span("write_timeout", c.WriteTimeout, 100*time.Millisecond, time.Hour)
	span("linger", c.Linger, 10*time.Millisecond, time.Minute)
	span("session_expiry_max", c.SessionExpiryMax, 0, 1<<32*time.Second)
	within("max_connections", c.MaxConnections, 1, many)
	within("max_sessions", c.MaxSessions, 1, many)
	within("max_packet_bytes", c.MaxPacketBytes, 256, packet)
	within("max_packet_bytes_before_connect", c.MaxPacketBytesBeforeConnect, 256, packet)
	within("max_client_id_bytes", c.MaxClientIDBytes, 23, 65535)
	within("max_topic_bytes", c.MaxTopicBytes, 1, 65535)
	within("max_topic_levels", c.MaxTopicLevels, 1, 65535)
	within("max_user_properties", c.MaxUserProperties, 0, many)
	within("max_subscriptions", c.MaxSubscriptions, 1, many)
	within("receive_maximum", c.ReceiveMaximum, 1, 65535)
	within("max_in_flight", c.MaxInFlight, 1, 65535)
	within("topic_alias_max", c.TopicAliasMax, 0, 65535)
	within("queue_messages", c.QueueMessages, 1, many)
	within("queue_bytes", c.QueueBytes, 1, many)
	within("write_buffer_bytes", c.WriteBufferBytes, 1024, many)
	within("max_retained", c.MaxRetained, 0, many)
	within("max_retained_bytes", c.MaxRetainedBytes, 0, many)
	return errors.Join(errs...)
}
