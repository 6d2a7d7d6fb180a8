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
	// maxHops bounds how many plugins one event may pass through.
	maxHops = 8
	// maxReruns bounds how often a handler is run again at once because of state
	// that changed under it; after that the event waits like after a retryable failure.
	maxReruns = 16
)

// plan is the result of one run of the handlers: what the commit and its callback do.
type plan struct {
	publishes []*event.Publish
	reply     *event.Reply
	replier   Handler // the plugin that replied
	emitted   int
	before    int      // of these, by events of the batch before the one at hand
	grown     []growth // of the plugins' state
	kept      []func() // what timers and calls wait for: that the commit is durable
	plugin    Handler  // the last one that ran, for quarantine
	unrouted  bool     // no route takes the event
	shelved   bool     // no route and no subscriber takes it, so it goes into quarantine
}

// handle takes one event to its end, or returns how long it has to wait for the
// next attempt.
func (s *shard) handle(ctx context.Context, j *job) (retryIn time.Duration) {
	if sent := j.in.Sent; sent != nil && sent.Err != nil {
		return s.quarantine(j, nil, sent.Err, event.PayloadFormatInvalid)
	}
	for range maxReruns {
		p, err := s.plan(ctx, j)
		if err != nil {
			// What a handler says for lack of a key, or about an old version, counts
			// only when what it read is still so.
			if !errors.Is(s.reread(), store.ErrConflict) {
				return s.failed(j, p, err)
			}
			err = store.ErrConflict
		} else {
			s.shelveUnrouted(j, p)
			err = s.commit(j, p)
		}
		switch {
		case err == nil:
			return 0
		case !errors.Is(err, store.ErrConflict):
			s.unavailable(j, err)
			return 0
		case s.overtaken(j):
			return 0
		}
		s.r.metrics.conflicts.Add(1)
	}
	return s.failed(j, nil, &event.Failure{Retryable: true, Message: "the state that the plugin read kept changing"})
}

// reread says with ErrConflict that something changed that the handlers read.
func (s *shard) reread() error {
	if len(s.batch.Expect)+len(s.batch.ExpectRanges) == 0 {
		return nil
	}
	return s.r.store.Commit(&store.Batch{Expect: s.batch.Expect, ExpectRanges: s.batch.ExpectRanges}, nil)
}

// plan runs the handlers of the matching routes and collects their effects in
// the shard's batch. Without a handler the plan is unrouted.
func (s *shard) plan(ctx context.Context, j *job) (*plan, error) {
	s.reset()
	s.claim(j)
	if j.all != nil {
		return s.planAll(ctx, j)
	}
	return s.planOne(ctx, j, &plan{})
}

// planOne adds to a plan what comes of the event at hand.
func (s *shard) planOne(ctx context.Context, j *job, p *plan) (*plan, error) {
	current := j.in
	handler, routes := s.r.first(j)
	for hop := 0; ; hop++ {
		switch {
		case handler == nil && hop > 0:
			return p, &event.Failure{Message: fmt.Sprintf("plugin %s passed the event on, but no later route takes it: add one to gateway.toml",
				p.plugin.Name())}
		case handler == nil:
			p.unrouted = true
			return p, nil
		case hop == maxHops:
			return p, &event.Failure{Message: "the event was passed on more than 8 times; see the routes of its application"}
		}
		p.plugin = handler
		passed, err := s.hop(ctx, p, j, current)
		if err != nil || passed == nil {
			return p, err
		}
		current = &event.Inbound{Event: passed.Event, Transport: j.in.Transport, Original: j.in.Original}
		handler, routes = next(routes, current)
	}
}

// next returns the first handler whose route matches an event, and the routes
// behind it.
func next(routes []boundRoute, in *event.Inbound) (Handler, []boundRoute) {
	for i := range routes {
		if routes[i].matches(in) {
			return routes[i].handler, routes[i+1:]
		}
	}
	return nil, nil
}

// hop runs one handler and collects its effects; a Pass effect is returned.
func (s *shard) hop(ctx context.Context, p *plan, j *job, current *event.Inbound) (*event.Pass, error) {
	s.state = stateReader{store: s.r.store, batch: &s.batch, prefix: statePrefix(j.in.Event.Application, p.plugin.Name())}
	handle := p.plugin.Try
	if s.r.detour == s {
		handle = p.plugin.Handle
	}
	res, err := handle(ctx, s.n, current, j.in.Event.Time, &s.state)
	if err != nil {
		return nil, err
	}
	if res.Failure != nil {
		return nil, res.Failure
	}
	return s.collect(p, j, &res)
}

