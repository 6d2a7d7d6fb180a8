package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tributary.io/gateway/plugin"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// Judge asks a plugin to judge the credentials of a connect event, which it neither changes nor
// keeps. It returns the *event.Allow or *event.Deny that the plugin answered with; an Allow
// stays within the plugin's grant and names its application.
//
// The handler is tried in the instance of the client's shard, one judgement per shard at a
// time, so that strangers do not crowd out devices. If it takes longer than a trial, it begins
// anew in an instance that serves long judgements alone. The plugin may read its state of the
// event's application, or, if the event has none, of the only application that it judges for.
// It can do nothing else: any stranger can cause a judgement, so a judgement leaves no trace.
//
// holds says whether the state that the verdict rests on is still the same. It may be called
// later and from any goroutine.
//
// An error means that there is no verdict. It holds nothing that the plugin said, since the
// plugin may repeat the credentials. Judge may be called from any goroutine while the router
// runs.
func (r *Router) Judge(ctx context.Context, name string, in *event.Inbound) (verdict event.Effect, holds func() bool, err error) {
	h := r.handlers[name]
	switch {
	case h == nil:
		return nil, nil, fmt.Errorf("there is no plugin %q to judge credentials: declare it as [plugins.%[1]s] in gateway.toml", name)
	case len(h.Limits().Judges) == 0:
		return nil, nil, fmt.Errorf("the plugin %s may not judge credentials: see plugins.%[1]s.grant.judge in gateway.toml", name)
	}
	asked := *in
	if apps := h.Limits().Judges; asked.Event.Application == "" && len(apps) == 1 && apps[0] != anyApplication {
		asked.Event.Application = apps[0]
	}
	verdict, holds, err = r.judgeIn(ctx, h, h.Try, r.shardOf(deviceKey{asked.Event.Application, asked.Transport.ClientID}), &asked)
	if fault := (*plugin.Fault)(nil); errors.As(err, &fault) && fault.Kind == plugin.FaultTrial {
		return r.judgeIn(ctx, h, h.Handle, len(r.judging)-1, &asked)
	}
	return verdict, holds, err
}

// run is Handle or Try of a Handler.
type run func(ctx context.Context, shard int, in *event.Inbound, now time.Time, st plugin.StateReader) (event.Result, error)

// judgeIn has credentials judged in one of the places for judgements. The last place has the
// instance behind that of the detour.
func (r *Router) judgeIn(ctx context.Context, h Handler, handle run, place int, in *event.Inbound) (event.Effect, func() bool, error) {
	select {
	case r.judging[place] <- struct{}{}:
		defer func() { <-r.judging[place] }()
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("waiting for the plugin %s to judge credentials: %w", h.Name(), ctx.Err())
	}
	instance := place
	if place == len(r.shards) { // the instance of that number is the detour's
		instance++
	}
	for range maxReruns {
		var read store.Batch
		verdict, err := r.judge(ctx, h, handle, instance, in, &read)
		if !errors.Is(err, store.ErrConflict) {
			return verdict, func() bool { return r.unchanged(&read) == nil }, err
		}
		r.metrics.conflicts.Add(1)
	}
	return nil, nil, fmt.Errorf("the state that the plugin %s read to judge credentials kept changing", h.Name())
}

func (r *Router) judge(ctx context.Context, h Handler, handle run, instance int, in *event.Inbound, read *store.Batch) (event.Effect,
	error) {
	var st plugin.StateReader
	if in.Event.Application != "" {
		st = &stateReader{store: r.store, batch: read, prefix: statePrefix(in.Event.Application, h.Name())}
	}
	now := in.Event.Time
	if now.IsZero() {
		now = time.Now()
	}
	res, err := handle(ctx, instance, in, now, st)
	if err := r.unchanged(read); err != nil {
		return nil, err
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("judging credentials: %w", err)
	case res.Failure != nil:
		return nil, fmt.Errorf("the plugin %s failed to judge credentials (code %#x); what it said is left out, since it may hold them", h.Name(),
			res.Failure.Code)
	case len(res.Effects) == 1:
		switch e := res.Effects[0].(type) {
		case *event.Allow:
			return e, nil
		case *event.Deny:
			return e, nil
		}
	}
	return nil, fmt.Errorf("the plugin %s answered credentials with %d effects: it must be one, allow or deny", h.Name(), len(res.Effects))
}

// unchanged says whether what was read is in the store as it was: store.ErrConflict,
// if it is not.
func (r *Router) unchanged(read *store.Batch) error {
	if len(read.Expect)+len(read.ExpectRanges) == 0 {
		return nil
	}
	return r.store.Commit(read, nil)
}
