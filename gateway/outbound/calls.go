// Package outbound makes the HTTP calls of plugins. A call is durable from the
// commit of the event that wants it until its answer has been handled: the
// commit of the answer's event takes it out of the store. So a plugin sees each
// answer once, while the server may see a request again after a crash or a
// failure, always with the same Idempotency-Key. It imports stage and store;
// server wires it to the router.
//
// A call is a key of kind store.Call, <application>\x00<plugin>\x00<id>, where id
// sorts by time; its value is a HandleResponse with two effects, the event that
// the answer becomes and the call.
package outbound

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tributary.io/gateway/metric"
	"tributary.io/gateway/outbound/place"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// Store is what calls need of a store.
type Store interface {
	Commit(b *store.Batch, done func(error)) error
	Get(k store.Key) ([]byte, store.Revision, error)
	ScanRange(r store.Range, fn func(name string, value []byte, rev store.Revision) bool) error
}

// Router takes the answers.
type Router interface {
	SubmitDue(plugin string, in *event.Inbound, due *store.Batch, done func(stage.Outcome))
}

// Calls makes the calls of all plugins. It is safe for concurrent use.
type Calls struct {
	cfg      Config
	store    Store
	router   Router
	log      *slog.Logger
	policies map[string]*policy // by plugin

	mu      sync.Mutex
	hosts   map[string]*host
	pending stage.Counts
	active  int
	busy    map[string]int // of those, by application
	wake    chan struct{}
	stats   stats
}

