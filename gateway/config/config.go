// Package config reads the gateway's settings: gateway.toml, over it the
// environment, over it the command line. It composes the Config of every
// package, which each describes and checks its own part. It is the only package
// that knows koanf; only main and server import it.
package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"tributary.io/gateway/admin"
	"tributary.io/gateway/auth"
	"tributary.io/gateway/consumer"
	"tributary.io/gateway/files"
	"tributary.io/gateway/listener/http"
	"tributary.io/gateway/listener/mqtt"
	"tributary.io/gateway/listener/transport"
	"tributary.io/gateway/outbound"
	"tributary.io/gateway/plugin"
	"tributary.io/gateway/registry"
	"tributary.io/gateway/router"
	"tributary.io/gateway/store/pebble"
)

// Config is everything that users set. gateway.toml documents each key.
type Config struct {
	Log       Log               `koanf:"log"`
	MQTT      mqtt.Config       `koanf:"mqtt"` // of all MQTT listeners together
	Listeners Listeners         `koanf:"listeners"`
	Admin     admin.Config      `koanf:"admin"`
	Store     pebble.Config     `koanf:"store"`
	Router    router.Config     `koanf:"router"`
	Routes    []router.Route    `koanf:"routes"` // beside the plugins and applications that they join; Load gives them to Router
	Consumer  consumer.Config   `koanf:"consumer"`
	WASM      plugin.Config     `koanf:"wasm"`
	Outbound  outbound.Config   `koanf:"outbound"`
	Files     files.Config      `koanf:"files"`
	Plugins   map[string]Plugin `koanf:"plugins"`
	Auth      auth.Config       `koanf:"auth"`
	Registry  registry.Config   `koanf:",squash"`

	// ServiceLinks are variables that look like settings and come from Kubernetes.
	ServiceLinks []string `koanf:"-"`
}

// Listeners are what accepts connections, by name.
type Listeners struct {
	MQTT map[string]MQTT `koanf:"mqtt"`
	HTTP map[string]HTTP `koanf:"http"`
}

// MQTT is one MQTT listener: where it listens, what lies between TCP and MQTT, and
// what clients may do.
type MQTT struct {
	Address   string           `koanf:"address"` // "host:port"; "": it does not listen
	Auth      []string         `koanf:"auth"`    // methods of authentication, in order
	Transport transport.Config `koanf:",squash"`
	Limits    mqtt.Limits      `koanf:",squash"`
}

// defaultMQTT is an MQTT listener of which nothing is set. The registry alone can
// judge by its methods.
func defaultMQTT() MQTT {
	return MQTT{
		Address:   "127.0.0.1:1883",
		Auth:      []string{"certificate", "apikey", "password", "scram", "anonymous"},
		Transport: transport.Default(),
		Limits:    mqtt.DefaultLimits(),
	}
}

// HTTP is one HTTP listener: where it listens, what lies between TCP and HTTP, and
// what clients may do.
type HTTP struct {
	Address string          `koanf:"address"` // "host:port"; "": it does not listen
	Auth    []string        `koanf:"auth"`    // methods of authentication, in order
	TLS     transport.TLS   `koanf:"tls"`
	Proxy   transport.Proxy `koanf:"proxy"`
	Limits  http.Config     `koanf:",squash"`
}

// Transport is what lies between TCP and HTTP.
func (h *HTTP) Transport() transport.Config {
	c := transport.Default()
	c.TLS, c.Proxy = h.TLS, h.Proxy
	return c
}

// defaultHTTP is an HTTP listener of which nothing is set.
func defaultHTTP() HTTP {
	c := transport.Default()
	return HTTP{Address: "127.0.0.1:8090", Auth: []string{"certificate", "apikey", "password", "anonymous"}, TLS: c.TLS, Proxy: c.Proxy,
		Limits: http.Default()}
}

// Plugin is one plugin: its module, what it may do, and its own settings.
type Plugin struct {
	Path     string            `koanf:"path"`
	Grant    plugin.Grant      `koanf:"grant"`
	Settings map[string]string `koanf:"settings"`
}

