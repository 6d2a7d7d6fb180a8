package mqtt

import (
	"errors"
	"fmt"
	"time"

	"tributary.io/gateway/session"
	"tributary.io/gateway/topic"
)

// Config is what all listeners share, because sessions and retained messages do not belong to one
// listener. Sizes are in bytes.
type Config struct {
	Sessions session.Config `koanf:",squash"`

	MaxConnectionsTotal   int `koanf:"max_connections_total"`    // open connections of all listeners
	MaxBytesBeforeConnect int `koanf:"max_bytes_before_connect"` // buffers of all CONNECT packets that are being read
}

// Limits bounds what the clients of a listener may do. Sizes are in bytes. The comment of each limit
// says what zero means; it never means "unlimited" by accident.
type Limits struct {
	// ConnectTimeout bounds the time from accepting a connection to its CONNECT, and then again the
	// time that authentication takes.
	ConnectTimeout time.Duration `koanf:"connect_timeout"`
	// KeepAliveMin and KeepAliveMax bound the keep-alive: an MQTT 5 client that asks for less, more
	// or none gets the nearer bound. MQTT 3.1.1 cannot tell a client so, and its clients keep
	// theirs. 0: no bound.
	KeepAliveMin time.Duration `koanf:"keep_alive_min"`
	KeepAliveMax time.Duration `koanf:"keep_alive_max"`
	// WriteTimeout closes a connection whose client takes no bytes for this long.
	WriteTimeout time.Duration `koanf:"write_timeout"`
	// Linger is how long the server waits for the client to close after the last packet, because a
	// reset would destroy that packet.
	Linger time.Duration `koanf:"linger"`
	// SlowConsumerTimeout disconnects a client whose queue has been full for this long. 0: never;
	// messages are dropped while the queue is full.
	SlowConsumerTimeout time.Duration `koanf:"slow_consumer_timeout"`

	MaxConnections           int `koanf:"max_connections"`             // open connections, authenticated or not
	MaxConnectionsPerAddress int `koanf:"max_connections_per_address"` // of one peer address; 0: no bound
	MaxConnecting            int `koanf:"max_connecting"`              // connections that have no CONNACK yet
	MaxConnectingPerAddress  int `koanf:"max_connecting_per_address"`  // of one peer address; 0: no bound
	ConnectRatePerAddress    int `koanf:"connect_rate_per_address"`    // connections per second from one peer address; 0: no bound

	// LoginFailures is how many logins of one address may fail before its further logins are judged
	// one by one, ever more slowly. LoginDelayMax is the longest time between two of them, and the
	// time after which one failure is forgotten. 0: any number.
	LoginFailures int           `koanf:"login_failures"`
	LoginDelayMax time.Duration `koanf:"login_delay_max"`

	// MessageRate and ByteRate bound what each device or user publishes per second over all its
	// connections, unless its grant has rates of its own. 0: no bound.
	MessageRate int `koanf:"message_rate"`
	ByteRate    int `koanf:"byte_rate"`
	// RateWaitMax is how long a message may wait for its rate before it is refused.
	RateWaitMax time.Duration `koanf:"rate_wait_max"`

	MaxPacketBytes              int `koanf:"max_packet_bytes"`                // a packet from a client
	MaxPacketBytesBeforeConnect int `koanf:"max_packet_bytes_before_connect"` // its CONNECT
	MaxClientIDBytes            int `koanf:"max_client_id_bytes"`
	MaxTopicBytes               int `koanf:"max_topic_bytes"`     // topic name or filter
	MaxTopicLevels              int `koanf:"max_topic_levels"`    // levels between slashes
	MaxUserProperties           int `koanf:"max_user_properties"` // per packet
	MaxWillBytes                int `koanf:"max_will_bytes"`      // payload of a will
	MaxSubscriptions            int `koanf:"max_subscriptions"`   // per session
	MaxFilters                  int `koanf:"max_filters"`         // per SUBSCRIBE
	ReceiveMaximum              int `koanf:"receive_maximum"`     // QoS 1 and 2 messages from a client that await their ack
	MaxUnreleased               int `koanf:"max_unreleased"`      // QoS 2 identifiers of a session without PUBREL
	MaxInFlight                 int `koanf:"max_in_flight"`       // QoS 1 and 2 messages to a client that await its ack
	TopicAliasMax               int `koanf:"topic_alias_max"`     // per connection and direction; 0: none
	// unsent bytes per connection; above it QoS 0 is dropped, QoS 1 and 2 wait in the queue
	WriteBufferBytes int `koanf:"write_buffer_bytes"`

	// RefuseFilters are topic filters that nobody may subscribe to on this listener, such as "#":
	// exactly these, alone or in a shared subscription. They are refused with 0x80, which tells a
	// client nothing. This is no access control: other filters still match the same topics.
	RefuseFilters []string `koanf:"refuse_filters"`
}

// Default returns the settings of an unchanged gateway.
func Default() Config {
	return Config{
		Sessions: session.Default(),

		MaxConnectionsTotal:   100_000,
		MaxBytesBeforeConnect: 32 << 20,
	}
}

