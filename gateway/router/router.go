// Package router is the middle of the data path: it matches an inbound event
// to a route, keeps the order per device, hands the event to the plugin,
// commits the effects as one batch and only then answers the source. It may
// import plugin and store; server wires it to the listeners.
//
// Delivery contract. Submit's done is called exactly once per event:
//   - after the effects are durable, with the plugin's reply if there is one;
//   - or with a code of 0x80 or more when the event was refused: by the plugin,
//     for a right that the sender lacks, or after it went durably into quarantine;
//   - or with NoMatchingSubscribers when no route takes the event; what a device
//     published where messaging is off is then durable in quarantine;
//   - or with Unavailable when the store failed or the router closes; nothing is
//     known to be durable then and the source must keep the message.
//
// Events of one device are handled and logged in the order of their Submit
// calls, also across retries: while one waits for its retry, later ones of the
// same device wait behind it and other devices go on.
package router

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tributary.io/gateway/loglimit"
	"tributary.io/gateway/metric"
	"tributary.io/gateway/plugin"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// Handler is a plugin as the router uses it. Calls of Handle for the same shard
// wait for each other; the result owns its memory.
type Handler interface {
	Handle(ctx context.Context, shard int, in *event.Inbound, now time.Time, st plugin.StateReader) (event.Result, error)
	// Try is Handle with a small part of the fuel. It returns a *plugin.Fault of kind
	// FaultTrial, and has done nothing, if that is not enough.
	Try(ctx context.Context, shard int, in *event.Inbound, now time.Time, st plugin.StateReader) (event.Result, error)
	Name() string
	Digest() string
	Limits() plugin.Limits
}

// Store is what the router needs of a store.
type Store interface {
	Commit(b *store.Batch, done func(error)) error
	Get(k store.Key) ([]byte, store.Revision, error)
	Scan(kind store.Kind, prefix string, fn func(name string, value []byte, rev store.Revision) bool) error
	ScanRange(r store.Range, fn func(name string, value []byte, rev store.Revision) bool) error
}

// Registry answers which devices there are and which may speak for others.
type Registry interface {
	// Device says whether a command may be addressed to the device, and whether
	// the device is shut out for the time being.
	Device(application, device string) (known, disabled bool)
	// Trusts says whether gateway may speak for device.
	Trusts(application, gateway, device string) bool
	// Messaging says whether there is such an application, and whether its devices get
	// what others publish.
	Messaging(application string) (on, known bool)
	// Gateways lists the devices that may speak for device.
	Gateways(application, device string) []string
}

// Downlink sends messages to devices. Its methods do not block.
type Downlink interface {
	// Prepare prepares the delivery of a message and adds to the batch what must be durable before
	// the delivery can be relied on. After the commit the caller calls one method of the result.
	// client is the MQTT client whose event the plugin handled, or empty; answers go to it.
	Prepare(application, client string, p *event.Publish, b *store.Batch) stage.Prepared
	Reach(application, device string) stage.Delivery
}

// Router routes inbound events. Its methods are safe for concurrent use.
type Router struct {
	cfg      Config
	routes   map[string][]boundRoute // by application, in order; those of any other one under "*"
	handlers map[string]Handler
	store    Store
	registry Registry
	keepers  Keepers
	down     Downlink
	log      *slog.Logger
	seed     maphash.Seed
	shards   []*shard
	detour   *shard // the worker of devices whose handlers run too long
	detours  detours
	judging  []chan struct{} // a judgement holds a place: one for each shard, and the last for long ones
	carriers carriers
	quotas   quotas
	told     loglimit.Limit[string] // applications whose events no route takes
	metrics  metrics

	// submitting is held for reading while an event enters a queue and for writing
	// to close them.
	submitting sync.RWMutex
	closed     bool
	closing    chan struct{} // closed first, so that no submitter waits for a place while it holds submitting
	close      sync.Once
	pending    sync.WaitGroup // events that are not answered yet
	workers    sync.WaitGroup
}

type boundRoute struct {
	Route
	handler Handler
}

