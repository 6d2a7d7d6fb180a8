// Package consumer turns an application's log into subscriptions: durable
// groups that share one log, each record to one member, and readers of their
// own. It may import store; server wires it to the listeners.
//
// Delivery contract. A record is handed to one member of a group, counts as
// done when that member acknowledges it, and goes to another member as soon as
// its member leaves. A record that the group's filter does not choose is done at once. A durable group
// continues behind the records that were
// done; positions are stored a moment later than they change, so a crash of
// the gateway repeats some records and never skips one. Records that are handed
// out for the first time go out in the order of the log; repeated ones first.
//
// Lock order: Consumer.flushing, Consumer.mu, group.mu, watched.mu. No lock is held while a receiver's
// deliver function runs or while the store is read.
package consumer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// Config is what users set.
type Config struct {
	// GroupExpiry is how long a durable group keeps its position while nobody is
	// connected.
	GroupExpiry time.Duration `koanf:"group_expiry"`
	// CursorInterval is how often changed positions are stored. A crash of the
	// gateway repeats what was acknowledged within it.
	CursorInterval time.Duration `koanf:"cursor_interval"`
	// MaxWindow bounds the records that one member may hold unacknowledged.
	MaxWindow int `koanf:"max_window"`
	// MaxGroups bounds the durable groups of one application.
	MaxGroups int `koanf:"max_groups"`
}

// Default returns the configuration that gateway.toml shows.
func Default() Config {
	return Config{GroupExpiry: 7 * 24 * time.Hour, CursorInterval: 100 * time.Millisecond, MaxWindow: 1024, MaxGroups: 1000}
}

// Validate reports the first impossible value.
func (c *Config) Validate() error {
	switch {
	case c.GroupExpiry < time.Minute:
		return fmt.Errorf("consumer.group_expiry is %v: use at least 1m", c.GroupExpiry)
	case c.CursorInterval < time.Millisecond || c.CursorInterval > time.Minute:
		return fmt.Errorf("consumer.cursor_interval is %v: use 1ms to 1m", c.CursorInterval)
	case c.MaxWindow < 1 || c.MaxWindow > 65535:
		return fmt.Errorf("consumer.max_window is %d: use 1 to 65535", c.MaxWindow)
	case c.MaxGroups < 1:
		return fmt.Errorf("consumer.max_groups is %d: use at least 1", c.MaxGroups)
	}
	return nil
}

// Store is what consumers need of a store.
type Store interface {
	Commit(b *store.Batch, done func(error)) error
	Get(k store.Key) ([]byte, store.Revision, error)
	Scan(kind store.Kind, prefix string, fn func(name string, value []byte, rev store.Revision) bool) error
	Read(l store.Log, from uint64, limit int, fn func(offset uint64, t time.Time, record []byte) bool) error
	Bounds(l store.Log) (first, next uint64, err error)
	OffsetAt(l store.Log, t time.Time) (uint64, error)
	Watch(l store.Log, fn func(next uint64)) (stop func())
}

// Registry says which applications there are.
type Registry interface {
	Exists(application string) bool
}

// Consumer hands out logs. Its methods are safe for concurrent use.
type Consumer struct {
	cfg      Config
	store    Store
	registry Registry
	log      *slog.Logger

	flushing sync.Mutex // held while positions are stored or deleted

	mu     sync.Mutex
	groups map[groupKey]*group
	logs   map[store.Log]*watched
	closed bool
	pumps  sync.WaitGroup
	stats  stats
}

// groupKey names a group. Readers of their own have a number instead of a name.
type groupKey struct {
	log  store.Log
	name string
	own  uint64
}

// watched is a log with the groups that read it, so that one watch serves them
// all. It stays until the Consumer ends: there are two logs an application.
// Its lock is the last of the lock order, since the store's goroutine takes it.
type watched struct {
	mu     sync.Mutex
	groups map[*group]struct{}
	stop   func()
}

func (w *watched) grown(uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for g := range w.groups {
		g.signal()
	}
}

// New returns a Consumer; Run must run for positions to be stored.
func New(cfg Config, st Store, reg Registry, log *slog.Logger) *Consumer {
	return &Consumer{cfg: cfg, store: st, registry: reg, log: log, groups: map[groupKey]*group{}, logs: map[store.Log]*watched{}}
}

// Run stores changed positions until ctx ends, then ends all memberships, stores
// the last positions and returns.
func (c *Consumer) Run(ctx context.Context) error {
	tick := time.NewTicker(c.cfg.CursorInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := c.flush(); err != nil && !errors.Is(err, store.ErrClosed) {
				c.log.Error("the positions of consumer groups could not be stored; a restart would repeat events", "error", err)
			}
		case <-ctx.Done():
			return c.shut()
		}
	}
}

// shut ends every membership, waits for the pumps and stores the positions.
func (c *Consumer) shut() error {
	c.mu.Lock()
	c.closed = true
	var groups []*group
	for _, g := range c.groups {
		groups = append(groups, g)
	}
	c.mu.Unlock()
	for _, g := range groups {
		g.dissolve()
	}
	c.pumps.Wait()
	for _, w := range c.logs {
		w.stop()
	}
	return c.flush()
}

