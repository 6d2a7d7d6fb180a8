package plugin

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"tributary.io/gateway/access"
	"tributary.io/gateway/outbound/place"
	"tributary.io/gateway/topic"
)

// Grant is what the operator allows one plugin: [plugins.<name>.grant] in
// gateway.toml. The zero value allows nothing but to reply and to fail, under
// the limits of Config.
type Grant struct {
	// Publish holds the MQTT topic filters that the plugin may publish to.
	Publish []string `koanf:"publish"`
	// Emit holds the types of events that it may emit: exact, or a prefix that
	// ends in "*".
	Emit []string `koanf:"emit"`
	// Pass lets it hand events on to the next matching route.
	Pass bool `koanf:"pass"`
	// About lets the events that it emits be about any device of the application, known
	// to the registry or not: the plugin answers for whom its users speak.
	About bool `koanf:"about"`
	// StateBytes is how much state it may keep per application, keys and values
	// together; 0 is none. The host checks each write, the router the sum.
	StateBytes int64 `koanf:"state_bytes"`
	// Timers is how many timers it may have set at once per application. The timer
	// stage checks the number.
	Timers int `koanf:"timers"`
	// FileBytes is how many bytes of files it may keep per application; 0 is none. The
	// stage that keeps files checks the sum.
	FileBytes int64 `koanf:"file_bytes"`
	// Uploads holds the paths of HTTP requests whose bodies the gateway writes to disk
	// for this plugin. They are written like topic filters: "/v1/devices/+/dumps/#".
	Uploads []string `koanf:"uploads"`
	// Hosts holds the places that it may make HTTP calls to, as place.Parse reads them.
	Hosts []string `koanf:"hosts"`
	// PrivateNetworks holds the address ranges ("10.0.0.0/8") that its calls may
	// reach although they are not public. A host that is given by its address needs
	// none. The stage that makes the calls checks addresses.
	PrivateNetworks []string `koanf:"private_networks"`
	// Judge bounds the credentials that it may accept.
	Judge Judge `koanf:"judge"`
	// MemoryBytes, Fuel and Deadline replace those of Config if they are not 0.
	MemoryBytes int64         `koanf:"memory_bytes"`
	Fuel        int64         `koanf:"fuel"`
	Deadline    time.Duration `koanf:"deadline"`

	wanted bool `koanf:"-"` // made of what the plugin itself wants, for a test of the plugin
}

// Judge bounds what a plugin may allow to the clients that it lets in.
type Judge struct {
	// Applications names the applications whose devices it may let in; "*" is all of them. If it
	// is empty, the plugin judges no one.
	Applications []string `koanf:"applications" json:"applications,omitempty"`
	// Publish and Subscribe hold the topic filters that it may allow at most. They
	// may have the placeholders of stage.Placeholders.
	Publish   []string `koanf:"publish" json:"publish,omitempty"`
	Subscribe []string `koanf:"subscribe" json:"subscribe,omitempty"`
}

// Validate says what is impossible in the grant, naming the key.
func (g *Grant) Validate() error {
	for _, l := range []struct {
		key   string
		items []string
		valid func(string) error
	}{
		{"publish", g.Publish, validFilter}, {"emit", g.Emit, validPattern},
		{"hosts", g.Hosts, validHost}, {"uploads", g.Uploads, validUpload}, {"private_networks", g.PrivateNetworks, validNetwork},
		{"judge.applications", g.Judge.Applications, validApplication},
		{"judge.publish", g.Judge.Publish, validFilter}, {"judge.subscribe", g.Judge.Subscribe, validFilter},
	} {
		if len(l.items) > maxListed {
			return fmt.Errorf("%s may have %d entries", l.key, maxListed)
		}
		for _, item := range l.items {
			if err := l.valid(item); err != nil {
				return fmt.Errorf("%s: %w", l.key, err)
			}
		}
	}
	if g.FileBytes < 0 || g.FileBytes > 1<<50 {
		return fmt.Errorf("file_bytes is %d: use 0 to %d", g.FileBytes, int64(1)<<50)
	}
	if g.Timers < 0 || g.Timers > maxTimers {
		return fmt.Errorf("timers is %d: use 0 to %d", g.Timers, maxTimers)
	}
	return validLimits(g.StateBytes, g.MemoryBytes, g.Fuel, g.Deadline)
}

// maxListed bounds the lists of a grant and a manifest.
const (
	maxListed = 64
	maxTimers = 10_000_000
)

func validFilter(filter string) error {
	if !topic.ValidFilter(filter) {
		return fmt.Errorf("%q is no topic filter: + must stand alone in its level, # alone in the last one", filter)
	}
	return nil
}

