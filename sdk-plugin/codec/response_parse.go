package codec

import (
	"math"
	"strconv"

	"tributary.io/sdk-plugin/event"
	"tributary.io/sdk-plugin/wire"
)

// fields returns the set of the fields first to last, less some, for wire.Read.
func fields(last int, less ...int) uint64 {
	set := uint64(1)<<(last+1) - 2
	for _, f := range less {
		set &^= 1 << f
	}
	return set
}

// ParseResponse reads a HandleResponse that holds exactly one result. It refuses
// what it does not know, be it an effect or a field of one, because an effect
// that is half understood must not be done. An answer in which anything is wrong
// is wrong as a whole. What ParseEvent says about memory holds for the result.
// It looks at the form only; whether the plugin may do it is for the gateway to
// check.
func ParseResponse(b []byte) (event.Result, error) {
	var result []byte
	var found int
	r := wire.Read(b, 0)
	for r.Next() {
		if r.Field() != 1 {
			r.Fail(errUnknown)
		}
		result = r.Bytes()
		found++
	}
	if err := r.Err(); err != nil {
		return event.Result{}, within("response", err)
	}
	if found != 1 {
		return event.Result{}, within("response", errResult)
	}
	res, err := parseResult(result)
	if err != nil {
		return event.Result{}, within("response", err)
	}
	return res, nil
}

func parseResult(b []byte) (res event.Result, err error) {
	var members int
	r := wire.Read(b, 0)
	for r.Next() {
		members++
		switch r.Field() {
		case 1:
			res.Effects, err = parseEffects(r.Bytes())
		case 2:
			res.Failure, err = parseFailure(r.Bytes())
		default:
			err = errUnknown
		}
		r.Fail(err)
	}
	if members != 1 {
		r.Fail(errResult)
	}
	return res, r.Err()
}

func parseFailure(b []byte) (*event.Failure, error) {
	f := new(event.Failure)
	r := wire.Read(b, fields(3))
	for r.Next() {
		switch r.Field() {
		case 1:
			f.Retryable = r.Bool()
		case 2:
			f.Code = event.Code(r.Uint(math.MaxUint32))
		case 3:
			f.Message = r.Text()
		default:
			r.Fail(errUnknown)
		}
	}
	if err := r.Err(); err != nil {
		return nil, within("failure", err)
	}
	return f, nil
}

// MaxEffects is how many effects a result may have. It bounds what the gateway does
// for one event, which neither fuel nor deadline cover.
const MaxEffects = 16384

func parseEffects(b []byte) ([]event.Effect, error) {
	n := 0
	for r := wire.Read(b, 0); r.Next(); {
		if n++; n > MaxEffects {
			return nil, errTooMany
		}
	}
	if n == 0 && len(b) == 0 {
		return nil, nil
	}
	list := make([]event.Effect, 0, n)
	r := wire.Read(b, 0)
	for r.Next() {
		if r.Field() != 1 {
			return nil, errUnknown
		}
		e, err := parseEffect(r.Bytes())
		if err != nil {
			return nil, within("effect "+strconv.Itoa(len(list)), err)
		}
		list = append(list, e)
	}
	return list, r.Err()
}

// parseEffect reads the oneof.
func parseEffect(b []byte) (e event.Effect, err error) {
	r := wire.Read(b, 0)
	for r.Next() {
		if e != nil {
			return nil, errEffect
		}
		kind := r.Field()
		if e, err = parseKind(kind, r.Bytes()); err != nil {
			return nil, within(kindName(kind), err)
		}
	}
	if e == nil {
		r.Fail(errEffect)
	}
	return e, r.Err()
}

func kindName(kind int) string {
	names := [...]string{effectEmit: "emit", effectPublish: "publish", effectPut: "put", effectDelete: "delete",
		effectSetTimer: "set_timer", effectCancelTimer: "cancel_timer", effectReply: "reply",
		effectAllow: "allow", effectDeny: "deny", effectCall: "call", effectPass: "pass",
		effectKeepFile: "keep_file", effectDropFile: "drop_file"}
	if kind < len(names) {
		return names[kind]
	}
	return "kind " + strconv.Itoa(kind)
}

func parseKind(kind int, b []byte) (event.Effect, error) {
	switch kind {
	case effectEmit:
		e := new(event.Emit)
		return e, parseEventField(b, &e.Event)
	case effectPublish:
		return parsePublish(b)
	case effectPut:
		return parsePut(b)
	case effectDelete:
		key, err := parseText(b)
		return &event.Delete{Key: key}, err
	case effectSetTimer:
		return parseSetTimer(b)
	case effectCancelTimer:
		key, err := parseText(b)
		return &event.CancelTimer{Key: key}, err
	case effectReply:
		return parseReply(b)
	case effectAllow:
		return parseAllow(b)
	case effectDeny:
		return parseDeny(b)
	case effectCall:
		return parseCall(b)
	case effectPass:
		e := new(event.Pass)
		return e, parseEventField(b, &e.Event)
	case effectKeepFile:
		return parseKeepFile(b)
	case effectDropFile:
		name, err := parseText(b)
		return &event.DropFile{Name: name}, err
	}
	return nil, errUnknown
}

