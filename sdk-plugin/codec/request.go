package codec

import (
	"time"

	"tributary.io/sdk-plugin/event"
	"tributary.io/sdk-plugin/wire"
)

// AppendRequest appends a tributary.plugin.v1.HandleRequest for one inbound
// event. config is the plugin's configuration as its manifest declares it. It
// allocates nothing when dst has room.
func AppendRequest(dst []byte, in *event.Inbound, now time.Time, config []byte) []byte {
	start := len(dst)
	dst, at := openIndex(dst, in, now)
	dst, inbound := wire.Open(dst, 1, guessEvent(&in.Event)+guessTransport(&in.Transport))
	dst, m := wire.Open(dst, 2, guessTransport(&in.Transport))
	dst = wire.Close(appendTransport(dst, &in.Transport), m)
	if in.Original != nil {
		dst, m = wire.Open(dst, 3, guessEvent(in.Original))
		dst = wire.Close(AppendEvent(dst, in.Original), m)
	}
	dst, m = wire.Open(dst, 1, guessEvent(&in.Event))
	dst = wire.Close(AppendEvent(dst, &in.Event), m) // the data is last in the event, and the event here
	dst = wire.Close(dst, inbound)
	end := len(dst) - start
	dst = wire.AppendTime(dst, 2, now)
	dst = wire.AppendBytes(dst, 3, config)
	if at >= 0 {
		closeIndex(dst, at, extent{uint32(end - len(in.Event.Data)), uint32(len(in.Event.Data))},
			extent{uint32(len(dst) - start - len(config)), uint32(len(config))})
	}
	return dst
}

func appendTransport(dst []byte, t *event.Transport) []byte {
	dst = wire.AppendString(dst, 1, t.Protocol)
	dst = wire.AppendString(dst, 2, t.Topic)
	dst = wire.AppendUint(dst, 3, uint64(t.QoS))
	dst = wire.AppendBool(dst, 4, t.Retain)
	dst = appendProperties(dst, 5, t.Properties)
	dst = wire.AppendString(dst, 6, t.ResponseTopic)
	dst = wire.AppendBytes(dst, 7, t.Correlation)
	dst = wire.AppendString(dst, 8, t.Method)
	dst = wire.AppendString(dst, 9, t.Path)
	dst = wire.AppendString(dst, 10, t.Query)
	dst = wire.AppendString(dst, 11, t.ClientID)
	dst = wire.AppendString(dst, 12, t.Username)
	dst = wire.AppendString(dst, 13, t.Peer)
	if u := t.Upload; u != nil {
		var m wire.Mark
		dst, m = wire.Open(dst, 14, guessUpload(u))
		dst = wire.AppendString(dst, 1, u.ID)
		dst = wire.AppendUint(dst, 2, u.Size)
		dst = wire.AppendString(dst, 3, u.SHA256)
		dst = wire.AppendString(dst, 4, u.Name)
		dst = wire.Close(wire.AppendString(dst, 5, u.ContentType), m)
	}
	return dst
}

func guessUpload(u *event.Upload) int {
	return 20 + len(u.ID) + len(u.SHA256) + len(u.Name) + len(u.ContentType)
}

func appendProperties(dst []byte, field int, list []event.Property) []byte {
	for i := range list {
		var m wire.Mark
		dst, m = wire.Open(dst, field, len(list[i].Name)+len(list[i].Value)+4)
		dst = wire.AppendString(dst, 1, list[i].Name)
		dst = wire.Close(wire.AppendString(dst, 2, list[i].Value), m)
	}
	return dst
}

// guessEvent is about how long the event is on the wire; see wire.Open.
func guessEvent(e *event.Event) int {
	const attribute = 24 // tags, lengths and a usual name
	n := 5*attribute + len(e.ID) + len(e.Source) + len(e.Type) + len(e.Subject) +
		len(e.DataContentType) + len(e.DataSchema) + len(e.Application) + len(e.Device) + len(e.Sender) + len(e.Data)
	for i := range e.Extensions {
		n += attribute + len(e.Extensions[i].Value)
	}
	return n
}

