package codec

import (
	"errors"
	"strconv"

	"tributary.io/sdk-plugin/event"
	"tributary.io/sdk-plugin/wire"
)

// Problems of a message that no single field is at fault for.
var (
	errInbound = errors.New("there is not exactly one inbound event")
	errResult  = errors.New("there is not exactly one result, with either effects or a failure")
	errTooMany = errors.New("the result has more than " + strconv.Itoa(MaxEffects) + " effects")
	errEffect  = errors.New("there is not exactly one kind in the effect")
	errNoEvent = errors.New("there is no event")
	errUnknown = errors.New("there is a field that this gateway does not know")
)

// Members of the oneof in tributary.plugin.v1.Effect.
const (
	effectEmit = 1 + iota
	effectPublish
	effectPut
	effectDelete
	effectSetTimer
	effectCancelTimer
	effectReply
	effectAllow
	effectDeny
	effectCall
	effectPass
	effectKeepFile
	effectDropFile
)

// AppendResponse appends a tributary.plugin.v1.HandleResponse with the result of
// one event. A failure leaves out the effects. It allocates nothing when dst has
// room.
func AppendResponse(dst []byte, r *event.Result) []byte {
	guess := 0
	for _, e := range r.Effects {
		_, n := outline(e)
		guess += n
	}
	dst, result := wire.Open(dst, 1, guess)
	if r.Failure != nil {
		dst = appendFailure(dst, r.Failure)
		return wire.Close(dst, result)
	}
	dst, effects := wire.Open(dst, 1, guess)
	for _, e := range r.Effects {
		dst = AppendEffect(dst, e)
	}
	return wire.Close(wire.Close(dst, effects), result)
}

func appendFailure(dst []byte, f *event.Failure) []byte {
	dst, m := wire.Open(dst, 2, len(f.Message))
	dst = wire.AppendBool(dst, 1, f.Retryable)
	dst = wire.AppendUint(dst, 2, uint64(f.Code))
	return wire.Close(wire.AppendString(dst, 3, f.Message), m)
}

// outline tells which member of the oneof an effect is, and about how long it is
// on the wire; see wire.Open. The kind 0 is no effect.
func outline(e event.Effect) (kind, guess int) {
	switch e := e.(type) {
	case *event.Emit:
		return effectEmit, guessEvent(&e.Event) + 3
	case *event.Publish:
		return effectPublish, guessPublish(e)
	case *event.Put:
		return effectPut, guessPut(e)
	case *event.Delete:
		return effectDelete, len(e.Key)
	case *event.SetTimer:
		return effectSetTimer, 20 + len(e.Key) + len(e.Data)
	case *event.CancelTimer:
		return effectCancelTimer, len(e.Key)
	case *event.Reply:
		return effectReply, 6 + len(e.Reason) + len(e.Payload)
	case *event.Allow:
		return effectAllow, 100
	case *event.Deny:
		return effectDeny, 8 + len(e.Reason) + len(e.Name)
	case *event.Call:
		return effectCall, 60 + len(e.URL) + len(e.Body)
	case *event.Pass:
		return effectPass, guessEvent(&e.Event) + 3
	case *event.KeepFile:
		return effectKeepFile, 12 + len(e.Name) + len(e.Upload)
	case *event.DropFile:
		return effectDropFile, len(e.Name)
	}
	return 0, 0
}

// AppendEffect appends an effect as an element of tributary.plugin.v1.Effects.
// The interface nil appends nothing.
func AppendEffect(dst []byte, e event.Effect) []byte {
	kind, guess := outline(e)
	if kind == 0 {
		return dst
	}
	dst, outer := wire.Open(dst, 1, guess+4)
	dst, inner := wire.Open(dst, kind, guess)
	switch e := e.(type) {
	case *event.Emit:
		dst = appendEventField(dst, &e.Event)
	case *event.Publish:
		dst = appendPublish(dst, e)
	case *event.Put:
		dst = appendPut(dst, e)
	case *event.Delete:
		dst = wire.AppendString(dst, 1, e.Key)
	case *event.SetTimer:
		dst = wire.AppendString(dst, 1, e.Key)
		dst = wire.AppendTime(dst, 2, e.At)
		dst = wire.AppendBytes(dst, 3, e.Data)
	case *event.CancelTimer:
		dst = wire.AppendString(dst, 1, e.Key)
	case *event.Reply:
		dst = wire.AppendUint(dst, 1, uint64(e.Code))
		dst = wire.AppendString(dst, 2, e.Reason)
		dst = appendProperties(dst, 3, e.Headers)
		dst = wire.AppendBytes(dst, 4, e.Payload)
		dst = wire.AppendString(dst, 5, e.File)
	case *event.Allow:
		dst = appendAllow(dst, e)
	case *event.Deny:
		dst = wire.AppendString(dst, 1, e.Reason)
		dst = wire.AppendUint(dst, 2, uint64(e.Code))
		dst = wire.AppendString(dst, 3, e.Name)
	case *event.Call:
		dst = appendCall(dst, e)
	case *event.Pass:
		dst = appendEventField(dst, &e.Event)
	case *event.KeepFile:
		dst = wire.AppendString(dst, 1, e.Name)
		dst = wire.AppendString(dst, 2, e.Upload)
		dst = wire.AppendBool(dst, 3, e.Append)
		dst = wire.AppendDuration(dst, 4, e.TTL)
	case *event.DropFile:
		dst = wire.AppendString(dst, 1, e.Name)
	}
	return wire.Close(wire.Close(dst, inner), outer)
}

