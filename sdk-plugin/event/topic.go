package event

import (
	"strings"
	"unicode/utf8"
)

// MatchTopic reports whether an MQTT topic filter matches a topic name (MQTT 5.0 section
// 4.7): + matches one level, # any number of levels, also none. A wildcard in the first level
// does not match a topic name that begins with $. Both must be valid. It allocates nothing.
func MatchTopic(filter, topic string) bool {
	if len(topic) > 0 && topic[0] == '$' && len(filter) > 0 && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	return Permits(filter, topic)
}

// Permits is MatchTopic without the rule about $: a right to publish to # is a right to
// publish to every topic.
func Permits(filter, topic string) bool {
	for {
		flevel, frest, fmore := strings.Cut(filter, "/")
		if flevel == "#" {
			return true
		}
		tlevel, trest, tmore := strings.Cut(topic, "/")
		if flevel != "+" && flevel != tlevel {
			return false
		}
		if !fmore {
			return !tmore
		}
		if !tmore {
			return frest == "#"
		}
		filter, topic = frest, trest
	}
}

// ValidFilter reports whether s is an MQTT topic filter (MQTT 5.0 section 4.7.1): 1 to 65,535
// bytes of UTF-8 without U+0000, + only as a whole level, # only as the whole last level.
func ValidFilter(s string) bool {
	if s == "" || len(s) > 65535 || !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return false
	}
	for more := hasWildcard(s); more; {
		var level string
		level, s, more = strings.Cut(s, "/")
		if level != "+" && (level != "#" || more) && hasWildcard(level) {
			return false
		}
	}
	return true
}

// ValidTopic reports whether s is an MQTT topic name: a topic filter without wildcards.
func ValidTopic(s string) bool { return !hasWildcard(s) && ValidFilter(s) }

func hasWildcard(s string) bool {
	return strings.IndexByte(s, '+') >= 0 || strings.IndexByte(s, '#') >= 0
}