// New returns a router over the plugins that its routes name. The configuration
// must be valid.
func New(cfg Config, handlers map[string]Handler, st Store, reg Registry, log *slog.Logger) (*Router, error) {
	r := &Router{judging: make([]chan struct{}, cfg.Workers()+1), cfg: cfg, routes: map[string][]boundRoute{}, handlers: handlers, store: st,
		registry: reg, log: log, seed: maphash.MakeSeed(),
		closing: make(chan struct{})}
	var bound []boundRoute
	for i, route := range cfg.Routes {
		h, ok := handlers[route.Plugin]
		if !ok {
			return nil, fmt.Errorf("routes[%d] names the plugin %q: declare it as [plugins.%s] in gateway.toml", i, route.Plugin, route.Plugin)
		}
		bound = append(bound, boundRoute{route, h})
		r.routes[route.Application] = nil
	}
	for application := range r.routes {
		r.routes[application] = slices.DeleteFunc(slices.Clone(bound), func(b boundRoute) bool {
			return b.Application != application && b.Application != anyApplication
		})
	}
	for i := range cfg.Workers() {
		r.shards = append(r.shards, newShard(r, i))
	}
	for i := range r.judging {
		r.judging[i] = make(chan struct{}, 1)
	}
	r.detour = newShard(r, cfg.Workers())
	r.detour.in = make(chan *job, cfg.Workers()*(waitingQueues+1)*cfg.Queue)
	return r, nil
}

// Start begins to handle events; downlinks go to down. Call it once, before Submit.
func (r *Router) Start(down Downlink) {
	r.down = down
	for _, s := range append(slices.Clone(r.shards), r.detour) {
		r.workers.Add(1)
		go func() {
			defer r.workers.Done()
			s.run()
		}()
	}
}

// Close refuses new events, lets those that were submitted finish, and stops
// the workers. What is not done when ctx ends is answered Unavailable.
func (r *Router) Close(ctx context.Context) error {
	r.close.Do(func() { close(r.closing) })
	r.submitting.Lock()
	already := r.closed
	r.closed = true
	r.submitting.Unlock()
	if already {
		return nil
	}
	idle := make(chan struct{})
	go func() { r.pending.Wait(); close(idle) }()
	var err error
	select {
	case <-idle:
	case <-ctx.Done():
		err = fmt.Errorf("closing the router: %w; events that were not handled will be sent again by their devices", ctx.Err())
	}
	for _, s := range append(slices.Clone(r.shards), r.detour) {
		close(s.stop)
	}
	r.workers.Wait()
	return err
}

// Routes says whether any route belongs to the application; without one,
// Submit would answer NoMatchingSubscribers.
func (r *Router) Routes(application string) bool { return len(r.routesOf(application)) > 0 }

func (r *Router) routesOf(application string) []boundRoute {
	if routes, ok := r.routes[application]; ok {
		return routes
	}
	return r.routes[anyApplication]
}

// Submit hands an inbound event to its device's shard. It blocks while the
// shard's queue is full, and while too many events of its device or application
// wait for a retry. done is called once, from any goroutine, and must not
// block. The event must not be changed until then. along, which may be nil, is
// committed with the event's effects.
func (r *Router) Submit(in *event.Inbound, along stage.Companion, done func(stage.Outcome)) {
	r.metrics.received.Add(1)
	if in.Event.Type == event.TypeCommand {
		if refusal := r.addressee(in.Event.Application, in.Event.Device); refusal != nil {
			r.metrics.refused.Add(1)
			done(stage.Outcome{Code: refusal.Code, Reason: refusal.Reason})
			return
		}
		in.Event.Sender = r.carrier(in.Event.Application, in.Event.Device)
	}
	if refusal := r.unknownSubject(in); refusal != nil {
		r.metrics.refused.Add(1)
		done(stage.Outcome{Code: refusal.Code, Reason: refusal.Reason})
		return
	}
	j := &job{in: in, along: along, done: done}
	j.key = deviceKey{in.Event.Application, orderKey(in)}
	r.enqueue(j)
}

// enqueue hands a job to its shard.
func (r *Router) enqueue(j *job) {
	j.at = time.Now()
	s := r.shards[r.shardOf(j.key)]
	r.submitting.RLock()
	defer r.submitting.RUnlock()
	stopping := stage.Outcome{Unavailable: true, Reason: "the gateway is stopping"}
	if r.closed {
		j.done(stopping)
		return
	}
	r.pending.Add(1)
	for j.due == nil { // timers and answers to calls have bounds of their own
		fewer := s.waiting.full(j.key, r.cfg.Queue)
		if fewer == nil {
			break
		}
		select {
		case <-fewer:
		case <-r.closing:
			r.finish(j, stopping)
			return
		}
	}
	select {
	case s.in <- j:
	case <-r.closing:
		r.finish(j, stopping)
	}
}

