package router

import (
	"context"

	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// SubmitBatch is Submit for events of one sender and one application that are to be done
// together or not at all: their effects are one commit. They are handled in their order, each
// with what the ones before it wrote. If one is refused, fails for good or has no route,
// nothing of the batch is done: the outcome names it, and none goes into quarantine, since their source
// hears of it and still has them.
func (r *Router) SubmitBatch(all []*event.Inbound, done func(stage.Outcome)) {
	r.metrics.received.Add(uint64(len(all)))
	for i, in := range all {
		if refusal := r.unknownSubject(in); refusal != nil {
			r.metrics.refused.Add(uint64(len(all)))
			done(stage.Outcome{Code: refusal.Code, Reason: refusal.Reason, Index: i})
			return
		}
	}
	j := &job{in: all[0], all: all, done: done}
	j.key = deviceKey{j.in.Event.Application, orderKey(j.in)}
	r.enqueue(j)
}

// unknownSubject refuses a user's event that is about a device which the application does not
// have.
func (r *Router) unknownSubject(in *event.Inbound) *stage.Error {
	e := &in.Event
	if e.Type != event.TypePublish || e.Sender != "" || e.Device == "" {
		return nil
	}
	if known, _ := r.registry.Device(e.Application, e.Device); known {
		return nil
	}
	return &stage.Error{Code: event.NotAuthorized, Reason: "the application has no device of the name that the attribute device has"}
}

// planAll is plan of a batch.
func (s *shard) planAll(ctx context.Context, j *job) (p *plan, err error) {
	p = &plan{}
	for i, in := range j.all {
		j.in, j.index, p.before = in, i, p.emitted
		if p, err = s.planOne(ctx, j, p); err != nil {
			return p, err
		}
		if p.unrouted {
			return p, &stage.Error{Code: event.NoMatchingSubscribers, Reason: errUnrouted.Error()}
		}
	}
	return p, nil
}

// refuseAll ends a batch of which one event failed for good.
func (s *shard) refuseAll(j *job, why string, code event.Code) {
	in := &j.in.Event
	s.r.log.Warn("a batch of events was refused, since one of them failed", "application", in.Application, "device", in.Device, "event", in.ID,
		"index", j.index, "events", len(j.all), "attempts", j.attempts, "error", why)
	s.conclude(j, stage.Outcome{Code: code, Reason: why}, nil)
}

// growth is by how much the plan changes the state under a prefix.
func (p *plan) growth(prefix string) (n int64) {
	for _, g := range p.grown {
		if g.prefix == prefix {
			n += g.bytes
		}
	}
	return n
}
