package plugin

import "time"

// Grant is what the operator allows one plugin: [plugins.<name>.grant] in
// gateway.toml. The zero value allows nothing but to reply and to fail, under
// the limits of Config. Timers and HTTP calls cannot be granted in this version.
type Grant struct {
	// Publish holds the MQTT topic filters that the plugin may publish to.
	Publish []string `koanf:"publish"`
	// Emit holds the types of events that it may emit: exact, or a prefix that
	// ends in "*".
	Emit []string `koanf:"emit"`
	// Pass lets it hand events on to the next matching route.
	Pass bool `koanf:"pass"`
	// StateBytes is how much state it may keep per application, keys and values
	// together; 0 is none. The host checks each write, the router the sum.
	StateBytes int64 `koanf:"state_bytes"`
	// MemoryBytes, Fuel and Deadline replace those of Config where not 0.
	MemoryBytes int64         `koanf:"memory_bytes"`
	Fuel        int64         `koanf:"fuel"`
	Deadline    time.Duration `koanf:"deadline"`
}

// Validate says what is impossible in the grant, naming the key.
func (g *Grant) Validate() error { return nil }
