package router

import (
	"fmt"
	"strconv"
	"time"

	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// collect adds the effects of one handler to the shard's batch and the plan.
func (s *shard) collect(p *plan, j *job, res *event.Result) (*event.Pass, error) {
	origin, state := j.in, &s.state
	var passed *event.Pass
	var kept keptEffects
	grown := int64(0)
	for _, eff := range res.Effects {
		switch e := eff.(type) {
		case *event.Emit:
			if err := s.emit(p, origin, &e.Event); err != nil {
				return nil, err
			}
		case *event.Publish:
			p.publishes = append(p.publishes, e)
		case *event.Put:
			n, err := state.put(e, origin.Event.Time)
			if err != nil {
				return nil, err
			}
			grown += n
		case *event.Delete:
			n, err := state.delete(e.Key)
			if err != nil {
				return nil, err
			}
			grown += n
		case *event.SetTimer, *event.CancelTimer, *event.Call, *event.KeepFile, *event.DropFile:
			kept.add(e)
		case *event.Reply:
			if err := s.reply(p, origin, e); err != nil {
				return nil, err
			}
		case *event.Pass:
			if passed != nil {
				return nil, &event.Failure{Message: "the plugin " + p.plugin.Name() + " passed an event on twice: pass is allowed once"}
			}
			if err := s.identify(origin, &e.Event); err != nil {
				return nil, err
			}
			passed = e
		default:
			return nil, &event.Failure{Message: fmt.Sprintf("the plugin %s answered with %T, which has no meaning for this event", p.plugin.Name(),
				eff)}
		}
	}
	if err := s.keepAll(p, j, &kept); err != nil {
		return nil, err
	}
	if grown != 0 {
		p.grown = append(p.grown, growth{state.prefix, grown})
	}
	return passed, s.r.reserve(state.prefix, p.plugin, p.growth(state.prefix))
}

// wantsStatus says whether the code of a reply is an HTTP status: that of a request is, and
// that of a CloudEvent which came over HTTP is a reason code, as over MQTT.
func wantsStatus(in *event.Inbound) bool {
	return in.Transport.Protocol == "http" && in.Event.Type == event.TypeRequest
}

// reply keeps the answer for the source. On MQTT a code of 0x80 or more refuses
// the event and drops its other effects.
func (s *shard) reply(p *plan, origin *event.Inbound, e *event.Reply) error {
	if !wantsStatus(origin) && e.Code >= 0x80 {
		return &stage.Error{Code: codeOr(e.Code, event.ImplementationSpecificError), Reason: e.Reason}
	}
	if e.File != "" && !wantsStatus(origin) {
		return &event.Failure{Message: "the plugin " + p.plugin.Name() + " replied with a file to what is no HTTP request"}
	}
	p.reply, p.replier = e, p.plugin
	return nil
}

// identify sets the application, device and sender of an event from the authenticated identity.
// The plugin decides only two things: which device a trusted gateway speaks for, and which of
// its devices an event of the application itself is about.
func (s *shard) identify(origin *event.Inbound, e *event.Event) error {
	o := &origin.Event
	e.Application, e.Sender = o.Application, o.Sender
	if e.Device == "" || e.Device == o.Device {
		e.Device = o.Device
		return nil
	}
	if o.Device == "" && o.Sender == "" { // an event of the application itself, such as a user's request
		if known, _ := s.r.registry.Device(o.Application, e.Device); !known {
			return &stage.Error{Code: event.NotAuthorized, Reason: fmt.Sprintf("the application has no device %q", e.Device)}
		}
		return nil
	}
	if o.Type == event.TypeCommand || !s.r.registry.Trusts(o.Application, o.Sender, e.Device) {
		return &stage.Error{Code: event.NotAuthorized, Reason: fmt.Sprintf(
			"%q may not speak for %q: add it to gateway_for of the device %[1]q", o.Sender, e.Device)}
	}
	s.r.carriers.note(deviceKey{o.Application, e.Device}, o.Sender)
	return nil
}

// emit completes an event and appends it to the application's log.
func (s *shard) emit(p *plan, origin *event.Inbound, e *event.Event) error {
	if p.plugin.Limits().About && e.Device != "" { // the plugin answers for it
		e.Application, e.Sender = origin.Event.Application, origin.Event.Sender
	} else if err := s.identify(origin, e); err != nil {
		return err
	}
	if e.ID == "" {
		e.ID = origin.Event.ID
		if n := p.emitted - p.before; n > 0 {
			e.ID += "." + strconv.Itoa(n)
		}
	}
	if e.Source == "" {
		e.Source = stage.Source(e.Application, e.Device)
	}
	if e.Time.IsZero() && e.TimeText == "" {
		e.Time = origin.Event.Time
	}
	e.Text = e.Text || codec.IsText(e.DataContentType, e.Data)
	e.SetExtension("plugin", p.plugin.Name())
	e.SetExtension("plugindigest", p.plugin.Digest())
	if v, ok := origin.Event.Extension("traceparent"); ok {
		e.SetExtension("traceparent", v)
	}
	if err := codec.Validate(e); err != nil {
		return invalid(p.plugin.Name(), origin, e, err)
	}
	p.emitted++
	s.append(store.Events(e.Application), e)
	return nil
}

// invalid tells a mistake of the sender from one of the plugin, if an event is no valid
// CloudEvent. MQTT lets a device name any content type, and a plugin that passes it on has done
// nothing wrong.
func invalid(plugin string, origin *event.Inbound, e *event.Event, err error) *event.Failure {
	without := *e
	if without.DataContentType = ""; e.DataContentType == origin.Event.DataContentType && codec.Validate(&without) == nil {
		return &event.Failure{Message: fmt.Sprintf("the sender's content type %.100q is no media type (RFC 2046), such as application/json",
			e.DataContentType)}
	}
	return &event.Failure{Message: fmt.Sprintf("the plugin %s emitted an event that is not a valid CloudEvent: %v", plugin, err)}
}

// append adds an event to a log in the shard's batch.
func (s *shard) append(l store.Log, e *event.Event) {
	start := len(s.record)
	s.record = codec.AppendEvent(s.record, e)
	s.batch.Appends = append(s.batch.Appends, store.Append{Log: l, Record: s.record[start:len(s.record):len(s.record)], Time: time.Now()})
}
