package admin

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// Config is the [admin] table of gateway.toml.
type Config struct {
	// Address is where the endpoint listens, "host:port"; empty switches it off.
	Address string `koanf:"address"`
	// Certificate and Key are the PEM files of a TLS certificate with its chain, and
	// of its key; empty serves plain HTTP.
	Certificate string `koanf:"certificate"`
	Key         string `koanf:"key"`
	// TokenFile is where a token for everything is written at each start, readable
	// by the owner only, and valid until the end of the process; empty: none is made.
	TokenFile string `koanf:"token_file"`
	// OpenMetrics shows metrics without a token also on other addresses than
	// loopback ones.
	OpenMetrics bool `koanf:"open_metrics"`
	// Pprof serves Go's profiler under /debug/pprof/. A profile shows memory, so
	// it is allowed on a loopback address only.
	Pprof bool `koanf:"pprof"`
}

// Default returns the configuration that gateway.toml shows.
func Default() Config {
	return Config{Address: "127.0.0.1:8080", TokenFile: "data/admin.token"}
}

// openMetrics says whether metrics are shown without a token.
func (c Config) openMetrics() bool { return c.OpenMetrics || loopback(c.Address) }

// loopback says whether an address is reached from this machine only.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip, notIP := netip.ParseAddr(host)
	return err == nil && (host == "localhost" || notIP == nil && ip.IsLoopback())
}

// Validate names every setting that cannot work.
func (c Config) Validate() error {
	if c.Address == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(c.Address)
	if err != nil {
		return fmt.Errorf("address is %q; it must be host:port, such as 127.0.0.1:8080: %w", c.Address, err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); errors.Is(err, strconv.ErrRange) { // it may be a name
		return fmt.Errorf("address is %q; the port must be at most 65535", c.Address)
	}
	if (c.Certificate == "") != (c.Key == "") {
		return errors.New("certificate and key belong together; set both or none")
	}
	if c.Pprof && !loopback(c.Address) {
		return errors.New("pprof is on while address is not on loopback; a profile shows memory, so use 127.0.0.1 for address or switch pprof " +
			"off")
	}
	return nil
}
