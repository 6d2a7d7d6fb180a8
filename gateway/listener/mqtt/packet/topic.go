package packet

import (
	"strings"
	"unicode/utf8"
)

// sharePrefix starts the filter of a shared subscription, section 4.8.2.
const sharePrefix = "$share/"

// ValidTopic says whether name is a topic name, section 4.7: 1 to 65,535 bytes of
// UTF-8 without U+0000 and wildcards.
func ValidTopic(name string) bool {
	return validName(name) && !hasWildcard(name)
}

// ValidFilter says whether filter is a topic filter, section 4.7: wildcards stand
// alone in their level, and # only in the last one. Of a shared subscription the
// share name is checked too: it has at least one character and no wildcard, and a
// filter follows it, [MQTT-4.8.2-1], [MQTT-4.8.2-2].
func ValidFilter(filter string) bool {
	if !validName(filter) {
		return false
	}
	if strings.HasPrefix(filter, sharePrefix) {
		name, rest, _ := strings.Cut(filter[len(sharePrefix):], "/")
		if name == "" || rest == "" || hasWildcard(name) {
			return false
		}
		filter = rest
	}
	for i := 0; i < len(filter); i++ {
		last := i+1 == len(filter)
		switch filter[i] {
		case '+': // [MQTT-4.7.1-2]
			if i > 0 && filter[i-1] != '/' || !last && filter[i+1] != '/' {
				return false
			}
		case '#': // [MQTT-4.7.1-1]
			if i > 0 && filter[i-1] != '/' || !last {
				return false
			}
		}
	}
	return true
}

// SplitShare takes a valid filter $share/<name>/<filter> apart. shared is false,
// and rest the filter itself, for one that is not a shared subscription.
func SplitShare(filter string) (name, rest string, shared bool) {
	if !strings.HasPrefix(filter, sharePrefix) {
		return "", filter, false
	}
	name, rest, _ = strings.Cut(filter[len(sharePrefix):], "/")
	return name, rest, true
}

// Match says whether a valid filter (without $share) matches a valid topic name,
// section 4.7. A wildcard in the first level does not match a topic that starts
// with $, [MQTT-4.7.2-1].
func Match(filter, topic string) bool {
	if topic != "" && topic[0] == '$' && filter != "" && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	for {
		if filter == "#" {
			return true
		}
		level, filterRest, filterMore := strings.Cut(filter, "/")
		name, topicRest, topicMore := strings.Cut(topic, "/")
		if level != "+" && level != name {
			return false
		}
		if !topicMore { // "a/#" matches its parent "a" as well
			return !filterMore || filterRest == "#"
		}
		if !filterMore {
			return false
		}
		filter, topic = filterRest, topicRest
	}
}

// validName checks what names and filters have in common, [MQTT-4.7.3-1] to -3.
func validName(s string) bool {
	return s != "" && len(s) <= maxString && utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}

func hasWildcard(s string) bool {
	return strings.IndexByte(s, '+') >= 0 || strings.IndexByte(s, '#') >= 0
}
