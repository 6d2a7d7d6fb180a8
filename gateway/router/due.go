package router

import (
	"errors"
	"fmt"
	"sync/atomic"

	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/gateway/topic"
	"tributary.io/sdk-plugin/event"
)

// Keeper keeps what a plugin wants done later, and its files: timers, HTTP calls.
type Keeper interface {
	// Keep adds to the batch what makes the effects durable. The router calls kept once the
	// batch is durable; kept must not block. The router may drop a batch, and call Keep again with
	// another: it calls only the kept of the batch that it commits. A *event.Failure refuses the effects.
	Keep(b *store.Batch, o *stage.Origin, effects []event.Effect) (kept func(), err error)
}

// Keepers are the stages that keep what a plugin wants done later. The effects for a keeper
// that is nil are refused.
type Keepers struct{ Timers, Calls, Files Keeper }

// UseKeepers sets the keepers. Call it before Start.
func (r *Router) UseKeepers(k Keepers) { r.keepers = k }

// StoresBody says whether the plugin that an HTTP request goes to first wants the
// request's body on disk.
func (r *Router) StoresBody(in *event.Inbound) bool {
	handler, _ := next(r.routesOf(in.Event.Application), in)
	if handler == nil {
		return false
	}
	for _, path := range handler.Limits().Uploads {
		if topic.Match(path, in.Transport.Path) {
			return true
		}
	}
	return false
}

// keptEffects are the effects of one handler that keepers take, by keeper.
type keptEffects struct{ timers, calls, files []event.Effect }

func (k *keptEffects) add(e event.Effect) {
	switch e.(type) {
	case *event.SetTimer, *event.CancelTimer:
		k.timers = append(k.timers, e)
	case *event.Call:
		k.calls = append(k.calls, e)
	default:
		k.files = append(k.files, e)
	}
}

// keepAll hands the effects of one plugin to their keepers.
func (s *shard) keepAll(p *plan, j *job, k *keptEffects) error {
	to := &s.r.keepers
	for _, kept := range [...]struct {
		by      Keeper
		effects []event.Effect
	}{{to.Timers, k.timers}, {to.Calls, k.calls}, {to.Files, k.files}} {
		if err := s.keep(p, j, kept.by, kept.effects); err != nil {
			return err
		}
	}
	return nil
}

// keep hands effects of one plugin to one keeper.
func (s *shard) keep(p *plan, j *job, to Keeper, effects []event.Effect) error {
	switch {
	case len(effects) == 0:
		return nil
	case to == nil:
		return &event.Failure{Message: fmt.Sprintf("the plugin %s asked for %T, which this gateway does not offer", p.plugin.Name(), effects[0])}
	}
	in := &j.in.Event
	o := &stage.Origin{Plugin: p.plugin.Name(), Application: in.Application, Device: in.Device, Timers: p.plugin.Limits().Timers}
	if in.Sender == j.key.device { // else another device's connection carried it
		o.Sender = in.Sender
	}
	o.Traceparent, _ = in.Extension("traceparent")
	kept, err := to.Keep(&s.batch, o, effects)
	if err != nil {
		return fmt.Errorf("the plugin %s: %w", p.plugin.Name(), err)
	}
	p.kept = append(p.kept, kept)
	return nil
}

// SubmitDue hands an event to the plugin that it comes back to: a timer that the plugin set, or
// the answer to its HTTP call. due is the key in the store that the event stands for: its
// Expect and Deletes are committed with the effects of the event, so that the event is handled
// once. If the Expect no longer holds, the event was overtaken and nothing is done. If the
// outcome is not Unavailable, the event need not be submitted again. In all else it is like
// Submit.
func (r *Router) SubmitDue(plugin string, in *event.Inbound, due *store.Batch, done func(stage.Outcome)) {
	r.metrics.received.Add(1)
	j := &job{in: in, due: due, handler: r.handlers[plugin], done: done}
	if j.handler == nil {
		r.metrics.unavailable.Add(1)
		done(stage.Outcome{Unavailable: true, Reason: "there is no plugin " + plugin})
		return
	}
	j.key = deviceKey{in.Event.Application, orderKey(in)}
	if in.Event.Sender == "" && in.Event.Device != "" {
		in.Event.Sender = r.carrier(in.Event.Application, in.Event.Device)
	}
	r.enqueue(j)
}

// Lanes returns how many lanes there are.
func (r *Router) Lanes() int { return len(r.shards) }

// Lane returns the number of the lane, from 0, that an event for SubmitDue will
// take. Events of different lanes do not wait for each other.
func (r *Router) Lane(in *event.Inbound) int {
	return r.shardOf(deviceKey{in.Event.Application, orderKey(in)})
}

// first returns the handler that an event goes to first, and the routes that it
// can be passed on to.
func (r *Router) first(j *job) (Handler, []boundRoute) {
	routes := r.routesOf(j.in.Event.Application)
	if j.handler == nil {
		return next(routes, j.in)
	}
	for i := range routes {
		if routes[i].handler == j.handler {
			return j.handler, routes[i+1:]
		}
	}
	return j.handler, nil
}

// claim adds to the batch what the event stands for.
func (s *shard) claim(j *job) {
	if j.due != nil {
		s.batch.Expect = append(s.batch.Expect, j.due.Expect...)
		s.batch.Deletes = append(s.batch.Deletes, j.due.Deletes...)
	}
}

// overtaken ends a job whose key in the store has changed or is gone.
func (s *shard) overtaken(j *job) bool {
	if j.due == nil {
		return false
	}
	for _, x := range j.due.Expect {
		if _, rev, err := s.r.store.Get(x.Key); err == nil && rev != x.Revision {
			s.r.finish(j, stage.Outcome{Code: event.NoMatchingSubscribers, Reason: "it was replaced or removed meanwhile", Overtaken: true})
			return true
		}
	}
	return false
}

// conclude ends a job without the effects of a plugin: with what is in the batch
// and what the event stands for. counter, which may be nil, counts it.
func (s *shard) conclude(j *job, out stage.Outcome, counter *atomic.Uint64) {
	s.claim(j)
	if s.idle() {
		s.r.finish(j, out)
		return
	}
	err := s.r.store.Commit(&s.batch, func(err error) {
		if err != nil {
			s.unavailable(j, err)
			return
		}
		if counter != nil {
			counter.Add(1)
		}
		s.r.finish(j, out)
	})
	if err != nil && !(errors.Is(err, store.ErrConflict) && s.overtaken(j)) {
		s.unavailable(j, err)
	}
}
