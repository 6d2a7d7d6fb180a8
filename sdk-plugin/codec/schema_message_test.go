package codec

import (
	"encoding/base64"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"pgregory.net/rapid"

	"tributary.io/sdk-plugin/event"
)

// message is a dynamic message with setters that do as proto3 does: a value that
// is zero is not set.
type message struct{ *dynamicpb.Message }

func (m message) field(name string) protoreflect.FieldDescriptor {
	fd := m.Descriptor().Fields().ByName(protoreflect.Name(name))
	if fd == nil {
		panic(string(m.Descriptor().FullName()) + " has no field " + name)
	}
	return fd
}

func (m message) set(name string, v any) message {
	if value := protoreflect.ValueOf(v); !value.Equal(m.field(name).Default()) {
		m.Set(m.field(name), value)
	}
	return m
}

// sub returns the message in a field, which is set from then on.
func (m message) sub(name string) message {
	return message{m.Mutable(m.field(name)).Message().Interface().(*dynamicpb.Message)}
}

// add appends a message to a list.
func (m message) add(name string) message {
	return message{m.Mutable(m.field(name)).List().AppendMutable().Message().Interface().(*dynamicpb.Message)}
}

func (m message) strings(name string, list []string) {
	for _, s := range list {
		m.Mutable(m.field(name)).List().Append(protoreflect.ValueOfString(s))
	}
}

func (m message) properties(name string, list []event.Property) {
	for _, p := range list {
		m.add(name).set("name", p.Name).set("value", p.Value)
	}
}

func (m message) time(name string, t time.Time) {
	if !t.IsZero() {
		m.sub(name).set("seconds", t.Unix()).set("nanos", int32(t.Nanosecond()))
	}
}

func (m message) duration(name string, d time.Duration) {
	if d != 0 {
		m.sub(name).set("seconds", int64(d/time.Second)).set("nanos", int32(d%time.Second))
	}
}

func (m message) attribute(name, member string, v any) {
	attributes := m.Mutable(m.field("attributes")).Map()
	value := message{attributes.Mutable(protoreflect.ValueOfString(name).MapKey()).Message().Interface().(*dynamicpb.Message)}
	if at, ok := v.(time.Time); ok {
		value.sub(member).set("seconds", at.Unix()).set("nanos", int32(at.Nanosecond()))
		return
	}
	value.Set(value.field(member), protoreflect.ValueOf(v))
}

func (m message) event(e *event.Event) {
	m.set("id", e.ID).set("source", e.Source).set("spec_version", "1.0").set("type", e.Type)
	for name, v := range map[string]string{"subject": e.Subject, "datacontenttype": e.DataContentType,
		"application": e.Application, "device": e.Device, "sender": e.Sender} {
		if v != "" {
			m.attribute(name, "ce_string", v)
		}
	}
	if e.DataSchema != "" {
		m.attribute("dataschema", "ce_uri", e.DataSchema)
	}
	if !e.Time.IsZero() {
		m.attribute("time", "ce_timestamp", e.Time)
	}
	for _, a := range e.Extensions {
		switch a.Kind {
		case event.String:
			m.attribute(a.Name, "ce_string", a.Value)
		case event.Boolean:
			m.attribute(a.Name, "ce_boolean", a.Value == "true")
		case event.Integer:
			n, _ := strconv.ParseInt(a.Value, 10, 32)
			m.attribute(a.Name, "ce_integer", int32(n))
		case event.Binary:
			b, _ := base64.StdEncoding.DecodeString(a.Value)
			m.attribute(a.Name, "ce_bytes", b)
		case event.URI:
			m.attribute(a.Name, "ce_uri", a.Value)
		case event.URIRef:
			m.attribute(a.Name, "ce_uri_ref", a.Value)
		case event.Timestamp:
			at, _ := time.Parse(time.RFC3339Nano, a.Value)
			m.attribute(a.Name, "ce_timestamp", at)
		}
	}
	switch {
	case e.Data == nil:
	case e.Text:
		m.Set(m.field("text_data"), protoreflect.ValueOfString(string(e.Data)))
	default:
		m.Set(m.field("binary_data"), protoreflect.ValueOfBytes(e.Data))
	}
}

func (m message) request(in *event.Inbound, now time.Time, config []byte) {
	inbound := m.add("inbound")
	inbound.sub("event").event(&in.Event)
	if in.Original != nil {
		inbound.sub("original").event(in.Original)
	}
	t := &in.Transport
	tr := inbound.sub("transport")
	tr.set("protocol", t.Protocol).set("topic", t.Topic).set("qos", uint32(t.QoS)).set("retain", t.Retain).
		set("response_topic", t.ResponseTopic).set("correlation", t.Correlation).set("method", t.Method).set("path", t.Path).
		set("query", t.Query).set("client_id", t.ClientID).set("username", t.Username).set("peer", t.Peer)
	tr.properties("properties", t.Properties)
	if u := t.Upload; u != nil {
		tr.sub("upload").set("id", u.ID).set("size", u.Size).set("sha256", u.SHA256).set("name", u.Name).set("content_type", u.ContentType)
	}
	m.time("now", now)
	m.set("config", config)
}

func (m message) response(r *event.Result) {
	result := m.add("results")
	if f := r.Failure; f != nil {
		result.sub("failure").set("retryable", f.Retryable).set("code", uint32(f.Code)).set("message", f.Message)
		return
	}
	effects := result.sub("effects")
	for _, e := range r.Effects {
		effects.add("effects").effect(e)
	}
}

