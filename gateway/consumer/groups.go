package consumer

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"tributary.io/gateway/resource"
	"tributary.io/gateway/store"
)

// position is the state of a durable group.
type position struct {
	committed uint64
	members   int
	out       int
}

// positions returns the positions of durable groups, connected or not, of the logs whose names
// begin with prefix. It returns at most limit of those that are not connected.
func (c *Consumer) positions(prefix string, limit int) map[groupKey]position {
	groups := map[groupKey]position{}
	_ = c.store.Scan(store.Cursor, prefix, func(name string, v []byte, _ store.Revision) bool {
		l, group := splitCursor(name)
		if len(v) == 8 {
			groups[groupKey{log: l, name: group}] = position{committed: binary.BigEndian.Uint64(v)}
		}
		return len(groups) < limit
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, g := range c.groups {
		if k.name == "" || !strings.HasPrefix(string(k.log)+"\x00", prefix) {
			continue
		}
		g.mu.Lock()
		groups[k] = position{g.committed(), len(g.members), len(g.out)}
		g.mu.Unlock()
	}
	return groups
}

// Groups returns the durable groups of an application, by their names.
func (c *Consumer) Groups(application string) []resource.Group {
	var list []resource.Group
	for _, l := range []store.Log{store.Events(application), store.Quarantine(application)} {
		_, next, err := c.store.Bounds(l)
		if err != nil {
			c.log.Error("a log could not be read for the list of its groups", "log", string(l), "error", err)
			continue
		}
		for k, p := range c.positions(string(l)+"\x00", c.cfg.MaxGroups) {
			list = append(list, resource.Group{
				Application: application, Quarantine: l == store.Quarantine(application), Name: k.name,
				Position: p.committed, Lag: next - min(p.committed, next), Members: p.members, InFlight: p.out,
			})
		}
	}
	slices.SortFunc(list, func(a, b resource.Group) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Position, b.Position))
	})
	return list
}

// DeleteGroup forgets a durable group that has no connected member. A member that joins later
// begins a new group. The error is a *resource.Fault if the group cannot be deleted.
func (c *Consumer) DeleteGroup(application string, quarantine bool, name string) error {
	l := store.Events(application)
	if quarantine {
		l = store.Quarantine(application)
	}
	key := groupKey{log: l, name: name}
	c.flushing.Lock()
	defer c.flushing.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.groups[key]
	stored, _, err := c.store.Get(cursorKey(key))
	switch {
	case err != nil:
		return fmt.Errorf("reading the position of group %q: %w", name, err)
	case g == nil && stored == nil || name == "":
		return &resource.Fault{Kind: resource.NotFound, Reason: fmt.Sprintf("there is no group %s", name)}
	}
	if g != nil {
		g.mu.Lock()
		members, pumping := len(g.members), g.pumping
		g.mu.Unlock()
		if members > 0 || pumping {
			return &resource.Fault{Kind: resource.Conflict, Reason: fmt.Sprintf("the group %s is in use; end its connections first", name)}
		}
		c.forget(g)
	}
	// No member can join while c.mu is held, so the next one finds no position.
	if err := store.CommitWait(c.store, &store.Batch{Deletes: []store.Key{cursorKey(key)}}); err != nil {
		return fmt.Errorf("deleting the position of group %q: %w", name, err)
	}
	return nil
}