// Join makes the caller a member of the subscription's group, or a reader of
// its own. deliver gets the records, from one goroutine at a time; it must not
// block, and may still be called while Leave runs. Errors are *stage.Error.
func (c *Consumer) Join(sub stage.Subscription, deliver func(stage.Record)) (stage.Membership, error) {
	if !c.registry.Exists(sub.Application) {
		return nil, &stage.Error{Code: event.NotAuthorized, Reason: "no such application, or no right to read it"}
	}
	l := store.Events(sub.Application)
	if sub.Quarantine {
		l = store.Quarantine(sub.Application)
	}
	key := groupKey{log: l, name: sub.Group}
	m := &member{window: min(max(sub.Window, 1), c.cfg.MaxWindow), bytes: sub.Bytes, filter: sub.Filter, deliver: deliver,
		out: map[uint64]int{}}
	if m.bytes <= 0 {
		m.bytes = math.MaxInt
	}
	fresh, err := c.enter(m, key, sub.Start)
	if err != nil {
		return nil, err
	}
	if fresh {
		// Commits become durable in order: once an event behind this position is,
		// the group is, too. So there is nothing to wait for.
		m.group.mu.Lock()
		put := c.put(m.group, time.Now())
		m.group.mu.Unlock()
		if err := c.store.Commit(&store.Batch{Puts: []store.Put{put}}, func(error) {}); err != nil {
			m.Leave()
			return nil, &stage.Error{Code: event.ServerUnavailable, Reason: "the group cannot be stored at the moment"}
		}
	}
	return m, nil
}

// Position returns the offset where a reader of its own would begin.
func (c *Consumer) Position(application string, start stage.Start) (uint64, error) {
	if !c.registry.Exists(application) {
		return 0, &stage.Error{Code: event.NotAuthorized, Reason: "no such application, or no right to read it"}
	}
	at, _, err := c.position(groupKey{log: store.Events(application)}, start)
	if err != nil {
		return 0, &stage.Error{Code: event.UnspecifiedError, Reason: "the log cannot be read at the moment; see the gateway's log"}
	}
	return at, nil
}

// enter puts a member into its group, which it makes or revives where needed.
// fresh says that the group is durable and has no stored position.
func (c *Consumer) enter(m *member, key groupKey, start stage.Start) (fresh bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false, &stage.Error{Code: event.ServerUnavailable, Reason: "the gateway is stopping"}
	}
	if key.name == "" {
		c.stats.own++
		key.own = c.stats.own
	}
	g := c.groups[key]
	if g == nil {
		next, isNew, err := c.position(key, start)
		if err != nil {
			return false, &stage.Error{Code: event.UnspecifiedError, Reason: "the log cannot be read at the moment; see the gateway's log"}
		}
		fresh = isNew && key.name != ""
		if fresh {
			if err := c.roomForGroup(key); err != nil {
				return false, err
			}
		}
		g = &group{c: c, key: key, next: next, wake: make(chan struct{}, 1)}
		c.groups[key] = g
		c.watch(g)
	}
	m.group = g
	return fresh, g.join(m)
}

// position decides where a group that is not in memory begins. fresh says that
// it has no stored position.
func (c *Consumer) position(key groupKey, start stage.Start) (next uint64, fresh bool, err error) {
	if key.name != "" {
		v, _, err := c.store.Get(cursorKey(key))
		if err != nil {
			return 0, false, c.unreadable(key, err)
		}
		if len(v) == 8 {
			return binary.BigEndian.Uint64(v), false, nil
		}
	}
	first, end, err := c.store.Bounds(key.log)
	if err != nil {
		return 0, false, c.unreadable(key, err)
	}
	switch start.Kind {
	case stage.StartFirst:
		return first, true, nil
	case stage.StartLast:
		if end > first {
			return end - 1, true, nil
		}
		return end, true, nil
	case stage.StartOffset:
		return min(max(start.Offset, first), end), true, nil
	case stage.StartTime:
		at, err := c.store.OffsetAt(key.log, start.Time)
		if err != nil {
			return 0, false, c.unreadable(key, err)
		}
		return at, true, nil
	}
	return end, true, nil
}

func (c *Consumer) unreadable(key groupKey, err error) error {
	c.log.Error("a log could not be read for a consumer", "log", string(key.log), "group", key.name, "error", err)
	return fmt.Errorf("finding the start of group %q in log %q: %w", key.name, key.log, err)
}

// roomForGroup refuses a new durable group beyond the limit of its application.
func (c *Consumer) roomForGroup(key groupKey) error {
	n := 0
	if err := c.store.Scan(store.Cursor, string(key.log)+"\x00", func(string, []byte, store.Revision) bool {
		n++
		return n < c.cfg.MaxGroups
	}); err != nil {
		return &stage.Error{Code: event.UnspecifiedError, Reason: "the groups of the application cannot be read at the moment"}
	}
	if n >= c.cfg.MaxGroups {
		return &stage.Error{Code: event.QuotaExceeded,
			Reason: fmt.Sprintf("the application has %d consumer groups already: raise consumer.max_groups", n)}
	}
	return nil
}

// watch makes growth of the group's log wake it. c.mu is held.
func (c *Consumer) watch(g *group) {
	w := c.logs[g.key.log]
	if w == nil {
		w = &watched{groups: map[*group]struct{}{}}
		c.logs[g.key.log] = w
		w.stop = c.store.Watch(g.key.log, w.grown)
	}
	w.mu.Lock()
	w.groups[g] = struct{}{}
	w.mu.Unlock()
}

// forget drops a group from memory. c.mu is held.
func (c *Consumer) forget(g *group) {
	delete(c.groups, g.key)
	w := c.logs[g.key.log]
	w.mu.Lock()
	delete(w.groups, g)
	w.mu.Unlock()
}