func appendAllow(dst []byte, a *event.Allow) []byte {
	dst = wire.AppendString(dst, 1, a.Identity)
	dst = wire.AppendString(dst, 2, a.Application)
	dst = wire.AppendString(dst, 3, a.Device)
	dst = appendStrings(dst, 4, a.Publish)
	dst = appendStrings(dst, 5, a.Subscribe)
	dst = wire.AppendTime(dst, 6, a.Expires)
	return wire.AppendBool(dst, 7, a.Once)
}

// AppendEmit is AppendEffect of &Emit{*e}. Its event need not outlive the call, so
// a plugin that emits allocates nothing for it.
func AppendEmit(dst []byte, e *event.Event) []byte {
	if n := shortSize(e); n > 0 {
		return appendShort(dst, e, n)
	}
	guess := guessEvent(e) + 3
	dst, outer := wire.Open(dst, 1, guess+4)
	dst, inner := wire.Open(dst, effectEmit, guess)
	return wire.Close(wire.Close(appendEventField(dst, e), inner), outer)
}

// AppendPublish is AppendEffect of p, which need not outlive the call.
func AppendPublish(dst []byte, p *event.Publish) []byte {
	guess := guessPublish(p)
	dst, outer := wire.Open(dst, 1, guess+4)
	dst, inner := wire.Open(dst, effectPublish, guess)
	return wire.Close(wire.Close(appendPublish(dst, p), inner), outer)
}

// AppendPut is AppendEffect of p, which need not outlive the call.
func AppendPut(dst []byte, p *event.Put) []byte {
	guess := guessPut(p)
	dst, outer := wire.Open(dst, 1, guess+4)
	dst, inner := wire.Open(dst, effectPut, guess)
	return wire.Close(wire.Close(appendPut(dst, p), inner), outer)
}

func guessPublish(p *event.Publish) int { return 60 + len(p.Payload) }

func guessPut(p *event.Put) int { return 8 + len(p.Key) + len(p.Value) }

func appendPut(dst []byte, p *event.Put) []byte {
	dst = wire.AppendString(dst, 1, p.Key)
	dst = wire.AppendBytes(dst, 2, p.Value)
	return wire.AppendDuration(dst, 3, p.TTL)
}

func appendEventField(dst []byte, e *event.Event) []byte {
	dst, m := wire.Open(dst, 1, guessEvent(e))
	return wire.Close(AppendEvent(dst, e), m)
}

func appendPublish(dst []byte, p *event.Publish) []byte {
	dst = appendStrings(dst, 1, p.Topics)
	dst = wire.AppendString(dst, 2, p.Device)
	dst = wire.AppendBytes(dst, 3, p.Payload)
	dst = wire.AppendUint(dst, 4, uint64(p.QoS))
	dst = wire.AppendBool(dst, 5, p.Retain)
	dst = wire.AppendString(dst, 6, p.ContentType)
	dst = wire.AppendString(dst, 7, p.ResponseTopic)
	dst = wire.AppendBytes(dst, 8, p.Correlation)
	dst = appendProperties(dst, 9, p.Properties)
	dst = wire.AppendDuration(dst, 10, p.Expiry)
	return wire.AppendBool(dst, 11, p.Answer)
}

func appendCall(dst []byte, c *event.Call) []byte {
	dst = wire.AppendString(dst, 1, c.ID)
	dst = wire.AppendString(dst, 2, c.Method)
	dst = wire.AppendString(dst, 3, c.URL)
	dst = appendProperties(dst, 4, c.Headers)
	dst = wire.AppendBytes(dst, 5, c.Body)
	return wire.AppendDuration(dst, 6, c.Timeout)
}

func appendStrings(dst []byte, field int, list []string) []byte {
	for _, s := range list {
		dst = wire.AppendPresent(dst, field, bytesOf(s))
	}
	return dst
}
