package packet

import (
	"strings"

	"tributary.io/sdk-plugin/event"
)

// sharePrefix starts the filter of a shared subscription, section 4.8.2.
const sharePrefix = "$share/"

// ValidTopic says whether name is a topic name, section 4.7.
func ValidTopic(name string) bool { return event.ValidTopic(name) }

// ValidFilter says whether filter is a topic filter, section 4.7. Of a shared
// subscription the share name is checked too: it has at least one character and
// no wildcard, and a filter follows it, [MQTT-4.8.2-1], [MQTT-4.8.2-2].
func ValidFilter(filter string) bool {
	if strings.HasPrefix(filter, sharePrefix) {
		name, rest, _ := strings.Cut(filter[len(sharePrefix):], "/")
		return len(filter) <= maxString && event.ValidTopic(name) && event.ValidFilter(rest)
	}
	return event.ValidFilter(filter)
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
// section 4.7, [MQTT-4.7.2-1].
func Match(filter, topic string) bool { return event.MatchTopic(filter, topic) }
