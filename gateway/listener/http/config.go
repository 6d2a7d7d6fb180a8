package http

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
)

// Config says what a listener serves and bounds what its clients may do. Sizes
// are bytes.
type Config struct {
	// Application is whose requests these are. Empty: those of the application that
	// the credentials belong to.
	Application string `koanf:"application"`
	// Public holds the beginnings of paths that are served without credentials, for whoever
	// asks, in Application, which must be given: the plugin answers for them. Credentials of
	// such a request are neither judged nor shown to the plugin.
	Public []string `koanf:"public"`
	// RequestTimeout bounds the time from a request's headers to the plugin's
	// answer; then the client hears 504, and the event is still handled.
	RequestTimeout time.Duration `koanf:"request_timeout"`
	// HeaderTimeout bounds the time to read a request's headers, and BodyTimeout
	// that to read all of it.
	HeaderTimeout time.Duration `koanf:"header_timeout"`
	BodyTimeout   time.Duration `koanf:"body_timeout"`
	// UploadTimeout bounds the time to read a body that goes to disk; BodyTimeout is then
	// how long no byte of it may come.
	UploadTimeout time.Duration `koanf:"upload_timeout"`
	// IdleTimeout closes a connection on which no request comes.
	IdleTimeout time.Duration `koanf:"idle_timeout"`

	// Events serves CloudEvents below /events/<application>: POST takes them in, and GET reads
	// the log. No plugin gets requests for these paths then.
	Events bool `koanf:"events"`
	// MaxBatchEvents bounds the events of one POST.
	MaxBatchEvents int `koanf:"max_batch_events"`
	// MaxReaders bounds who may read logs at once; beyond, clients hear 503.
	MaxReaders int `koanf:"max_readers"`
	// Heartbeat is how often a reader that gets no events gets a comment, and how long a request
	// for a batch waits for events.
	Heartbeat time.Duration `koanf:"heartbeat"`
	// AckTimeout is how long a member of a group that asks for batches keeps its place, and
	// what it has not acknowledged, without a request.
	AckTimeout time.Duration `koanf:"ack_timeout"`

	// LoginFailures is how many logins of one peer address may fail before further
	// ones are judged one by one and ever more slowly, LoginDelayMax apart at most;
	// one failure is forgotten in that time. 0: any number.
	LoginFailures int           `koanf:"login_failures"`
	LoginDelayMax time.Duration `koanf:"login_delay_max"`

	MaxConnections int `koanf:"max_connections"`
	MaxRequests    int `koanf:"max_requests"`     // handled at once; beyond, clients hear 503
	MaxBodyBytes   int `koanf:"max_body_bytes"`   // of a request; beyond, 413
	MaxHeaderBytes int `koanf:"max_header_bytes"` // of a request, the first line included; beyond, 431
	MaxHeaders     int `koanf:"max_headers"`      // of a request; beyond, 431
	MaxPathBytes   int `koanf:"max_path_bytes"`   // path and query; beyond, 414
}

// Default returns the settings of a listener that sets none.
func Default() Config {
	return Config{
		RequestTimeout: 30 * time.Second,
		HeaderTimeout:  10 * time.Second,
		BodyTimeout:    30 * time.Second,
		UploadTimeout:  time.Hour,
		IdleTimeout:    2 * time.Minute,
		MaxBatchEvents: 100,
		MaxReaders:     1024,
		Heartbeat:      15 * time.Second,
		AckTimeout:     30 * time.Second,
		LoginFailures:  20,
		LoginDelayMax:  5 * time.Second,
		MaxConnections: 10_000,
		MaxRequests:    1024,
		MaxBodyBytes:   1 << 20,
		MaxHeaderBytes: 16 << 10,
		MaxHeaders:     64,
		MaxPathBytes:   4 << 10,
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
	if len(c.Public) > 0 && c.Application == "" {
		errs = append(errs, errors.New("public is for a listener of one application: set application, too"))
	}
	for _, p := range c.Public {
		if !strings.HasPrefix(p, "/") || path.Clean(p) != strings.TrimSuffix(p, "/") && p != "/" {
			errs = append(errs, fmt.Errorf("public has %q; it must be the beginning of a path, such as /v1/public/", p))
		}
	}
	span("request_timeout", c.RequestTimeout, 100*time.Millisecond, time.Hour)
	span("header_timeout", c.HeaderTimeout, 100*time.Millisecond, time.Hour)
	span("body_timeout", c.BodyTimeout, 100*time.Millisecond, time.Hour)
	span("upload_timeout", c.UploadTimeout, 100*time.Millisecond, 24*time.Hour)
	span("idle_timeout", c.IdleTimeout, time.Second, 24*time.Hour)
	span("heartbeat", c.Heartbeat, 100*time.Millisecond, time.Hour)
	span("ack_timeout", c.AckTimeout, 100*time.Millisecond, 24*time.Hour)
	span("login_delay_max", c.LoginDelayMax, 10*time.Millisecond, time.Hour)
	const many = 1 << 30
	within("login_failures", c.LoginFailures, 0, many)
	within("max_batch_events", c.MaxBatchEvents, 1, 1000)
	within("max_readers", c.MaxReaders, 1, many)
	within("max_connections", c.MaxConnections, 1, many)
	within("max_requests", c.MaxRequests, 1, many)
	within("max_body_bytes", c.MaxBodyBytes, 0, many)
	within("max_header_bytes", c.MaxHeaderBytes, 1<<10, 1<<20)
	within("max_headers", c.MaxHeaders, 8, 1<<14)
	within("max_path_bytes", c.MaxPathBytes, 16, 1<<16)
	return errors.Join(errs...)
}
