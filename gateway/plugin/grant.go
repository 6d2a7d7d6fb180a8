package plugin

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"tributary.io/sdk-plugin/event"
)

// Grant is what the operator allows one plugin: [plugins.<name>.grant] in
// gateway.toml. The zero value allows nothing but to reply and to fail, under
// the limits of Config. Timers, HTTP calls and judging credentials cannot be
// granted in this version.
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
func (g *Grant) Validate() error {
	if err := validLists(g.Publish, g.Emit); err != nil {
		return err
	}
	return validLimits(g.StateBytes, g.MemoryBytes, g.Fuel, g.Deadline)
}

// maxListed bounds the lists of a grant and a manifest.
const maxListed = 64

func validLists(publish, emit []string) error {
	if len(publish) > maxListed || len(emit) > maxListed {
		return fmt.Errorf("publish and emit may have %d entries each", maxListed)
	}
	for _, filter := range publish {
		if !event.ValidFilter(filter) {
			return fmt.Errorf("publish: %q is no topic filter: + must stand alone in its level, # alone in the last one", filter)
		}
	}
	for _, pattern := range emit {
		if pattern == "" || len(pattern) > 256 || !utf8.ValidString(pattern) || strings.Contains(strings.TrimSuffix(pattern, "*"), "*") {
			return fmt.Errorf("emit: %q is no event type: use a type, or a prefix of one with * at its end", pattern)
		}
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
func (g *Grant) missing(w *Wants) []string {
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
	list("publish", g.Publish, w.Publish, filterCovers)
	list("emit", g.Emit, w.Emit, patternCovers)
	if w.Pass && !g.Pass {
		lines = append(lines, "pass = true")
	}
	number("state_bytes", g.StateBytes, w.StateBytes)
	number("memory_bytes", g.MemoryBytes, w.MemoryBytes)
	number("fuel", g.Fuel, w.Fuel)
	if time.Duration(w.Deadline) > g.Deadline {
		lines = append(lines, fmt.Sprintf("deadline = %q", time.Duration(w.Deadline)))
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

// patternCovers says whether every type that want stands for is one of have's.
func patternCovers(have, want string) bool {
	if prefix, ok := strings.CutSuffix(have, "*"); ok {
		return strings.HasPrefix(want, prefix)
	}
	return have == want
}

// filterCovers says whether every topic that the filter want matches is matched
// by have. A topic name is a filter that matches itself only.
func filterCovers(have, want string) bool {
	if strings.HasPrefix(want, "$") && (strings.HasPrefix(have, "+") || strings.HasPrefix(have, "#")) {
		return false
	}
	for {
		h, hrest, hmore := strings.Cut(have, "/")
		if h == "#" {
			return true
		}
		w, wrest, wmore := strings.Cut(want, "/")
		if w == "#" || (h != "+" && h != w) {
			return false
		}
		switch {
		case !hmore && !wmore:
			return true
		case !wmore:
			return hrest == "#"
		case !hmore:
			return false
		}
		have, want = hrest, wrest
	}
}

// violation is an effect that the grant does not cover.
type violation struct {
	did string // what the plugin did
	key string // the key of the grant that would allow it; empty: no key can
}

// check returns the first effect that the grant does not cover, nil if none.
func (g *Grant) check(effects []event.Effect) *violation {
	for _, e := range effects {
		if v := g.checkEffect(e); v != nil {
			return v
		}
	}
	return nil
}

func (g *Grant) checkEffect(e event.Effect) *violation {
	switch e := e.(type) {
	case *event.Emit:
		if !anyCovers(g.Emit, e.Event.Type, patternCovers) {
			return &violation{fmt.Sprintf("emitted an event of type %q", e.Event.Type), "emit"}
		}
	case *event.Publish:
		if len(e.Topics) == 0 {
			return &violation{"published to no topic", ""}
		}
		for _, topic := range e.Topics {
			if !event.ValidTopic(topic) {
				return &violation{fmt.Sprintf("published to %q, which is no topic name", topic), ""}
			}
			if !anyCovers(g.Publish, topic, event.MatchTopic) {
				return &violation{fmt.Sprintf("published to topic %q", topic), "publish"}
			}
		}
	case *event.Put:
		if err := g.checkState(e.Key, e.Value); err != nil {
			return err
		}
	case *event.Delete:
		return g.checkState(e.Key, nil)
	case *event.Pass:
		if !g.Pass {
			return &violation{"passed an event on", "pass"}
		}
	case *event.Reply:
	case *event.SetTimer, *event.CancelTimer:
		return &violation{"used a timer, which this version of the gateway does not have", ""}
	case *event.Call:
		return &violation{"made an HTTP call, which this version of the gateway does not have", ""}
	case *event.Allow, *event.Deny:
		return &violation{"judged credentials, which this version of the gateway does not ask of plugins", ""}
	default:
		return &violation{fmt.Sprintf("used the unknown effect %T", e), ""}
	}
	return nil
}

func (g *Grant) checkState(key string, value []byte) *violation {
	if key == "" || len(key) > maxKeyBytes {
		return &violation{fmt.Sprintf("used a state key of %d bytes; 1 to %d are possible", len(key), maxKeyBytes), ""}
	}
	if size := int64(len(key) + len(value)); size > g.StateBytes {
		return &violation{fmt.Sprintf("wrote %d bytes of state", size), "state_bytes"}
	}
	return nil
}

// failure turns a violation into the permanent failure of the plugin's result.
func (v *violation) failure(plugin string) *event.Failure {
	const implementationError = 0x83 // MQTT 5.0 section 2.4
	const longest = 300              // what a plugin made up need not fill a log
	text := fmt.Sprintf("plugin %s %.*s", plugin, longest, v.did)
	if v.key != "" {
		text += fmt.Sprintf(", which it is not granted: see plugins.%s.grant.%s in gateway.toml", plugin, v.key)
	}
	return &event.Failure{Code: implementationError, Message: text}
}
