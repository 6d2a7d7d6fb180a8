package access

import "strings"

// MayRead says whether the holder may read the application's log.
func (g *Grant) MayRead(application string) bool { return holds(g.Read, application) }

// MayWrite says whether the holder may command the application's devices.
func (g *Grant) MayWrite(application string) bool { return holds(g.Write, application) }

func holds(list []string, name string) bool {
	for _, n := range list {
		head, any := strings.CutSuffix(n, "*")
		if n == name || any && strings.HasPrefix(name, head) {
			return true
		}
	}
	return false
}
