// Package timer keeps the timers of plugins: durable, in the same commit as the
// other effects of the event that sets one, until the event that a timer becomes
// is committed, which takes the timer out of the store in the same batch. So a
// timer fires once, whatever happens to the process in between. It imports stage
// and store; server wires it to the router.
//
// Two keys of kind store.Timer stand for a timer, always written together:
//
//	k<application>\x00<plugin>\x00<key>          → when (8 bytes), then the event, as protobuf
//	t<when><application>\x00<plugin>\x00<key>    → nothing; finds what is due
//
// when is in Unix nanoseconds, big-endian. Only the timers that are due next are
// held in memory, at most window of them.
package timer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"tributary.io/gateway/metric"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// Store is what timers need of a store.
type Store interface {
	Commit(b *store.Batch, done func(error)) error
	Get(k store.Key) ([]byte, store.Revision, error)
	ScanRange(r store.Range, fn func(name string, value []byte, rev store.Revision) bool) error
}

// Router takes the events that timers become.
type Router interface {
	SubmitDue(plugin string, in *event.Inbound, due *store.Batch, done func(stage.Outcome))
	Lanes() int
	Lane(in *event.Inbound) int
}

const (
	// window is how many keys of timers are held in memory at most.
	window = 4096
	// maxInHand is how many timers of one lane are on their way at most, with their
	// data; maxBehind is how many names of all lanes wait for such a place.
	maxInHand = 512
	maxBehind = 1 << 16
	// perLane is how many timer events of one lane may be under way at once. It
	// leaves the devices of the lane their share after a start with many late timers.
	perLane = 32
)

// Timers keeps the timers of all plugins. It is safe for concurrent use.
type Timers struct {
	store  Store
	router Router
	known  func(plugin string) bool
	log    *slog.Logger

	mu      sync.Mutex
	pending stage.Counts
	next    earliest
	held    map[string]place // of due keys that are in memory
	horizon string           // due keys from it on are on disk only; "": none are
	behind  int              // names in the lanes' backlogs
	wake    chan struct{}

	lanes []*lane

	fired, dropped atomic.Uint64
	late           metric.Histogram
}

// lane is the way of timers to one lane of the router. A lane that is slow keeps
// its timers in its backlog, so that those of other lanes go on.
type lane struct {
	in chan *firing // has room for all that are in hand

	// Under Timers.mu.
	inHand  int
	backlog []string // due keys, in order
}

