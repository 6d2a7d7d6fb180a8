package access

import "strings"

// MayRead reports whether the holder may read the application's log.
func (g *Grant) MayRead(application string) bool { return MatchAnyName(g.Read, application) }

// MayWrite reports whether the holder may command the application's devices.
func (g *Grant) MayWrite(application string) bool { return MatchAnyName(g.Write, application) }

// MatchName reports whether a pattern matches a name. A * at the end of the pattern stands
// for any rest, also an empty one; elsewhere it is a character like others. Given a pattern
// in place of the name, it reports whether the first matches all that the second matches.
func MatchName(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

// MatchAnyName reports whether one of several patterns matches a name.
func MatchAnyName(patterns []string, name string) bool {
	for _, pattern := range patterns {
		if MatchName(pattern, name) {
			return true
		}
	}
	return false
}