func validUpload(path string) error {
	if !strings.HasPrefix(path, "/") || !topic.ValidFilter(path) {
		return fmt.Errorf("%q is no path: it begins with /; + stands for one of its parts, # for all that follow", path)
	}
	return nil
}

func validPattern(pattern string) error {
	if pattern == "" || len(pattern) > 256 || !utf8.ValidString(pattern) || strings.Contains(strings.TrimSuffix(pattern, "*"), "*") {
		return fmt.Errorf("%q is no event type: use a type, or a prefix of one with * at its end", pattern)
	}
	return nil
}

func validHost(host string) error {
	_, err := place.Parse(host)
	return err
}

func validNetwork(network string) error {
	if p, err := netip.ParsePrefix(network); err != nil || p != p.Masked() {
		return fmt.Errorf("%q is no range of addresses: use one like 10.0.0.0/8", network)
	}
	return nil
}

func validApplication(name string) error {
	if name != "*" && !validName(name) {
		return fmt.Errorf("%q is no application's name: use 1 to 64 of a-z, 0-9 and -, or * for all", name)
	}
	return nil
}

func validLimits(state, memory, fuel int64, deadline time.Duration) error {
	switch {
	case state < 0 || state > 1<<40:
		return fmt.Errorf("state_bytes is %d: use 0 to %d", state, int64(1<<40))
	case memory < 0 || memory > maxMemory:
		return fmt.Errorf("memory_bytes is %d: use up to %d, or 0 for the default", memory, maxMemory)
	case fuel < 0 || fuel > maxFuel:
		return fmt.Errorf("fuel is %d: use up to %d, or 0 for the default", fuel, int64(maxFuel))
	case deadline < 0 || deadline > time.Hour || (deadline > 0 && deadline < time.Millisecond):
		return fmt.Errorf("deadline is %v: use 1ms to 1h, or 0 for the default", deadline)
	}
	return nil
}

// withDefaults fills in the limits that the grant leaves open.
func (g Grant) withDefaults(c *Config) Grant {
	if g.MemoryBytes == 0 {
		g.MemoryBytes = c.MemoryBytes
	}
	if g.Fuel == 0 {
		g.Fuel = c.Fuel
	}
	if g.Deadline == 0 {
		g.Deadline = c.Deadline
	}
	return g
}

// missing returns the lines of gateway.toml that would grant what a manifest
// wants beyond the grant, which has its defaults filled in; none: all is granted.
func (g *Grant) missing(w *Grant) []string {
	var lines []string
	list := func(key string, have, want []string, covers func(have, want string) bool) {
		all := append([]string{}, have...)
		for _, x := range want {
			if !anyCovers(all, x, covers) {
				all = append(all, x)
			}
		}
		if len(all) > len(have) {
			for i := range all {
				all[i] = strconv.Quote(all[i])
			}
			lines = append(lines, key+" = ["+strings.Join(all, ", ")+"]")
		}
	}
	number := func(key string, have, want int64) {
		if want > have {
			lines = append(lines, fmt.Sprintf("%s = %d", key, want))
		}
	}
	list("publish", g.Publish, w.Publish, topic.Covers)
	list("emit", g.Emit, w.Emit, access.MatchName)
	if w.Pass && !g.Pass {
		lines = append(lines, "pass = true")
	}
	if w.About && !g.About {
		lines = append(lines, "about = true")
	}
	number("state_bytes", g.StateBytes, w.StateBytes)
	number("timers", int64(g.Timers), int64(w.Timers))
	number("file_bytes", g.FileBytes, w.FileBytes)
	list("uploads", g.Uploads, w.Uploads, topic.Covers)
	list("hosts", g.Hosts, w.Hosts, hostCovers)
	list("judge.applications", g.Judge.Applications, w.Judge.Applications, access.MatchName)
	list("judge.publish", g.Judge.Publish, w.Judge.Publish, topic.Covers)
	list("judge.subscribe", g.Judge.Subscribe, w.Judge.Subscribe, topic.Covers)
	number("memory_bytes", g.MemoryBytes, w.MemoryBytes)
	number("fuel", g.Fuel, w.Fuel)
	if w.Deadline > g.Deadline {
		lines = append(lines, fmt.Sprintf("deadline = %q", w.Deadline))
	}
	return lines
}

func anyCovers(have []string, want string, covers func(have, want string) bool) bool {
	for _, h := range have {
		if covers(h, want) {
			return true
		}
	}
	return false
}

// hostCovers reports whether every place for HTTP calls that want stands for is one of have's.
func hostCovers(have, want string) bool {
	h, herr := place.Parse(have)
	w, werr := place.Parse(want)
	return herr == nil && werr == nil && h.Covers(w)
}