// Log says what is logged and how.
type Log struct {
	Level  string `koanf:"level"`  // debug, info, warn or error
	Format string `koanf:"format"` // text or json
}

// Default returns the settings of an empty gateway.toml: no application, no
// user, no plugin, no route, and one listener.
func Default() Config {
	return Config{
		Log:       Log{Level: "info", Format: "text"},
		MQTT:      mqtt.Default(),
		Listeners: Listeners{MQTT: map[string]MQTT{"tcp": defaultMQTT()}},
		Admin:     admin.Default(),
		Store:     pebble.Default(),
		Router:    router.Default(),
		Consumer:  consumer.Default(),
		WASM:      plugin.Default(),
		Outbound:  outbound.Default(),
		Files:     files.Default(),
		Auth:      auth.Default(),
		Registry:  registry.Default(),
	}
}

// Logger makes the logger that Log describes. The settings must be valid.
func (l Log) Logger(w io.Writer) *slog.Logger {
	var level slog.Level
	if level.UnmarshalText([]byte(l.Level)) != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: plainError}
	if l.Format == "json" {
		return slog.New(newRepeats(slog.NewJSONHandler(w, options), time.Now))
	}
	return slog.New(newRepeats(slog.NewTextHandler(w, options), time.Now))
}

// plainError has an error say what it says. The text format would write those of some
// libraries with their stacks.
func plainError(_ []string, a slog.Attr) slog.Attr {
	if err, ok := a.Value.Any().(error); ok {
		a.Value = slog.StringValue(err.Error())
	}
	return a
}

func (l Log) validate() error {
	var errs []error
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, l.Level) {
		errs = append(errs, fmt.Errorf("level is %q; use debug, info, warn or error", l.Level))
	}
	if l.Format != "text" && l.Format != "json" {
		errs = append(errs, fmt.Errorf("format is %q; use text or json", l.Format))
	}
	return errors.Join(errs...)
}

// finding is a problem with a key, or with the table that section names.
type finding struct {
	section string
	err     error
}

// validate returns everything that is impossible, within the parts and between
// them.
func (c *Config) validate() []finding {
	var found []finding
	check := func(section string, err error) {
		for _, e := range flatten(err) {
			found = append(found, finding{section, e})
		}
	}
	check("log", c.Log.validate())
	check("mqtt", c.MQTT.Validate())
	check("admin", c.Admin.Validate())
	check("store", c.Store.Validate())
	check("router", c.Router.Validate())
	check("consumer", c.Consumer.Validate())
	check("wasm", c.WASM.Validate())
	check("outbound", c.Outbound.Validate())
	check("files", c.Files.Validate())
	check("auth", c.Auth.Validate())
	for _, name := range slices.Sorted(maps.Keys(c.Listeners.MQTT)) {
		l, key := c.Listeners.MQTT[name], join("listeners.mqtt", name)
		check(key, validName("listener", name))
		check(key, validAddress(l.Address))
		check(key, validMethods(l.Auth, c.Auth.Methods()))
		check(key, l.Transport.Validate())
		check(key, l.Limits.Validate())
	}
	for _, name := range slices.Sorted(maps.Keys(c.Listeners.HTTP)) {
		l, key := c.Listeners.HTTP[name], join("listeners.http", name)
		check(key, validName("listener", name))
		check(key, validAddress(l.Address))
		check(key, c.validHTTPMethods(l.Auth))
		between := l.Transport()
		check(key, between.Validate())
		check(key, l.Limits.Validate())
	}
	check("", c.sameAddress())
	check("", c.Registry.Validate())
	for _, name := range slices.Sorted(maps.Keys(c.Plugins)) {
		p, key := c.Plugins[name], join("plugins", name)
		check(key, validPlugin(name, p))
		check(key+".grant", p.Grant.Validate())
	}
	check("", c.crossCheck())
	return found
}

