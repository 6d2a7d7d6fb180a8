// Package topic is the gateway's one home of MQTT topic names and topic filters (MQTT 5.0
// section 4.7): what is valid, what matches, what one filter covers of another, and two
// trees that answer this for many at once. FilterTree finds the filters that match a name,
// NameTree finds the names that a filter matches.
//
// What plugins also need is implemented in sdk-plugin/event, and used from there.
//
// Functions take valid names and filters unless they say otherwise. None allocates.
package topic

import (
	"strings"

	"tributary.io/sdk-plugin/event"
)

// ValidName reports whether s is a topic name: 1 to 65,535 bytes of UTF-8 without U+0000
// and without wildcards, section 4.7.
func ValidName(s string) bool { return event.ValidTopic(s) }

// ValidFilter reports whether s is a topic filter, section 4.7.1. It does not look into
// $share/…: use ValidSubscription for the filters of a SUBSCRIBE.
func ValidFilter(s string) bool { return event.ValidFilter(s) }

// ValidSubscription reports whether a client may subscribe to s: a topic filter, or
// $share/<name>/<filter>, whose share name has at least one character and no wildcard,
// [MQTT-4.8.2-1], [MQTT-4.8.2-2].
func ValidSubscription(s string) bool {
	if !strings.HasPrefix(s, sharePrefix) {
		return event.ValidFilter(s)
	}
	name, filter, _ := strings.Cut(s[len(sharePrefix):], "/")
	return len(s) <= maxBytes && event.ValidTopic(name) && event.ValidFilter(filter)
}

const (
	sharePrefix = "$share/" // of a shared subscription, section 4.8.2
	maxBytes    = 65_535    // of a string in an MQTT packet
)

// SplitShare takes the filter of a SUBSCRIBE apart. For $share/<name>/<filter> it returns
// the share name and the filter. For any other s, shared is false and filter is s.
func SplitShare(s string) (name, filter string, shared bool) {
	if !strings.HasPrefix(s, sharePrefix) {
		return "", s, false
	}
	name, filter, _ = strings.Cut(s[len(sharePrefix):], "/")
	return name, filter, true
}

// Match reports whether a filter matches a topic name. A wildcard in the first level does
// not match a name that begins with $, [MQTT-4.7.2-1].
func Match(filter, name string) bool { return event.MatchTopic(filter, name) }

// Permits is Match without the rule about $: a right to publish to # is one to publish to
// every topic.
func Permits(filter, name string) bool { return event.Permits(filter, name) }

// Covers reports whether filter matches every topic name that other matches, so that a
// right to filter is also one to other. A topic name is a filter that matches only itself.
//
// The empty name counts, although no topic has it. The filter +/# is not seen to match all
// that # matches.
func Covers(filter, other string) bool {
	if strings.HasPrefix(other, "$") && startsWithWildcard(filter) {
		return false
	}
	for {
		level, rest, more := strings.Cut(filter, "/")
		if level == "#" {
			return true
		}
		otherLevel, otherRest, otherMore := strings.Cut(other, "/")
		switch {
		case otherLevel == "#", level != "+" && level != otherLevel:
			return false
		case !otherMore:
			return !more || rest == "#"
		case !more:
			return false
		}
		filter, other = rest, otherRest
	}
}

// Overlaps reports whether a topic name exists that both filters permit (see Permits); the
// empty name counts. Any text may be given: a level that is neither + nor # stands for itself.
func Overlaps(a, b string) bool {
	for {
		levelA, restA, moreA := strings.Cut(a, "/")
		levelB, restB, moreB := strings.Cut(b, "/")
		switch {
		case levelA == "#" || levelB == "#":
			return true
		case levelA != levelB && levelA != "+" && levelB != "+":
			return false
		case !moreA && !moreB:
			return true
		case !moreA:
			return restB == "#" || strings.HasPrefix(restB, "#/")
		case !moreB:
			return restA == "#" || strings.HasPrefix(restA, "#/")
		}
		a, b = restA, restB
	}
}

func startsWithWildcard(filter string) bool {
	return strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")
}
