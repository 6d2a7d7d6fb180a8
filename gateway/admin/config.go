package admin

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// Config is the [admin] table of gateway.toml.
type Config struct {
	// Address is where the endpoint listens, "host:port"; empty switches it off.
	// Whoever reaches it can read every metric: there is no login.
	Address string `koanf:"address"`
	// Pprof serves Go's profiler under /debug/pprof/. A profile shows memory, so
	// it is allowed on a loopback address only.
	Pprof bool `koanf:"pprof"`
}

// Default returns the configuration that gateway.toml shows.
func Default() Config { return Config{Address: "127.0.0.1:8080"} }

// Validate names every setting that cannot work.
func (c Config) Validate() error {
	if c.Address == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(c.Address)
	if err != nil {
		return fmt.Errorf("address is %q; it must be host:port, such as 127.0.0.1:8080: %w", c.Address, err)
	}
	if ip, err := netip.ParseAddr(host); c.Pprof && host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return errors.New("pprof is on while address is not on loopback; a profile shows memory, so use 127.0.0.1 for address or switch pprof off")
	}
	return nil
}
