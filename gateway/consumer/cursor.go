package consumer

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"tributary.io/gateway/metric"
	"tributary.io/gateway/store"
)

// idle is called when a group's last member has left and its pump has ended. A
// reader of its own is forgotten at once, a durable group when its position is
// stored.
func (c *Consumer) idle(g *group) {
	if g.key.name != "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(g)
}

// flush stores every changed position in one commit and waits until it is
// durable. Positions of groups in use are stored again before they expire.
func (c *Consumer) flush() error {
	c.flushing.Lock()
	defer c.flushing.Unlock()
	c.mu.Lock()
	now := time.Now()
	var b store.Batch
	var flushed []*group
	for _, g := range c.groups {
		if g.key.name == "" {
			continue
		}
		g.mu.Lock()
		switch {
		case g.dirty || now.Sub(g.stored) > c.cfg.GroupExpiry/4:
			b.Puts = append(b.Puts, c.put(g, now))
			flushed = append(flushed, g)
			g.dirty, g.stored = false, now
		case len(g.members) == 0 && !g.pumping:
			g.mu.Unlock()
			c.forget(g)
			continue
		}
		g.mu.Unlock()
	}
	c.mu.Unlock()
	if len(b.Puts) == 0 {
		return nil
	}
	if err := store.CommitWait(c.store, &b); err != nil {
		for _, g := range flushed {
			g.mu.Lock()
			g.dirty = true
			g.mu.Unlock()
		}
		return fmt.Errorf("storing the positions of %d consumer groups: %w", len(flushed), err)
	}
	return nil
}

// put is the write that stores a group's position. g.mu is held.
func (c *Consumer) put(g *group, now time.Time) store.Put {
	return store.Put{Key: cursorKey(g.key), Value: binary.BigEndian.AppendUint64(nil, g.committed()), Expires: now.Add(c.cfg.GroupExpiry)}
}

// cursorKey names a group's stored position: "<log>\x00<group>".
func cursorKey(k groupKey) store.Key {
	return store.Key{Kind: store.Cursor, Name: string(k.log) + "\x00" + k.name}
}

// splitCursor is the inverse of cursorKey's name.
func splitCursor(name string) (l store.Log, group string) {
	a, b, _ := strings.Cut(name, "\x00")
	return store.Log(a), b
}

// stats counts what the consumer did.
type stats struct {
	own                                          uint64 // numbers readers of their own; under Consumer.mu
	delivered, redelivered, filtered, readErrors atomic.Uint64
}

// maxGroupMetrics bounds the label sets of one scrape.
const maxGroupMetrics = 10_000

// Metrics returns the counters and the lag of every durable group, connected or not.
func (c *Consumer) Metrics() []metric.Sample {
	var set metric.Set
	set.Counter("tributary_consumer_delivered_total", "Records handed to consumers, repeats included.", c.stats.delivered.Load())
	set.Counter("tributary_consumer_redelivered_total", "Records handed out again because a member left without acknowledging them.",
		c.stats.redelivered.Load())
	set.Counter("tributary_consumer_filtered_total", "Records that the filter of a group or reader left out.", c.stats.filtered.Load())
	set.Counter("tributary_consumer_read_errors_total", "Times that a log could not be read for a consumer.", c.stats.readErrors.Load())
	for k, p := range c.positions("", maxGroupMetrics) {
		_, next, err := c.store.Bounds(k.log)
		if err != nil {
			continue
		}
		labels := []metric.Label{{Name: "log", Value: string(k.log)}, {Name: "group", Value: k.name}}
		set.Gauge("tributary_consumer_group_lag_records", "Records of the log that the group has not acknowledged.",
			float64(next-min(p.committed, next)), labels...)
		set.Gauge("tributary_consumer_group_members", "Connected members of the group.", float64(p.members), labels...)
		set.Gauge("tributary_consumer_group_unacknowledged_records", "Records handed out and not acknowledged.", float64(p.out), labels...)
	}
	return set
}