func (m message) effect(e event.Effect) {
	switch e := e.(type) {
	case *event.Emit:
		m.sub("emit").sub("event").event(&e.Event)
	case *event.Publish:
		m = m.sub("publish").set("device", e.Device).set("payload", e.Payload).set("qos", uint32(e.QoS)).set("retain", e.Retain).
			set("content_type", e.ContentType).set("response_topic", e.ResponseTopic).set("correlation", e.Correlation).set("answer", e.Answer)
		m.strings("topics", e.Topics)
		m.properties("properties", e.Properties)
		m.duration("expiry", e.Expiry)
	case *event.Put:
		m.sub("put").set("key", e.Key).set("value", e.Value).duration("ttl", e.TTL)
	case *event.Delete:
		m.sub("delete").set("key", e.Key)
	case *event.SetTimer:
		m.sub("set_timer").set("key", e.Key).set("data", e.Data).time("at", e.At)
	case *event.CancelTimer:
		m.sub("cancel_timer").set("key", e.Key)
	case *event.Reply:
		m = m.sub("reply").set("code", uint32(e.Code)).set("reason", e.Reason).set("payload", e.Payload).set("file", e.File)
		m.properties("headers", e.Headers)
	case *event.Allow:
		m = m.sub("allow").set("identity", e.Identity).set("application", e.Application).set("device", e.Device)
		m.strings("publish", e.Publish)
		m.strings("subscribe", e.Subscribe)
		m.time("expires", e.Expires)
	case *event.Deny:
		m.sub("deny").set("reason", e.Reason)
	case *event.Call:
		m = m.sub("call").set("id", e.ID).set("method", e.Method).set("url", e.URL).set("body", e.Body)
		m.properties("headers", e.Headers)
		m.duration("timeout", e.Timeout)
	case *event.Pass:
		m.sub("pass").sub("event").event(&e.Event)
	case *event.KeepFile:
		m.sub("keep_file").set("name", e.Name).set("upload", e.Upload).set("append", e.Append).duration("ttl", e.TTL)
	case *event.DropFile:
		m.sub("drop_file").set("name", e.Name)
	}
}

// crossCheck proves that the hand-written codec speaks the schema: what it
// appends is what the protobuf runtime reads, and what the runtime writes is what
// it parses.
func crossCheck(t *rapid.T, ours []byte, theirs message, parse func([]byte)) {
	t.Helper()
	read := dynamicpb.NewMessage(theirs.Descriptor())
	if err := proto.Unmarshal(ours, read); err != nil {
		t.Fatalf("protobuf does not read it: %v\n%x", err, ours)
	}
	if !proto.Equal(read, theirs) {
		t.Fatalf("protobuf reads\n%v\nwant\n%v", read, theirs)
	}
	if n := proto.Size(theirs); n != len(ours) {
		t.Fatalf("%d bytes where protobuf needs %d", len(ours), n)
	}
	written, err := proto.MarshalOptions{Deterministic: true}.Marshal(theirs)
	if err != nil {
		t.Fatal(err)
	}
	parse(written)
	parse(ours)
}

// sameOrder sorts away the order of extensions, which a protobuf map does not keep.
var sameOrder = cmp.Transformer("byName", func(list []event.Attribute) map[string]event.Attribute {
	m := make(map[string]event.Attribute, len(list))
	for _, a := range list {
		m[a.Name] = a
	}
	return m
})

func TestRequestsSpeakTheSchema(t *testing.T) {
	descriptor := schema(t)("tributary.plugin.v1.HandleRequest")
	rapid.Check(t, func(t *rapid.T) {
		in, now, config := genInbound(t), genTime(t, "now"), genBytes(t, "config")
		theirs := message{dynamicpb.NewMessage(descriptor)}
		theirs.request(&in, now, config)
		crossCheck(t, AppendRequest(nil, &in, now, config), theirs, func(b []byte) {
			var got event.Inbound
			gotNow, gotConfig, err := ParseRequest(b, &got)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(in, got, sameOrder); d != "" {
				t.Fatal(d)
			}
			if !gotNow.Equal(now) || string(gotConfig) != string(config) {
				t.Fatalf("now %v, config %x", gotNow, gotConfig)
			}
		})
	})
}

func TestResponsesSpeakTheSchema(t *testing.T) {
	descriptor := schema(t)("tributary.plugin.v1.HandleResponse")
	rapid.Check(t, func(t *rapid.T) {
		result := genResult(t)
		theirs := message{dynamicpb.NewMessage(descriptor)}
		theirs.response(&result)
		crossCheck(t, AppendResponse(nil, &result), theirs, func(b []byte) {
			got, err := ParseResponse(b)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(result, got, sameOrder); d != "" {
				t.Fatal(d)
			}
		})
	})
}

func TestEventsSpeakTheStandard(t *testing.T) {
	descriptor := schema(t)("io.cloudevents.v1.CloudEvent")
	rapid.Check(t, func(t *rapid.T) {
		e := genEvent(t)
		theirs := message{dynamicpb.NewMessage(descriptor)}
		theirs.event(&e)
		crossCheck(t, AppendEvent(nil, &e), theirs, func(b []byte) {
			var got event.Event
			if err := ParseEvent(b, &got); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(e, got, sameOrder); d != "" {
				t.Fatal(d)
			}
		})
	})
}
