package registry

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"tributary.io/sdk-plugin/event"
)

// Config declares the applications with their devices, and the users. Its keys
// stand at the top level of gateway.toml.
type Config struct {
	Applications map[string]Application `koanf:"applications"`
	Users        map[string]User        `koanf:"users"`
}

// Application is a tenant: it owns devices and a log.
type Application struct {
	// Anonymous lets peers on the gateway's own host (loopback) in without
	// credentials: as devices by their client id, and as readers and commanders
	// of the application. Devices that are not declared then exist implicitly.
	Anonymous bool `koanf:"anonymous"`
	// Messaging hands what devices publish to other devices of the application
	// that subscribed to the topic.
	Messaging bool `koanf:"messaging"`
	// RetentionAge and RetentionBytes bound the log; 0 is no bound.
	RetentionAge   time.Duration     `koanf:"retention_age"`
	RetentionBytes int64             `koanf:"retention_bytes"`
	Devices        map[string]Device `koanf:"devices"`
}

// Device is a declared device. It logs in as "<device>@<application>".
type Device struct {
	// PasswordHashes are argon2id hashes of the passwords that are accepted; more
	// than one lets a password be changed without a gap. A device without any
	// cannot log in, except anonymously where the application allows that.
	PasswordHashes []string `koanf:"password_hashes"`
	// Disabled refuses the device's connections, and the commands sent to it.
	Disabled bool `koanf:"disabled"`
	// GatewayFor names the devices that this one may speak for; * stands for any
	// run of characters.
	GatewayFor []string `koanf:"gateway_for"`
	// Publish and Subscribe are the MQTT topic filters that it may use.
	Publish   []string `koanf:"publish"`
	Subscribe []string `koanf:"subscribe"`
}

// User is a person or program that reads applications and commands their
// devices. It logs in by its name, with a password or API key.
type User struct {
	PasswordHashes []string `koanf:"password_hashes"`
	// Read and Write name the applications whose log it may read, and whose
	// devices it may command; "*" is all of them.
	Read  []string `koanf:"read"`
	Write []string `koanf:"write"`
}

// Default returns the configuration without applications and users.
func Default() Config { return Config{} }

// DefaultApplication returns what holds for an application where nothing is set.
func DefaultApplication() Application {
	return Application{RetentionAge: 7 * 24 * time.Hour, RetentionBytes: 1 << 30}
}

// DefaultDevice returns what holds for a device where nothing is set.
func DefaultDevice() Device {
	return Device{Publish: []string{"#"}, Subscribe: []string{"#"}}
}

// maxHashes bounds the hashes of one login: each failed login costs as many
// hash computations as the login with the most has.
const maxHashes = 4

// Validate returns everything that is impossible, each problem beginning with
// the key that it concerns and a colon.
func (c Config) Validate() error {
	var p problems
	for _, name := range slices.Sorted(maps.Keys(c.Applications)) {
		key := "applications." + quote(name)
		if !validApplication(name) {
			p.add(key, "an application's name is 1 to 64 of a-z, 0-9 and -")
		}
		c.Applications[name].validate(&p, key)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Users)) {
		key, u := "users."+quote(name), c.Users[name]
		if !ValidDevice(name) || strings.Contains(name, "@") {
			p.add(key, "a user's name is 1 to 128 bytes of text without @, /, + and # (with @ it would be a device's login)")
		}
		if len(u.PasswordHashes) == 0 {
			p.add(key, "a user needs password_hashes; make one with: tributary hash-password")
		}
		p.hashes(key, u.PasswordHashes)
		c.known(&p, key+".read", u.Read)
		c.known(&p, key+".write", u.Write)
	}
	return errors.Join(p...)
}

func (c Config) known(p *problems, key string, names []string) {
	for _, name := range names {
		if _, ok := c.Applications[name]; !ok && name != "*" {
			p.add(key, "there is no application %q", name)
		}
	}
}

func (a Application) validate(p *problems, key string) {
	if a.RetentionAge < 0 {
		p.add(key+".retention_age", "%v is negative; 0 keeps events of any age", a.RetentionAge)
	}
	if a.RetentionBytes < 0 {
		p.add(key+".retention_bytes", "%d is negative; 0 keeps any amount", a.RetentionBytes)
	}
	for _, id := range slices.Sorted(maps.Keys(a.Devices)) {
		d, key := a.Devices[id], key+".devices."+quote(id)
		if !ValidDevice(id) {
			p.add(key, "a device's name is 1 to 128 bytes of text without /, + and #")
		}
		p.hashes(key, d.PasswordHashes)
		for _, pattern := range d.GatewayFor {
			if !ValidDevice(pattern) {
				p.add(key+".gateway_for", "%q matches no device name; use * for any run of characters", pattern)
			}
		}
		p.filters(key+".publish", d.Publish)
		p.filters(key+".subscribe", d.Subscribe)
	}
}

// problems collects what is wrong.
type problems []error

func (p *problems) add(key, format string, args ...any) {
	*p = append(*p, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
}

func (p *problems) hashes(key string, list []string) {
	key += ".password_hashes"
	if len(list) > maxHashes {
		p.add(key, "%d hashes; at most %d are allowed", len(list), maxHashes)
	}
	for i, s := range list {
		if _, err := parseHash(s); err != nil {
			p.add(key, "number %d: %v", i+1, err)
		}
	}
}

func (p *problems) filters(key string, list []string) {
	for _, f := range list {
		if !event.ValidFilter(f) {
			p.add(key, "%q is no MQTT topic filter", f)
		}
	}
}

func validApplication(name string) bool {
	ok := len(name) >= 1 && len(name) <= 64
	for _, c := range []byte(name) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
	}
	return ok
}

// ValidDevice says whether a name can be a device's: 1 to 128 bytes of UTF-8
// without control characters and without '/', '+' and '#', so that it can be a
// level of an MQTT topic.
func ValidDevice(name string) bool {
	if len(name) < 1 || len(name) > 128 || !utf8.ValidString(name) {
		return false
	}
	for _, c := range name {
		if unicode.IsControl(c) || c == '/' || c == '+' || c == '#' {
			return false
		}
	}
	return true
}

// quote writes a name as a part of a TOML key.
func quote(name string) string {
	bare := name != ""
	for _, c := range []byte(name) {
		bare = bare && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_')
	}
	if bare {
		return name
	}
	return fmt.Sprintf("%q", name)
}