// parseEventField reads a message whose only field is an event.
func parseEventField(b []byte, e *event.Event) error {
	found := false
	r := wire.Read(b, fields(1))
	for r.Next() {
		if r.Field() != 1 {
			return errUnknown
		}
		found = true
		r.Fail(ParseEvent(r.Bytes(), e))
	}
	if !found {
		r.Fail(errNoEvent)
	}
	return r.Err()
}

// parseText reads a message whose only field is a string.
func parseText(b []byte) (s string, err error) {
	r := wire.Read(b, fields(1))
	for r.Next() {
		if r.Field() != 1 {
			return "", errUnknown
		}
		s = r.Text()
	}
	return s, r.Err()
}

func parsePublish(b []byte) (*event.Publish, error) {
	p := new(event.Publish)
	r := wire.Read(b, fields(11, 1, 9))
	for r.Next() {
		switch r.Field() {
		case 1:
			p.Topics = append(p.Topics, r.Text())
		case 2:
			p.Device = r.Text()
		case 3:
			p.Payload = some(r.Bytes())
		case 4:
			p.QoS = byte(r.Uint(2))
		case 5:
			p.Retain = r.Bool()
		case 6:
			p.ContentType = r.Text()
		case 7:
			p.ResponseTopic = r.Text()
		case 8:
			p.Correlation = some(r.Bytes())
		case 9:
			p.Properties = addProperty(&r, p.Properties)
		case 10:
			p.Expiry = r.Duration()
		case 11:
			p.Answer = r.Bool()
		default:
			r.Fail(errUnknown)
		}
	}
	return p, r.Err()
}

func parsePut(b []byte) (*event.Put, error) {
	p := new(event.Put)
	r := wire.Read(b, fields(3))
	for r.Next() {
		switch r.Field() {
		case 1:
			p.Key = r.Text()
		case 2:
			p.Value = some(r.Bytes())
		case 3:
			p.TTL = r.Duration()
		default:
			r.Fail(errUnknown)
		}
	}
	return p, r.Err()
}

func parseSetTimer(b []byte) (*event.SetTimer, error) {
	s := new(event.SetTimer)
	r := wire.Read(b, fields(3))
	for r.Next() {
		switch r.Field() {
		case 1:
			s.Key = r.Text()
		case 2:
			s.At = r.Time()
		case 3:
			s.Data = some(r.Bytes())
		default:
			r.Fail(errUnknown)
		}
	}
	return s, r.Err()
}

func parseReply(b []byte) (*event.Reply, error) {
	p := new(event.Reply)
	r := wire.Read(b, fields(5, 3))
	for r.Next() {
		switch r.Field() {
		case 1:
			p.Code = event.Code(r.Uint(math.MaxUint32))
		case 2:
			p.Reason = r.Text()
		case 3:
			p.Headers = addProperty(&r, p.Headers)
		case 4:
			p.Payload = some(r.Bytes())
		case 5:
			p.File = r.Text()
		default:
			r.Fail(errUnknown)
		}
	}
	return p, r.Err()
}

func parseKeepFile(b []byte) (*event.KeepFile, error) {
	k := new(event.KeepFile)
	r := wire.Read(b, fields(4))
	for r.Next() {
		switch r.Field() {
		case 1:
			k.Name = r.Text()
		case 2:
			k.Upload = r.Text()
		case 3:
			k.Append = r.Bool()
		case 4:
			k.TTL = r.Duration()
		default:
			r.Fail(errUnknown)
		}
	}
	return k, r.Err()
}

func parseCall(b []byte) (*event.Call, error) {
	c := new(event.Call)
	r := wire.Read(b, fields(6, 4))
	for r.Next() {
		switch r.Field() {
		case 1:
			c.ID = r.Text()
		case 2:
			c.Method = r.Text()
		case 3:
			c.URL = r.Text()
		case 4:
			c.Headers = addProperty(&r, c.Headers)
		case 5:
			c.Body = some(r.Bytes())
		case 6:
			c.Timeout = r.Duration()
		default:
			r.Fail(errUnknown)
		}
	}
	return c, r.Err()
}

// addProperty reads the current field of r, a Property.
func addProperty(r *wire.Reader, list []event.Property) []event.Property {
	p, err := parseProperty(r.Bytes())
	r.Fail(err)
	return append(list, p)
}

// some makes one of the two ways to say "no bytes": nil. Only an event's data
// tells them apart.
func some(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}
