package event

import "strings"

// MatchTopic says whether an MQTT topic filter matches a topic name (MQTT 5.0
// section 4.7): + stands for one level, # for the rest including none, and a
// leading wildcard never matches a topic that starts with $. Both are taken to
// be valid. It allocates nothing.
func MatchTopic(filter, topic string) bool {
	if len(topic) > 0 && topic[0] == '$' && len(filter) > 0 && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
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