// outcome returns the answer for the source, which it gets once the plan is durable.
func (p *plan) outcome(in *event.Inbound) (out stage.Outcome) {
	switch {
	case p.shelved:
		out.Code, out.Reason = event.NoMatchingSubscribers, "quarantined: "+errUnrouted.Error()
	case p.unrouted:
		out.Code, out.Reason = event.NoMatchingSubscribers, "no route takes this event"
	case p.reply != nil:
		out.Reason, out.Reply, out.Plugin = p.reply.Reason, p.reply, p.replier.Name()
		switch {
		case !wantsStatus(in):
			out.Code = p.reply.Code
		case p.reply.Code >= 400: // an HTTP status, which is no reason code
			out.Code = event.UnspecifiedError
		}
	}
	return out
}

// commit makes the plan durable and answers the source when it is.
func (s *shard) commit(j *job, p *plan) error {
	out := p.outcome(j.in)
	due := s.prepare(j, p)
	if s.idle() && len(due) == 0 {
		j.committed(&out)
		s.r.finish(j, out) // nothing to make durable, nothing to keep in order
		return nil
	}
	err := s.r.store.Commit(&s.batch, func(err error) {
		if err != nil {
			j.withdraw(due)
			s.unavailable(j, err)
			return
		}
		j.committed(&out)
		s.r.metrics.emitted.Add(uint64(p.emitted))
		if p.shelved {
			s.r.unrouted(j.in)
		}
		for _, kept := range p.kept {
			kept()
		}
		late := false
		for _, m := range due {
			d, after := m.Deliver()
			out.Delivery, late = max(out.Delivery, d), late || after
		}
		if j.in.Event.Type == event.TypeCommand && out.Delivery == stage.NoDevice && !out.Code.Refused() {
			out.Code, out.Reason = event.NoMatchingSubscribers, "the device is not connected and nothing waits for it"
		}
		if late {
			s.finishAfterNext(j, out)
		} else {
			s.r.finish(j, out)
		}
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

// finishAfterNext answers the source when all that was committed so far is durable.
func (s *shard) finishAfterNext(j *job, out stage.Outcome) {
	err := s.r.store.Commit(&store.Batch{}, func(err error) {
		if err != nil {
			s.unavailable(j, err)
			return
		}
		s.r.finish(j, out)
	})
	if err != nil {
		s.unavailable(j, err)
	}
}

// failed decides what happens to an event whose handler did not succeed.
func (s *shard) failed(j *job, p *plan, err error) (retryIn time.Duration) {
	var denied *stage.Error // a refusal, not a failure: nothing to keep
	if errors.As(err, &denied) {
		s.reset()
		s.conclude(j, stage.Outcome{Code: denied.Code, Reason: denied.Reason}, nil)
		return 0
	}
	if isUnavailable(err) {
		s.unavailable(j, err)
		return 0
	}
	var failure *event.Failure
	var fault *plugin.Fault
	if errors.As(err, &fault) && fault.Kind == plugin.FaultTrial { // no attempt: it begins anew on the detour, at once
		j.long = longTrial
		return time.Nanosecond
	}
	j.attempts++
	if fault != nil && (fault.Kind == plugin.FaultDeadline || fault.Kind == plugin.FaultFuel) {
		j.long = longFault
	}
	switch {
	case errors.As(err, &failure) && !failure.Retryable:
		return s.quarantine(j, p, err, codeOr(failure.Code, event.PayloadFormatInvalid))
	case errors.As(err, &failure) && j.attempts > s.r.cfg.Retries:
		return s.quarantine(j, p, err, codeOr(failure.Code, event.UnspecifiedError))
	case errors.As(err, &fault) && fault.Kind != plugin.FaultDeadline && j.attempts > 1:
		// A handler is a pure function: a second fault on a restored instance says
		// that the third would end the same way. A deadline is the exception, since
		// it measures the machine's load, too; fuel is what ends an endless plugin.
		return s.quarantine(j, p, err, event.ImplementationSpecificError)
	case errors.As(err, &fault) && j.attempts > s.r.cfg.Retries:
		return s.quarantine(j, p, err, event.ImplementationSpecificError)
	case j.attempts > s.r.cfg.Retries:
		return s.quarantine(j, p, err, event.UnspecifiedError)
	}
	s.r.metrics.retried.Add(1)
	return s.r.cfg.retryDelay(j.attempts)
}

func (s *shard) unavailable(j *job, err error) {
	s.r.log.Error("an event could not be made durable; its source will send it again",
		"application", j.in.Event.Application, "device", j.in.Event.Device, "event", j.in.Event.ID, "error", err)
	s.r.finish(j, stage.Outcome{Unavailable: true, Reason: "the gateway cannot store events at the moment"})
}

func codeOr(code, other event.Code) event.Code {
	if code.Refused() && code <= 0xff {
		return code
	}
	return other
}

// idle says that the batch would neither write nor check anything.
func (s *shard) idle() bool {
	b := &s.batch
	return len(b.Appends)+len(b.Puts)+len(b.Deletes)+len(b.Expect)+len(b.ExpectRanges) == 0
}

func (s *shard) reset() {
	s.batch.Reset()
	s.record = s.record[:0]
}
