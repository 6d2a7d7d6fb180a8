package plugin

import (
	"fmt"
	"time"
)

// Config is the [wasm] table of gateway.toml: what holds for every WASM plugin.
// Limits of one plugin are in its Grant.
type Config struct {
	// CacheDir keeps compiled modules between starts. The files are machine code
	// that the gateway runs: the directory is made for its owner alone and refused
	// when others may write to it. Empty keeps nothing on disk.
	CacheDir string `koanf:"cache_dir"`
	// MemoryBytes is the greatest linear memory of an instance, if the grant does not say; whole
	// pages of 64 KiB.
	MemoryBytes int64 `koanf:"memory_bytes"`
	// Fuel is how many units of work one event may cost, if the grant does not say. A unit is at
	// most one instruction (see package meter). JSON of 1 MB costs a Go plugin about a thousand
	// million.
	Fuel int64 `koanf:"fuel"`
	// Deadline is how long one event may take, if the grant does not say.
	Deadline time.Duration `koanf:"deadline"`
	// CompileDeadline is how long compiling a module may take. It is looked at between two
	// functions, of which the meter refuses those that would take long.
	CompileDeadline time.Duration `koanf:"compile_deadline"`
	// StartDeadline is how long a plugin may take to initialise.
	StartDeadline time.Duration `koanf:"start_deadline"`
	// OutputBytes is the greatest encoded result of one event.
	OutputBytes int `koanf:"output_bytes"`
	// LogBytes is how much one event may write to the log, and, counted apart, to
	// standard output and error; the rest is dropped.
	LogBytes int `koanf:"log_bytes"`
}

// Default returns the configuration that gateway.toml shows.
func Default() Config {
	return Config{
		CacheDir:        "data/wasm",
		MemoryBytes:     64 << 20,
		Fuel:            1_000_000_000,
		Deadline:        time.Second,
		CompileDeadline: time.Minute,
		StartDeadline:   5 * time.Second,
		OutputBytes:     4 << 20,
		LogBytes:        4 << 10,
	}
}

// Bounds of what may be configured or granted.
const (
	pageBytes = 64 << 10
	maxMemory = 2 << 30
	maxFuel   = 1 << 40
)

// Validate says what is impossible in the configuration, naming the key.
func (c *Config) Validate() error {
	switch {
	case c.MemoryBytes < pageBytes || c.MemoryBytes > maxMemory:
		return fmt.Errorf("wasm.memory_bytes is %d: use %d to %d", c.MemoryBytes, pageBytes, maxMemory)
	case c.Fuel < 1 || c.Fuel > maxFuel:
		return fmt.Errorf("wasm.fuel is %d: use 1 to %d", c.Fuel, int64(maxFuel))
	case c.Deadline < time.Millisecond:
		return fmt.Errorf("wasm.deadline is %v: use at least 1ms", c.Deadline)
	case c.CompileDeadline < time.Millisecond:
		return fmt.Errorf("wasm.compile_deadline is %v: use at least 1ms", c.CompileDeadline)
	case c.StartDeadline < time.Millisecond:
		return fmt.Errorf("wasm.start_deadline is %v: use at least 1ms", c.StartDeadline)
	case c.OutputBytes < 1<<10 || c.OutputBytes > 1<<30:
		return fmt.Errorf("wasm.output_bytes is %d: use %d to %d", c.OutputBytes, 1<<10, 1<<30)
	case c.LogBytes < 0 || c.LogBytes > 1<<20:
		return fmt.Errorf("wasm.log_bytes is %d: use 0 to %d", c.LogBytes, 1<<20)
	}
	return nil
}
