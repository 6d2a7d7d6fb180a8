package router

import (
	"fmt"
	"runtime"
	"time"

	"tributary.io/gateway/topic"
	"tributary.io/sdk-plugin/event"
)

// Config is what users set.
type Config struct {
	// Routes are tried in order; the first that matches an event picks its plugin,
	// and a passed event goes on with the ones below it.
	// They are a table of their own in gateway.toml.
	Routes []Route `koanf:"-"`
	// Shards is the number of workers; a device always has the same one. 0 means
	// one per processor that the process may use.
	Shards int `koanf:"shards"`
	// Queue is how many events may wait for each shard before listeners are held back.
	Queue int `koanf:"queue"`
	// Retries is how often an event is tried again after a retryable failure
	// before it goes into quarantine.
	Retries int `koanf:"retries"`
	// RetryDelay is the wait before the first retry; it doubles up to RetryDelayMax.
	RetryDelay    time.Duration `koanf:"retry_delay"`
	RetryDelayMax time.Duration `koanf:"retry_delay_max"`
}

// Route picks the plugin for the inbound events that it matches. Every given
// criterion must hold.
type Route struct {
	// Application is required; "*" is every application, also those that are made
	// at run time.
	Application string `koanf:"application"`
	// Plugin names an entry of [plugins].
	Plugin string `koanf:"plugin"`
	// Topic is an MQTT topic filter for publish and subscribe events; events of
	// other types have no device topic and match any. Empty is "#", $-topics included.
	Topic string `koanf:"topic"`
	// Type is the inbound event type, such as io.tributary.publish.v1; empty is any.
	Type string `koanf:"type"`
	// Attributes are event attributes that must be equal, by name.
	Attributes map[string]string `koanf:"attributes"`
}

// Default returns the configuration that gateway.toml shows.
func Default() Config {
	return Config{Queue: 1024, Retries: 5, RetryDelay: 100 * time.Millisecond, RetryDelayMax: 5 * time.Second}
}

// Instances returns how many instances of each plugin are needed: one for each shard, one
// for events whose handlers run too long, and one for judgements that do.
func (c *Config) Instances() int { return c.Workers() + 2 }

// Workers returns the number of shards in use.
func (c *Config) Workers() int {
	if c.Shards > 0 {
		return c.Shards
	}
	return runtime.GOMAXPROCS(0)
}

// Validate checks what can be checked without the plugins.
func (c *Config) Validate() error {
	switch {
	case c.Shards < 0 || c.Shards > 256:
		return fmt.Errorf("router.shards is %d: use 0 (one per processor) to 256", c.Shards)
	case c.Queue < 1:
		return fmt.Errorf("router.queue is %d: use at least 1", c.Queue)
	case c.Retries < 0:
		return fmt.Errorf("router.retries is %d: use 0 or more", c.Retries)
	case c.RetryDelay <= 0 || c.RetryDelayMax < c.RetryDelay:
		return fmt.Errorf("router.retry_delay %v and retry_delay_max %v: use a positive delay that is not above its maximum", c.RetryDelay,
			c.RetryDelayMax)
	}
	for i, r := range c.Routes {
		if r.Application == "" || r.Plugin == "" {
			return fmt.Errorf("routes[%d]: application and plugin are required", i)
		}
		if r.Topic != "" && !topic.ValidFilter(r.Topic) {
			return fmt.Errorf("routes[%d].topic %q is no MQTT topic filter: + must stand alone in its level, # alone in the last one", i, r.Topic)
		}
	}
	return nil
}

// anyApplication is the Application of a route that takes the events of all.
const anyApplication = "*"

// matches says whether the route takes an inbound event.
func (r *Route) matches(in *event.Inbound) bool {
	if r.Application != anyApplication && r.Application != in.Event.Application || (r.Type != "" && r.Type != in.Event.Type) {
		return false
	}
	if r.Topic != "" && (in.Event.Type == event.TypePublish || in.Event.Type == event.TypeSubscribe) &&
		!topic.Match(r.Topic, in.Transport.Topic) {
		return false
	}
	for name, want := range r.Attributes {
		if attribute(&in.Event, name) != want {
			return false
		}
	}
	return true
}

// attribute returns a context attribute by its CloudEvents name; "" when absent.
func attribute(e *event.Event, name string) string {
	switch name {
	case "id":
		return e.ID
	case "source":
		return e.Source
	case "type":
		return e.Type
	case "subject":
		return e.Subject
	case "datacontenttype":
		return e.DataContentType
	case "dataschema":
		return e.DataSchema
	case "application":
		return e.Application
	case "device":
		return e.Device
	case "sender":
		return e.Sender
	}
	v, _ := e.Extension(name)
	return v
}
