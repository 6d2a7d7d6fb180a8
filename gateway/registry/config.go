package registry

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"tributary.io/gateway/resource"
)

// Config declares the applications with their devices, the users and the admin
// tokens that are there from the start. Its keys stand at the top level of
// gateway.toml.
type Config struct {
	Applications map[string]Application `koanf:"applications"`
	Users        map[string]User        `koanf:"users"`
	Tokens       map[string]Token       `koanf:"tokens"`
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
	RetentionAge   time.Duration `koanf:"retention_age"`
	RetentionBytes int64         `koanf:"retention_bytes"`
	// MessageRate and ByteRate bound what all its devices publish together, per
	// second; 0 is no bound.
	MessageRate int               `koanf:"message_rate"`
	ByteRate    int               `koanf:"byte_rate"`
	Devices     map[string]Device `koanf:"devices"`
}

// Device is a declared device. It logs in as "<device>@<application>".
type Device struct {
	// PasswordHashes are argon2id hashes of the passwords that are accepted. With more than one, a
	// password can be changed without a gap. A device without any cannot log in, except
	// anonymously if the application allows that.
	PasswordHashes []string `koanf:"password_hashes"`
	// Certificates are the SHA-256 fingerprints, in hexadecimal, of TLS client
	// certificates that are the device's.
	Certificates []string `koanf:"certificates"`
	// Aliases are other names by which the device logs in, such as a serial number.
	Aliases []string `koanf:"aliases"`
	// Disabled refuses the device's connections, and the commands sent to it.
	Disabled bool `koanf:"disabled"`
	// GatewayFor names the devices that this one may speak for; * stands for any
	// run of characters.
	GatewayFor []string `koanf:"gateway_for"`
	// Publish and Subscribe are the MQTT topic filters that it may use, with
	// placeholders; see stage.Placeholders.
	Publish   []string `koanf:"publish"`
	Subscribe []string `koanf:"subscribe"`
	// MessageRate and ByteRate bound what it publishes per second; 0 is no bound.
	MessageRate int `koanf:"message_rate"`
	ByteRate    int `koanf:"byte_rate"`
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

// Token is an admin token of the REST API.
type Token struct {
	// Hash is the SHA-256 of the token, as "tributary token create --print-config"
	// prints it.
	Hash string `koanf:"hash"`
	// Role is reader, operator or admin.
	Role string `koanf:"role"`
	// Applications are those that it is for; empty: all.
	Applications []string `koanf:"applications"`
}

// Default returns the configuration without applications and users.
func Default() Config { return Config{} }

// DefaultApplication returns the settings of an application that sets nothing.
func DefaultApplication() Application {
	return Application{RetentionAge: 7 * 24 * time.Hour, RetentionBytes: 1 << 30}
}

// DefaultDevice returns the settings of a device that sets nothing.
func DefaultDevice() Device {
	return Device{Publish: []string{"#"}, Subscribe: []string{"#"}}
}

// maxHashes bounds the passwords of one login: each failed login costs as many
// hash computations as the login with the most has. maxCredentials bounds the
// credentials of a device or user.
const (
	maxHashes      = 4
	maxCredentials = 16
)

// Validate returns everything that is impossible, each problem beginning with
// the key that it concerns and a colon.
func (c Config) Validate() error {
	var p problems
	for _, name := range slices.Sorted(maps.Keys(c.Applications)) {
		a, key := c.Applications[name], "applications."+quote(name)
		p.faults(key, checkApplication(a.entry(name)))
		taken := map[string]string{}
		for _, id := range slices.Sorted(maps.Keys(a.Devices)) {
			d, key := a.Devices[id], key+".devices."+quote(id)
			p.faults(key, checkDevice(d.entry(name, id)))
			p.hashes(key, d.PasswordHashes)
			p.fingerprints(key, d.Certificates)
			for _, alias := range d.Aliases {
				if _, ok := a.Devices[alias]; ok {
					p.add(key+".aliases", "%q is the name of a device", alias)
				} else if other := taken[alias]; other != "" {
					p.add(key+".aliases", "%q is an alias of %s already", alias, other)
				}
				taken[alias] = id
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Users)) {
		u, key := c.Users[name], "users."+quote(name)
		p.faults(key, checkUser(u.entry(name)))
		if len(u.PasswordHashes) == 0 {
			p.add(key, "a user needs password_hashes; make one with: tributary hash-password")
		}
		p.hashes(key, u.PasswordHashes)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Tokens)) {
		t, key := c.Tokens[name], "tokens."+quote(name)
		p.faults(key, checkToken(t.entry(name)))
		if _, ok := parseSum(t.Hash); !ok {
			p.add(key+".hash", "this is no hash of a token; make one with: tributary token create <name> --print-config")
		}
	}
	return errors.Join(p...)
}

// entry returns what the file declares as an entry of the registry.
func (a Application) entry(name string) *resource.Application {
	return &resource.Application{
		Name: name, Entry: fromFile, Anonymous: a.Anonymous, Messaging: a.Messaging,
		RetentionSeconds: seconds(a.RetentionAge), RetentionBytes: a.RetentionBytes,
		MessageRate: a.MessageRate, ByteRate: a.ByteRate,
	}
}

// seconds rounds away from 0, which would be no bound.
func seconds(d time.Duration) int64 {
	whole := d.Truncate(time.Second)
	switch {
	case whole < d:
		whole += time.Second
	case whole > d:
		whole -= time.Second
	}
	return int64(whole / time.Second)
}

func (d Device) entry(application, name string) *resource.Device {
	return &resource.Device{
		Application: application, Name: name, Entry: fromFile, Disabled: d.Disabled, Aliases: d.Aliases,
		GatewayFor: d.GatewayFor, Publish: d.Publish, Subscribe: d.Subscribe, MessageRate: d.MessageRate, ByteRate: d.ByteRate,
	}
}

func (u User) entry(name string) *resource.User {
	return &resource.User{Name: name, Entry: fromFile, Read: u.Read, Write: u.Write}
}

func (t Token) entry(name string) *resource.Token {
	return &resource.Token{Name: name, Entry: fromFile, Role: resource.Role(t.Role), Applications: t.Applications}
}

// fromFile marks what gateway.toml declares.
var fromFile = resource.Entry{FromFile: true, Revision: "file"}

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

func (p *problems) fingerprints(key string, list []string) {
	for _, s := range list {
		if _, ok := parseSum(s); !ok {
			p.add(key+".certificates", "%q is no SHA-256 fingerprint (64 hexadecimal digits)", s)
		}
	}
}

// faults adds what is wrong with an entry, under the keys of the file.
func (p *problems) faults(key string, faults []*resource.Fault) {
	for _, f := range faults {
		if name := keyOf(f.Field); name != "" {
			p.add(key+"."+name, "%s", f.Reason)
		} else {
			p.add(key, "%s", f.Reason)
		}
	}
}

// keyOf returns the key of gateway.toml for a member of an entry.
func keyOf(field string) string {
	switch field {
	case "name":
		return ""
	case "retentionSeconds":
		return "retention_age"
	}
	var b strings.Builder
	for _, c := range field {
		if unicode.IsUpper(c) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
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