func guessTransport(t *event.Transport) int {
	n := 20 + len(t.Protocol) + len(t.Topic) + len(t.ResponseTopic) + len(t.Correlation) + len(t.Method) +
		len(t.Path) + len(t.Query) + len(t.ClientID) + len(t.Username) + len(t.Peer)
	for i := range t.Properties {
		n += 6 + len(t.Properties[i].Name) + len(t.Properties[i].Value)
	}
	if t.Upload != nil {
		n += guessUpload(t.Upload)
	}
	return n
}

// ParseRequest reads a HandleRequest that holds exactly one inbound event. What
// ParseEvent says about memory holds for in and config too, and for the memory
// of in.Transport.Properties. Fields that it does not know are skipped, so that a
// plugin outlives additions to the contract.
func ParseRequest(b []byte, in *event.Inbound) (now time.Time, config []byte, err error) {
	var found int
	r := wire.Read(b, fields(3, 1))
	for r.Next() {
		switch r.Field() {
		case 1:
			if found++; found == 1 {
				r.Fail(parseInbound(r.Bytes(), in))
			}
		case 2:
			now = r.Time()
		case 3:
			config = some(r.Bytes())
		}
	}
	if found != 1 {
		r.Fail(errInbound)
	}
	if err := r.Err(); err != nil {
		return time.Time{}, nil, within("request", err)
	}
	return now, config, nil
}

func parseInbound(b []byte, in *event.Inbound) error {
	var message, transport, original []byte
	r := wire.Read(b, fields(3))
	for r.Next() {
		switch r.Field() {
		case 1:
			message = r.Bytes()
		case 2:
			transport = r.Bytes()
		case 3:
			original = r.Bytes()
		}
	}
	if err := r.Err(); err != nil {
		return err
	}
	in.Original, in.Sent = nil, nil
	if original != nil {
		in.Original = new(event.Event)
		if err := ParseEvent(original, in.Original); err != nil {
			return within("original", err)
		}
	}
	if err := ParseEvent(message, &in.Event); err != nil {
		return err
	}
	if err := parseTransport(transport, &in.Transport); err != nil {
		return within("transport", err)
	}
	return nil
}

func parseTransport(b []byte, t *event.Transport) error {
	*t = event.Transport{Properties: t.Properties[:0]}
	r := wire.Read(b, fields(14, 5))
	for r.Next() {
		switch r.Field() {
		case 1:
			t.Protocol = r.Text()
		case 2:
			t.Topic = r.Text()
		case 3:
			t.QoS = byte(r.Uint(2))
		case 4:
			t.Retain = r.Bool()
		case 5:
			t.Properties = addProperty(&r, t.Properties)
		case 6:
			t.ResponseTopic = r.Text()
		case 7:
			t.Correlation = some(r.Bytes())
		case 8:
			t.Method = r.Text()
		case 9:
			t.Path = r.Text()
		case 10:
			t.Query = r.Text()
		case 11:
			t.ClientID = r.Text()
		case 12:
			t.Username = r.Text()
		case 13:
			t.Peer = r.Text()
		case 14:
			t.Upload = new(event.Upload)
			r.Fail(parseUpload(r.Bytes(), t.Upload))
		}
	}
	return r.Err()
}

func parseUpload(b []byte, u *event.Upload) error {
	r := wire.Read(b, fields(5))
	for r.Next() {
		switch r.Field() {
		case 1:
			u.ID = r.Text()
		case 2:
			u.Size = r.Uint64()
		case 3:
			u.SHA256 = r.Text()
		case 4:
			u.Name = r.Text()
		case 5:
			u.ContentType = r.Text()
		}
	}
	return r.Err()
}

func parseProperty(b []byte) (p event.Property, err error) {
	r := wire.Read(b, fields(2))
	for r.Next() {
		switch r.Field() {
		case 1:
			p.Name = r.Text()
		case 2:
			p.Value = r.Text()
		}
	}
	return p, r.Err()
}