// New reads the calls that wait. rules has an entry for each plugin; calls of other plugins
// stay in the store.
func New(cfg Config, st Store, router Router, rules map[string]Rules, log *slog.Logger) (*Calls, error) {
	c := &Calls{cfg: cfg, store: st, router: router, log: log, policies: map[string]*policy{},
		hosts: map[string]*host{}, busy: map[string]int{}, pending: stage.Counts{}, wake: make(chan struct{}, 1)}
	for plugin, r := range rules {
		p, err := newPolicy(&cfg, r)
		if err != nil {
			return nil, fmt.Errorf("plugins.%s.grant.%w", plugin, err)
		}
		c.policies[plugin] = p
	}
	var unread []error
	var found []*call
	absent := map[string]int{}
	err := st.ScanRange(store.Prefix(store.Call, ""), func(name string, value []byte, _ store.Revision) bool {
		e, effect, err := parse(value)
		if err != nil {
			unread = append(unread, fmt.Errorf("the call %q: %w", name, err))
			return true
		}
		if next := c.remember(name, &e, effect); next != nil {
			found = append(found, next)
		} else {
			_, plugin := stage.Owner(name)
			absent[plugin]++
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("reading the HTTP calls that wait: %w", err)
	}
	for _, e := range unread {
		log.Error("an HTTP call in the store cannot be read and stays there", "error", e)
	}
	for plugin, n := range absent {
		log.Warn("HTTP calls of a plugin that is not there wait until it is", "plugin", plugin, "calls", n)
	}
	slices.SortStableFunc(found, func(a, b *call) int { return a.created.Compare(b.created) })
	for _, x := range found {
		c.enqueue(x)
	}
	return c, nil
}

// call is a call that waits for an attempt.
type call struct {
	name     string // of its key
	host     string
	plugin   string
	created  time.Time
	attempts int
	next     time.Time
}

func (x *call) application() string {
	application, _, _ := strings.Cut(x.name, "\x00")
	return application
}

// remember counts a call and returns what there is to do; nil: nothing, for the
// plugin is not there.
func (c *Calls) remember(name string, e *event.Event, effect *event.Call) *call {
	owner, plugin := stage.Owner(name)
	c.pending.Add(owner, 1)
	if c.policies[plugin] == nil {
		return nil
	}
	return &call{name: name, host: hostOf(effect.URL), plugin: plugin, created: e.Time, next: e.Time}
}

// hostOf names what shares a limit: scheme, host and port.
func hostOf(text string) string {
	u, _, err := place.CheckURL(text, nil)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + strings.ToLower(u.Host)
}

// Keep implements the router's Keeper: it adds calls to the batch.
func (c *Calls) Keep(b *store.Batch, o *stage.Origin, effects []event.Effect) (kept func(), err error) {
	owner := o.Application + "\x00" + o.Plugin
	c.mu.Lock()
	waiting := c.pending[owner]
	c.mu.Unlock()
	if waiting+len(effects) > c.cfg.MaxPending {
		return nil, &event.Failure{Retryable: true, Code: event.QuotaExceeded, Message: fmt.Sprintf(
			"%d of its HTTP calls in this application wait for an answer: see outbound.max_pending in gateway.toml", waiting)}
	}
	now := time.Now().UTC()
	var fresh []*call
	for i, effect := range effects {
		effect, ok := effect.(*event.Call)
		if !ok {
			return nil, fmt.Errorf("%T is no HTTP call", effects[i])
		}
		id := newID(now)
		e := o.Event(event.TypeResponse, effect.ID)
		e.ID, e.Time = "call-"+id, now
		name := owner + "\x00" + id
		value := codec.AppendResponse(nil, &event.Result{Effects: []event.Effect{&event.Emit{Event: e}, effect}})
		b.Put(store.Put{Key: store.Key{Kind: store.Call, Name: name}, Value: value})
		fresh = append(fresh, &call{name: name, host: hostOf(effect.URL), plugin: o.Plugin, created: now, next: now})
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.pending.Add(owner, len(fresh))
		for _, x := range fresh {
			c.enqueue(x)
		}
		c.wakeUp()
	}, nil
}

// newID returns a unique id that sorts by time.
func newID(now time.Time) string {
	var random [8]byte
	rand.Read(random[:]) // never fails
	return fmt.Sprintf("%016x", now.UnixNano()) + hex.EncodeToString(random[:])
}

var errRecord = errors.New("it is not an event and a call")

// parse reads the value of a call.
func parse(value []byte) (event.Event, *event.Call, error) {
	res, err := codec.ParseResponse(value)
	if err != nil {
		return event.Event{}, nil, err
	}
	if len(res.Effects) == 2 {
		emit, isEvent := res.Effects[0].(*event.Emit)
		effect, isCall := res.Effects[1].(*event.Call)
		if isEvent && isCall {
			return emit.Event, effect, nil
		}
	}
	return event.Event{}, nil, errRecord
}

// Purge removes the calls of an application that was deleted. The answer to one
// under way is then dropped.
func (c *Calls) Purge(application string) error {
	gone := func(name string) {
		owner, _ := stage.Owner(name)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.pending.Add(owner, -1)
	}
	if err := store.DeleteRange(c.store, store.Prefix(store.Call, application+"\x00"), nil, gone); err != nil {
		return fmt.Errorf("removing the HTTP calls of application %s: %w", application, err)
	}
	return nil
}

// stats counts what was done.
type stats struct {
	attempts, answered, givenUp, refused, retries atomic.Uint64
	took                                          metric.Histogram
}

// Metrics returns the counters of calls.
func (c *Calls) Metrics() []metric.Sample {
	c.mu.Lock()
	pending, failing := 0, 0
	for _, n := range c.pending {
		pending += n
	}
	for _, h := range c.hosts {
		if h.failing() {
			failing++
		}
	}
	active := c.active
	c.mu.Unlock()
	var set metric.Set
	set.Gauge("tributary_outbound_pending", "HTTP calls whose answer has not been handled.", float64(pending))
	set.Gauge("tributary_outbound_active", "HTTP calls under way.", float64(active))
	set.Gauge("tributary_outbound_failing_hosts", "Hosts that failed several times in a row and are tried by one call at a time.",
		float64(failing))
	outcome := func(word string, n uint64) {
		set.Counter("tributary_outbound_calls_total", "HTTP calls of plugins that ended, by outcome.", n,
			metric.Label{Name: "outcome", Value: word})
	}
	outcome("answered", c.stats.answered.Load())
	outcome("given_up", c.stats.givenUp.Load())
	outcome("refused", c.stats.refused.Load())
	set.Counter("tributary_outbound_attempts_total", "Attempts of HTTP calls.", c.stats.attempts.Load())
	set.Counter("tributary_outbound_retries_total", "Attempts that failed and will be made again.", c.stats.retries.Load())
	set.Histogram("tributary_outbound_seconds", "Time that attempts took.", &c.stats.took)
	return set
}
