package session

import (
	"errors"
	"fmt"
	"time"
)

// Config bounds sessions and what they share. Sizes are in bytes.
type Config struct {
	// SessionExpiryMax is the longest time that a session outlives its connection. Sessions of MQTT
	// 3.1.1 clients that do not ask for a clean session get this time. 0: no maximum.
	SessionExpiryMax time.Duration `koanf:"session_expiry_max"`

	MaxSessions   int `koanf:"max_sessions"`   // connected or kept
	QueueMessages int `koanf:"queue_messages"` // waiting per session; above it new ones are dropped
	QueueBytes    int `koanf:"queue_bytes"`    // same, bytes of topic, payload and properties
	// QueueWaitMax is how long a publisher of QoS 1 or 2 waits if the queue of a connected
	// subscriber, which does take messages, is nearly full. 0: not at all.
	QueueWaitMax     time.Duration `koanf:"queue_wait_max"`
	QueueTotalBytes  int           `koanf:"queue_total_bytes"`  // same, of all sessions of an application or user, with those in flight
	MaxRetained      int           `koanf:"max_retained"`       // retained messages per application
	MaxRetainedBytes int           `koanf:"max_retained_bytes"` // same, bytes of topic, payload and properties

	// JournalChanges is how many changes of sessions the journal collects before it writes them, if
	// nobody waits for them. 0: journalChanges. It is for tests and no setting.
	JournalChanges int `koanf:"-"`

	// Of one application or one user: its sessions, connected or kept, and all their subscriptions.
	MaxSessionsPerApplication      int `koanf:"max_sessions_per_application"`
	MaxSubscriptionsPerApplication int `koanf:"max_subscriptions_per_application"`
}

const journalChanges = 512

// Default returns the settings of an unchanged gateway.
func Default() Config {
	return Config{
		SessionExpiryMax: 7 * 24 * time.Hour,

		MaxSessions:      200_000,
		QueueMessages:    10_000,
		QueueBytes:       8 << 20,
		QueueTotalBytes:  256 << 20,
		QueueWaitMax:     time.Second,
		MaxRetained:      100_000,
		MaxRetainedBytes: 64 << 20,

		MaxSessionsPerApplication:      200_000,
		MaxSubscriptionsPerApplication: 1_000_000,
	}
}

// Validate returns an error that names every setting which cannot work.
func (c *Config) Validate() error {
	var errs []error
	if most := 1 << 32 * time.Second; c.SessionExpiryMax < 0 || c.SessionExpiryMax > most {
		errs = append(errs, fmt.Errorf("session_expiry_max is %v; it must be from 0s to %v", c.SessionExpiryMax, most))
	}
	if c.QueueWaitMax < 0 || c.QueueWaitMax > time.Minute {
		errs = append(errs, fmt.Errorf("queue_wait_max is %v; it must be from 0s to 1m0s", c.QueueWaitMax))
	}
	const most = 1 << 30
	for _, k := range []struct {
		key            string
		v, least, most int
	}{
		{"max_sessions", c.MaxSessions, 1, most},
		{"max_sessions_per_application", c.MaxSessionsPerApplication, 1, most},
		{"max_subscriptions_per_application", c.MaxSubscriptionsPerApplication, 1, most},
		{"queue_messages", c.QueueMessages, 1, most},
		{"queue_bytes", c.QueueBytes, 1, most},
		{"queue_total_bytes", c.QueueTotalBytes, 1, 1 << 40},
		{"max_retained", c.MaxRetained, 0, most},
		{"max_retained_bytes", c.MaxRetainedBytes, 0, most},
	} {
		if k.v < k.least || k.v > k.most {
			errs = append(errs, fmt.Errorf("%s is %d; it must be from %d to %d", k.key, k.v, k.least, k.most))
		}
	}
	return errors.Join(errs...)
}