// DefaultLimits returns the limits of a listener that sets none.
func DefaultLimits() Limits {
	return Limits{
		ConnectTimeout: 10 * time.Second,
		KeepAliveMin:   0,
		KeepAliveMax:   0,
		WriteTimeout:   20 * time.Second,
		Linger:         time.Second,

		SlowConsumerTimeout: time.Minute,

		MaxConnections:           100_000,
		MaxConnectionsPerAddress: 0,
		MaxConnecting:            5000,
		MaxConnectingPerAddress:  500,
		ConnectRatePerAddress:    0,

		LoginFailures: 20,
		LoginDelayMax: 5 * time.Second,
		RateWaitMax:   5 * time.Second,

		MaxPacketBytes:              1 << 20,
		MaxPacketBytesBeforeConnect: 64 << 10,
		MaxClientIDBytes:            256,
		MaxTopicBytes:               1024,
		MaxTopicLevels:              32,
		MaxUserProperties:           64,
		MaxWillBytes:                16 << 10,
		MaxSubscriptions:            2000,
		MaxFilters:                  2000,
		ReceiveMaximum:              1024,
		MaxUnreleased:               4096,
		MaxInFlight:                 1024,
		TopicAliasMax:               32,
		WriteBufferBytes:            256 << 10,
	}
}

const (
	largest = 268_435_455 + 5 // the largest packet that MQTT can express
	many    = 1 << 30
)

// Validate returns an error that names every setting which cannot work.
func (c *Config) Validate() error {
	var b bounds
	b.within("max_connections_total", c.MaxConnectionsTotal, 1, many)
	b.within("max_bytes_before_connect", c.MaxBytesBeforeConnect, 64<<10, many)
	return errors.Join(append(b, c.Sessions.Validate())...)
}

// Validate returns an error that names every limit which cannot work.
func (l *Limits) Validate() error {
	var b bounds
	b.span("connect_timeout", l.ConnectTimeout, 100*time.Millisecond, time.Hour)
	for _, k := range []struct {
		key string
		d   time.Duration
	}{{"keep_alive_min", l.KeepAliveMin}, {"keep_alive_max", l.KeepAliveMax}} {
		b.span(k.key, k.d, 0, 65535*time.Second)
		if k.d%time.Second != 0 {
			b = append(b, fmt.Errorf("%s is %v; MQTT counts it in whole seconds", k.key, k.d))
		}
	}
	if l.KeepAliveMax > 0 && l.KeepAliveMin > l.KeepAliveMax {
		b = append(b, fmt.Errorf("keep_alive_min is %v, more than keep_alive_max, %v", l.KeepAliveMin, l.KeepAliveMax))
	}
	b.span("write_timeout", l.WriteTimeout, 100*time.Millisecond, time.Hour)
	b.span("linger", l.Linger, 10*time.Millisecond, time.Minute)
	b.span("slow_consumer_timeout", l.SlowConsumerTimeout, 0, 24*time.Hour)
	b.within("max_connections", l.MaxConnections, 1, many)
	b.within("max_connections_per_address", l.MaxConnectionsPerAddress, 0, many)
	b.within("max_connecting", l.MaxConnecting, 1, many)
	b.within("max_connecting_per_address", l.MaxConnectingPerAddress, 0, many)
	b.within("connect_rate_per_address", l.ConnectRatePerAddress, 0, many)
	b.within("login_failures", l.LoginFailures, 0, many)
	b.span("login_delay_max", l.LoginDelayMax, 10*time.Millisecond, time.Hour)
	b.within("message_rate", l.MessageRate, 0, many)
	b.within("byte_rate", l.ByteRate, 0, many)
	b.span("rate_wait_max", l.RateWaitMax, time.Millisecond, time.Hour)
	b.within("max_packet_bytes", l.MaxPacketBytes, 256, largest)
	b.within("max_packet_bytes_before_connect", l.MaxPacketBytesBeforeConnect, 256, largest)
	b.within("max_client_id_bytes", l.MaxClientIDBytes, 23, 65535)
	b.within("max_topic_bytes", l.MaxTopicBytes, 1, 65535)
	b.within("max_topic_levels", l.MaxTopicLevels, 1, 65535)
	b.within("max_user_properties", l.MaxUserProperties, 0, many)
	b.within("max_will_bytes", l.MaxWillBytes, 0, 65535)
	b.within("max_subscriptions", l.MaxSubscriptions, 1, many)
	b.within("max_filters", l.MaxFilters, 1, many)
	b.within("max_unreleased", l.MaxUnreleased, 1, 65535)
	b.within("receive_maximum", l.ReceiveMaximum, 1, 65535)
	b.within("max_in_flight", l.MaxInFlight, 1, 65535)
	b.within("topic_alias_max", l.TopicAliasMax, 0, 65535)
	b.within("write_buffer_bytes", l.WriteBufferBytes, 1024, many)
	for _, f := range l.RefuseFilters {
		if !topic.ValidSubscription(f) {
			b = append(b, fmt.Errorf("refuse_filters has %q, which is no topic filter", f))
		}
	}
	return errors.Join(b...)
}

// bounds collects the errors about settings that are out of bounds.
type bounds []error

func (b *bounds) within(key string, v, low, high int) {
	if v < low || v > high {
		*b = append(*b, fmt.Errorf("%s is %d; it must be from %d to %d", key, v, low, high))
	}
}

func (b *bounds) span(key string, d, low, high time.Duration) {
	if d < low || d > high {
		*b = append(*b, fmt.Errorf("%s is %v; it must be from %v to %v", key, d, low, high))
	}
}