// validHTTPMethods checks the auth list of an HTTP listener, where neither packets
// nor messages can carry credentials: who lists what would never be asked for must
// not think that it is.
func (c *Config) validHTTPMethods(list []string) error {
	onlyMQTT := []string{"scram", "properties"}
	for _, m := range onlyMQTT {
		if slices.Contains(list, m) {
			return fmt.Errorf("auth names %q, which only MQTT can carry; leave it out, and name it in the auth of a listener under listeners.mqtt",
				m)
		}
	}
	there := slices.DeleteFunc(c.Auth.Methods(), func(m string) bool { return slices.Contains(onlyMQTT, m) })
	return validMethods(list, there)
}

// validMethods checks the auth list of a listener, for which there are some methods.
func validMethods(list, there []string) error {
	if len(list) == 0 {
		return fmt.Errorf("auth is empty, so nobody could connect; there are %s", strings.Join(there, ", "))
	}
	for i, m := range list {
		if !slices.Contains(there, m) {
			return fmt.Errorf("auth has no method %q%s; there are %s", m, didYouMean(m, there), strings.Join(there, ", "))
		}
		if slices.Contains(list[:i], m) {
			return fmt.Errorf("auth names %q twice", m)
		}
	}
	return nil
}

// crossCheck finds references to what is not there. An application may be made at
// run time, see RouteWarnings.
func (c *Config) crossCheck() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.Auth.Plugin)) {
		if _, ok := c.Plugins[name]; !ok {
			errs = append(errs, fmt.Errorf("auth.plugin.%s: there is no [plugins.%s]%s",
				bare(name), bare(name), didYouMean(name, slices.Sorted(maps.Keys(c.Plugins)))))
		}
	}
	for i, r := range c.Router.Routes {
		key := fmt.Sprintf("routes[%d]", i)
		if _, ok := c.Plugins[r.Plugin]; !ok && r.Plugin != "" {
			errs = append(errs, fmt.Errorf("%s.plugin is %q; there is no [plugins.%s]%s",
				key, r.Plugin, bare(r.Plugin), didYouMean(r.Plugin, slices.Sorted(maps.Keys(c.Plugins)))))
		}
	}
	return errors.Join(errs...)
}

// sameAddress finds listeners that would take each other's port.
func (c *Config) sameAddress() error {
	var errs []error
	taken := map[string]string{}
	listen := func(key, address string) {
		_, port, _ := net.SplitHostPort(address)
		if address == "" || port == "0" {
			return
		}
		if other := taken[address]; other != "" {
			errs = append(errs, fmt.Errorf("%s is %q, which %s is, too", key, address, other))
		}
		taken[address] = key
	}
	listen("admin.address", c.Admin.Address)
	for _, name := range slices.Sorted(maps.Keys(c.Listeners.MQTT)) {
		listen(join("listeners.mqtt", name)+".address", c.Listeners.MQTT[name].Address)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Listeners.HTTP)) {
		listen(join("listeners.http", name)+".address", c.Listeners.HTTP[name].Address)
	}
	return errors.Join(errs...)
}

// validName checks a name that stands in settings, logs and metrics.
func validName(what, name string) error {
	ok := name != "" && len(name) <= 64
	for _, c := range []byte(name) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
	}
	if !ok {
		return fmt.Errorf("a %s's name is 1 to 64 of a-z, 0-9 and -", what)
	}
	return nil
}

func validPlugin(name string, p Plugin) error {
	var errs []error
	if err := validName("plugin", name); err != nil {
		errs = append(errs, err)
	}
	if p.Path == "" {
		errs = append(errs, errors.New("path is empty; it must name the plugin's .wasm file"))
	}
	return errors.Join(errs...)
}

func validAddress(address string) error {
	if address == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("address is %q; the port must be at most 65535", address)
	}
	if err != nil {
		return fmt.Errorf("address is %q; it must be host:port, such as 127.0.0.1:1883", address)
	}
	return nil
}

// flatten takes joined errors apart.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
	}
	return all
}
