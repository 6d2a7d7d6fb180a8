package outbound

import (
	"fmt"
	"time"
)

// Config is the [outbound] table of gateway.toml, which holds for the HTTP calls of all
// plugins. The grant of a plugin names the places that it may call.
type Config struct {
	// Timeout is how long one attempt may take, if the plugin does not say.
	Timeout time.Duration `koanf:"timeout"`
	// Attempts and MaxAge end a call that gets no answer, whichever comes first.
	// Attempts are counted from the start of the gateway.
	Attempts int           `koanf:"attempts"`
	MaxAge   time.Duration `koanf:"max_age"`
	// Backoff is the wait before the second attempt; it doubles up to BackoffMax.
	// Each wait is shortened by up to half at random.
	Backoff    time.Duration `koanf:"backoff"`
	BackoffMax time.Duration `koanf:"backoff_max"`
	// Concurrency is how many calls are under way at once, PerHost how many to one
	// host.
	Concurrency int `koanf:"concurrency"`
	PerHost     int `koanf:"per_host"`
	// MaxPending is how many calls of one plugin in one application may wait.
	MaxPending int `koanf:"max_pending"`
	// ResponseBytes is how much of an answer's body a plugin gets.
	ResponseBytes int `koanf:"response_bytes"`
}

// Default returns the configuration that gateway.toml shows.
func Default() Config {
	return Config{
		Timeout: 10 * time.Second, Attempts: 40, MaxAge: 24 * time.Hour, Backoff: time.Second, BackoffMax: time.Hour,
		Concurrency: 64, PerHost: 4, MaxPending: 10_000, ResponseBytes: 256 << 10,
	}
}

// Validate says what is impossible in the configuration, naming the key.
func (c *Config) Validate() error {
	switch {
	case c.Timeout < time.Millisecond || c.Timeout > 5*time.Minute:
		return fmt.Errorf("outbound.timeout is %v: use 1ms to 5m", c.Timeout)
	case c.Attempts < 1:
		return fmt.Errorf("outbound.attempts is %d: use at least 1", c.Attempts)
	case c.MaxAge < time.Second:
		return fmt.Errorf("outbound.max_age is %v: use at least 1s", c.MaxAge)
	case c.Backoff < time.Millisecond || c.BackoffMax < c.Backoff:
		return fmt.Errorf("outbound.backoff %v and backoff_max %v: use at least 1ms, and no more than its maximum", c.Backoff, c.BackoffMax)
	case c.Concurrency < 1 || c.Concurrency > 10_000:
		return fmt.Errorf("outbound.concurrency is %d: use 1 to 10000", c.Concurrency)
	case c.PerHost < 1 || c.PerHost > c.Concurrency:
		return fmt.Errorf("outbound.per_host is %d: use 1 to concurrency (%d)", c.PerHost, c.Concurrency)
	case c.MaxPending < 1:
		return fmt.Errorf("outbound.max_pending is %d: use at least 1", c.MaxPending)
	case c.ResponseBytes < 1<<10 || c.ResponseBytes > 4<<20:
		return fmt.Errorf("outbound.response_bytes is %d: use %d to %d", c.ResponseBytes, 1<<10, 4<<20)
	}
	return nil
}
