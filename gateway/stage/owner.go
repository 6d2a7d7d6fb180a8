package stage

import "strings"

// Owner takes the name of a key "<application>\x00<plugin>\x00<rest>" apart: the plugin,
// and the part that counts towards one limit, which names the application and the plugin.
func Owner(name string) (owner, plugin string) {
	application, rest, _ := strings.Cut(name, "\x00")
	plugin, _, _ = strings.Cut(rest, "\x00")
	return application + "\x00" + plugin, plugin
}

// Counts is how much each owner has of something. It is not safe for concurrent use.
type Counts map[string]int

// Add changes how much an owner has, and returns it.
func (c Counts) Add(owner string, by int) int {
	n := c[owner] + by
	if n == 0 {
		delete(c, owner)
	} else if by != 0 {
		c[owner] = n
	}
	return n
}