// New counts the timers in the store. known says whether a plugin is loaded. Timers of other
// plugins stay in the store.
func New(st Store, router Router, known func(plugin string) bool, log *slog.Logger) (*Timers, error) {
	t := &Timers{store: st, router: router, known: known, log: log, pending: stage.Counts{}, held: map[string]place{},
		wake: make(chan struct{}, 1)}
	for range router.Lanes() {
		t.lanes = append(t.lanes, &lane{in: make(chan *firing, maxInHand)})
	}
	t.horizon = dueSpace // nothing is loaded yet
	unknown := map[string]int{}
	err := st.ScanRange(store.Prefix(store.Timer, nameSpace), func(name string, _ []byte, _ store.Revision) bool {
		owner, plugin := stage.Owner(name[1:])
		t.pending.Add(owner, 1)
		if !known(plugin) {
			unknown[plugin]++
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("counting the timers: %w", err)
	}
	for plugin, n := range unknown {
		log.Warn("timers of a plugin that is not there wait until it is", "plugin", plugin, "timers", n)
	}
	return t, nil
}

// The spaces of the two keys.
const (
	nameSpace = "k"
	dueSpace  = "t"
	dueHeader = len(dueSpace) + 8
)

var errDamaged = errors.New("a timer in the store is damaged")

func nameKey(name string) store.Key { return store.Key{Kind: store.Timer, Name: nameSpace + name} }

func dueKey(at int64, name string) store.Key {
	b := binary.BigEndian.AppendUint64([]byte(dueSpace), uint64(at))
	return store.Key{Kind: store.Timer, Name: string(append(b, name...))}
}

// Keep implements the router's Keeper: it adds to the batch what sets and cancels
// timers. Two commits that touch the same timer at once conflict.
func (t *Timers) Keep(b *store.Batch, o *stage.Origin, effects []event.Effect) (kept func(), err error) {
	owner := o.Application + "\x00" + o.Plugin
	grown, leaving := 0, 0
	for _, k := range b.Deletes { // the timer that the event is; it counts until the commit
		if k.Kind == store.Timer && strings.HasPrefix(k.Name, nameSpace+owner+"\x00") {
			leaving++
		}
	}
	var fresh []string
	for _, e := range effects {
		var n int
		var key string
		switch e := e.(type) {
		case *event.SetTimer:
			n, key, err = t.set(b, o, owner+"\x00"+e.Key, e)
			fresh = append(fresh, key)
		case *event.CancelTimer:
			n, err = t.cancel(b, owner+"\x00"+e.Key)
		}
		if err != nil {
			return nil, err
		}
		grown += n
	}
	if grown > leaving && t.count(owner, 0)+grown-leaving > o.Timers {
		return nil, &event.Failure{Code: event.QuotaExceeded, Message: fmt.Sprintf(
			"it wants more than %d timers in this application: see plugins.%s.grant.timers in gateway.toml", o.Timers, o.Plugin)}
	}
	return func() {
		t.count(owner, grown)
		for _, key := range fresh {
			t.add(key)
		}
	}, nil
}

// cancel removes a timer and returns by how many their number grows.
func (t *Timers) cancel(b *store.Batch, name string) (grown int, err error) {
	old, err := t.current(b, name)
	if old == nil || err != nil {
		return 0, err
	}
	b.Delete(dueKey(int64(binary.BigEndian.Uint64(old)), name))
	b.Delete(nameKey(name))
	return -1, nil
}

// set replaces a timer and returns its due key, too.
func (t *Timers) set(b *store.Batch, o *stage.Origin, name string, e *event.SetTimer) (grown int, due string, err error) {
	if grown, err = t.cancel(b, name); err != nil {
		return 0, "", err
	}
	inbound := o.Event(event.TypeTimer, e.Key)
	inbound.ID, inbound.Data = "timer", e.Data
	at := e.At.UnixNano()
	b.Put(store.Put{Key: nameKey(name), Value: codec.AppendEvent(binary.BigEndian.AppendUint64(nil, uint64(at)), &inbound)})
	key := dueKey(at, name)
	b.Put(store.Put{Key: key})
	return grown + 1, key.Name, nil
}

// current returns the timer's value as the batch will find it; nil: there is none.
// A timer that fired is none for the event that it became, whose batch deletes it.
func (t *Timers) current(b *store.Batch, name string) ([]byte, error) {
	key := nameKey(name)
	if own, written := b.Written(key); own != nil {
		return own.Value, nil
	} else if written {
		return nil, nil
	}
	value, rev, err := t.store.Get(key)
	if err != nil {
		return nil, fmt.Errorf("looking for a timer: %w", err)
	}
	if value != nil && len(value) < 8 {
		return nil, fmt.Errorf("%w: %q", errDamaged, name)
	}
	b.Expect = append(b.Expect, store.Expect{Key: key, Revision: rev})
	return value, nil
}

// count changes how many timers an owner has, and returns the number.
func (t *Timers) count(owner string, by int) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pending.Add(owner, by)
}

// Purge removes the timers of an application that was deleted.
func (t *Timers) Purge(application string) error {
	with := func(b *store.Batch, key string, value []byte) {
		if len(value) >= 8 {
			b.Deletes = append(b.Deletes, dueKey(int64(binary.BigEndian.Uint64(value)), key[len(nameSpace):]))
		}
	}
	gone := func(key string) {
		owner, _ := stage.Owner(key[len(nameSpace):])
		t.count(owner, -1)
	}
	if err := store.DeleteRange(t.store, store.Prefix(store.Timer, nameSpace+application+"\x00"), with, gone); err != nil {
		return fmt.Errorf("removing the timers of application %s: %w", application, err)
	}
	return nil
}