// addressee refuses commands to devices that do not exist. An unknown device is
// refused in the same words as a missing right, which hides whether it exists.
func (r *Router) addressee(application, device string) *stage.Error {
	switch known, disabled := r.registry.Device(application, device); {
	case !known:
		return &stage.Error{Code: event.NotAuthorized, Reason: "no such application or device, or no right to command it"}
	case disabled:
		return &stage.Error{Code: event.ImplementationSpecificError, Reason: "the device is disabled"}
	}
	return nil
}

// orderKey names the device in whose order the event belongs. Requests of users have no order
// among each other. The events that a user publishes are in an order of the user's own.
func orderKey(in *event.Inbound) string {
	if in.Event.Type == event.TypeRequest && in.Event.Device == "" {
		return in.Event.ID
	}
	if in.Event.Type == event.TypePublish && in.Event.Sender == "" && in.Transport.Username != "" {
		return "\x00" + in.Transport.Username // no device has such a name
	}
	if in.Event.Type == event.TypeCommand || in.Event.Sender == "" {
		return in.Event.Device
	}
	return in.Event.Sender
}

func (r *Router) shardOf(k deviceKey) int {
	if len(r.shards) == 1 {
		return 0
	}
	return int(maphash.Comparable(r.seed, k) % uint64(len(r.shards)))
}

// deviceKey identifies a device over all applications.
type deviceKey struct{ application, device string }

// job is one event on its way through a shard.
type job struct {
	in       *event.Inbound   // of a batch: the event at hand
	all      []*event.Inbound // of a batch, else nil
	index    int              // of the event at hand in a batch
	along    stage.Companion  // nil: nothing
	due      *store.Batch     // of SubmitDue, as handler
	handler  Handler
	done     func(stage.Outcome)
	key      deviceKey
	at       time.Time
	attempts int

	long      long      // whether its last attempt ran too long
	origin    *shard    // on the detour: the shard that it came from; else nil
	notBefore time.Time // when it is to be tried again
}

// finish answers the source of a job.
func (r *Router) finish(j *job, o stage.Outcome) {
	o.Index = j.index
	n := uint64(max(1, len(j.all)))
	switch {
	case o.Unavailable:
		r.metrics.unavailable.Add(n)
	case o.Code.Refused():
		r.metrics.refused.Add(n)
	default:
		r.metrics.accepted.Add(n)
	}
	r.metrics.latency.Observe(time.Since(j.at))
	j.done(o)
	r.pending.Done()
}

// isUnavailable says whether a commit failed because the store takes no writes.
func isUnavailable(err error) bool {
	return errors.Is(err, store.ErrClosed) || errors.Is(err, store.ErrFailed)
}

// metrics counts what the router did.
type metrics struct {
	received, accepted, refused, unavailable atomic.Uint64
	retried, conflicts, quarantined, emitted atomic.Uint64
	unrouted, diverted                       atomic.Uint64
	latency                                  metric.Histogram
}

// Metrics returns the router's counters.
func (r *Router) Metrics() []metric.Sample {
	m := &r.metrics
	var set metric.Set
	set.Counter("tributary_router_received_total",
		"Inbound events that were submitted, those of timers and answers to calls included.", m.received.Load())
	outcome := func(word string, n uint64) {
		set.Counter("tributary_router_outcomes_total", "Inbound events that were answered, by outcome.", n,
			metric.Label{Name: "outcome", Value: word})
	}
	outcome("accepted", m.accepted.Load())
	outcome("refused", m.refused.Load())
	outcome("unavailable", m.unavailable.Load())
	set.Counter("tributary_router_retries_total", "Times that an event was handed to its plugin again after a failure.", m.retried.Load())
	set.Counter("tributary_router_conflicts_total", "Times that a handler was run again because a state key had changed.",
		m.conflicts.Load())
	set.Counter("tributary_router_quarantined_total", "Events that went into quarantine.", m.quarantined.Load())
	set.Counter("tributary_router_unrouted_total", "Published messages that no route took, which went into quarantine.", m.unrouted.Load())
	set.Counter("tributary_router_emitted_total", "Events that were written to application logs.", m.emitted.Load())
	set.Counter("tributary_router_diverted_total", "Events that were handled apart, since the handler of one of their device ran too long.",
		m.diverted.Load())
	set.Gauge("tributary_router_diverted_devices", "Devices whose events are handled apart.", float64(r.detours.some.Load()))
	waiting := 0
	for _, s := range r.shards {
		waiting += len(s.in) + int(s.waiting.all.Load())
	}
	set.Gauge("tributary_router_queue_events", "Events that wait for their shard or a retry.", float64(waiting))
	set.Histogram("tributary_router_latency_seconds", "Time from submission to the answer, commit included.", &m.latency)
	return set
}
