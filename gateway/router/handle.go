package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tributary.io/gateway/plugin"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

const (
	// maxHops bounds how many plugins one event may pass through (design §4).
	maxHops = 8
	// maxReruns bounds how often a handler is run again at once because of state
	// that changed under it; after that the event waits like after a retryable failure.
	maxReruns = 16
)

// plan is what one run of the handlers wants done after the commit.
type plan struct {
	publishes []*event.Publish
	reply     *event.Reply
	emitted   int
	grown     []growth // of the plugins' state
	plugin    Handler  // the last one that ran, for quarantine
	unrouted  bool     // no route takes the event
}

// handle takes one event to its end, or returns how long it has to wait for the
// next attempt.
func (s *shard) handle(ctx context.Context, j *job) (retryIn time.Duration) {
	for range maxReruns {
		p, err := s.plan(ctx, j.in)
		if err != nil {
			return s.failed(j, p, err)
		}
		if p == nil {
			p = &plan{unrouted: true}
		}
		switch err := s.commit(j, p); {
		case err == nil:
			return 0
		case errors.Is(err, store.ErrConflict):
			s.r.metrics.conflicts.Add(1)
		default:
			s.unavailable(j, err)
			return 0
		}
	}
	return s.failed(j, nil, &event.Failure{Retryable: true, Message: "the state that the plugin read kept changing"})
}

// plan runs the handlers of the matching routes and collects their effects in
// the shard's batch. It returns nil when no route matches.
func (s *shard) plan(ctx context.Context, in *event.Inbound) (*plan, error) {
	s.reset()
	routes := s.r.routesOf(in.Event.Application)
	var p *plan
	current := in
	for hop := 0; ; hop++ {
		i := 0
		for i < len(routes) && !routes[i].matches(current) {
			i++
		}
		if i == len(routes) {
			if hop > 0 {
				return p, &event.Failure{Message: fmt.Sprintf("plugin %s passed the event on, but no later route takes it: add one to gateway.toml", p.plugin.Name())}
			}
			return nil, nil
		}
		if hop == maxHops {
			return p, &event.Failure{Message: "the event was passed on more than 8 times; see the routes of its application"}
		}
		if p == nil {
			p = &plan{}
		}
		p.plugin = routes[i].handler
		passed, err := s.hop(ctx, p, in, current)
		if err != nil || passed == nil {
			return p, err
		}
		current = &event.Inbound{Event: passed.Event, Transport: in.Transport}
		routes = routes[i+1:]
	}
}

// hop runs one handler and collects its effects; a Pass effect is returned.
func (s *shard) hop(ctx context.Context, p *plan, origin, current *event.Inbound) (*event.Pass, error) {
	reader := stateReader{s: s, prefix: statePrefix(origin.Event.Application, p.plugin.Name())}
	res, reads, err := p.plugin.Handle(ctx, s.n, current, origin.Event.Time, &reader)
	if err != nil {
		return nil, err
	}
	if res.Failure != nil {
		return nil, res.Failure
	}
	for _, rd := range reads {
		if rd.Revision != ownWrite {
			s.batch.Expect = append(s.batch.Expect, store.Expect{Key: reader.key(rd.Key), Revision: store.Revision(rd.Revision)})
		}
	}
	return s.collect(p, origin, &res, &reader)
}

// outcome is what the source is told once the plan is durable.
func (p *plan) outcome() (out stage.Outcome) {
	switch {
	case p.unrouted:
		out.Code, out.Reason = stage.NoMatchingSubscribers, "no route takes this event"
	case p.reply != nil:
		out.Code, out.Reason, out.Reply = stage.Code(p.reply.Code), p.reply.Reason, p.reply
	}
	return out
}

// commit makes the plan durable and answers the source when it is.
func (s *shard) commit(j *job, p *plan) error {
	out := p.outcome()
	due := s.prepare(j, p)
	if len(s.batch.Appends)+len(s.batch.Puts)+len(s.batch.Deletes)+len(due) == 0 {
		s.r.finish(j, out) // nothing to make durable, nothing to keep in order
		return nil
	}
	err := s.r.store.Commit(&s.batch, func(err error) {
		if err != nil {
			j.withdraw(due)
			s.unavailable(j, err)
			return
		}
		s.r.metrics.emitted.Add(uint64(p.emitted))
		for _, m := range due {
			out.Delivery = max(out.Delivery, m.Deliver())
		}
		if j.in.Event.Type == event.TypeCommand && out.Delivery == stage.NoDevice && !out.Code.Refused() {
			out.Code, out.Reason = stage.NoMatchingSubscribers, "the device is not connected and has no persistent session"
		}
		s.r.finish(j, out)
	})
	if err != nil {
		j.withdraw(due)
		return err
	}
	for _, g := range p.grown {
		s.r.settle(g)
	}
	return nil
}

// failed decides what becomes of an event whose handler did not succeed.
func (s *shard) failed(j *job, p *plan, err error) (retryIn time.Duration) {
	var denied *stage.Error // a refusal, not a failure: nothing to keep
	if errors.As(err, &denied) {
		s.r.finish(j, stage.Outcome{Code: denied.Code, Reason: denied.Reason})
		return 0
	}
	if isUnavailable(err) {
		s.unavailable(j, err)
		return 0
	}
	j.attempts++
	var failure *event.Failure
	var fault *plugin.Fault
	switch {
	case errors.As(err, &failure) && !failure.Retryable:
		return s.quarantine(j, p, err, codeOr(failure.Code, stage.PayloadFormatInvalid))
	case errors.As(err, &failure) && j.attempts > s.r.cfg.Retries:
		return s.quarantine(j, p, err, codeOr(failure.Code, stage.UnspecifiedError))
	case errors.As(err, &fault) && fault.Kind != plugin.FaultDeadline && j.attempts > 1:
		// A handler is a pure function: a second fault on a restored instance says
		// that the third would end the same way. A deadline is the exception, since
		// it measures the machine's load, too; fuel is what ends an endless plugin.
		return s.quarantine(j, p, err, stage.ImplementationError)
	case errors.As(err, &fault) && j.attempts > s.r.cfg.Retries:
		return s.quarantine(j, p, err, stage.ImplementationError)
	case j.attempts > s.r.cfg.Retries:
		return s.quarantine(j, p, err, stage.UnspecifiedError)
	}
	s.r.metrics.retried.Add(1)
	return s.r.cfg.retryDelay(j.attempts)
}

func (s *shard) unavailable(j *job, err error) {
	s.r.log.Error("an event could not be made durable; its source will send it again",
		"application", j.in.Event.Application, "device", j.in.Event.Device, "event", j.in.Event.ID, "error", err)
	s.r.finish(j, stage.Outcome{Unavailable: true, Reason: "the gateway cannot store events at the moment"})
}

func codeOr(code uint32, other stage.Code) stage.Code {
	if code >= 0x80 && code <= 0xff {
		return stage.Code(code)
	}
	return other
}

func (s *shard) reset() {
	s.batch.Expect = s.batch.Expect[:0]
	s.batch.Appends = s.batch.Appends[:0]
	s.batch.Puts = s.batch.Puts[:0]
	s.batch.Deletes = s.batch.Deletes[:0]
	s.record = s.record[:0]
}
