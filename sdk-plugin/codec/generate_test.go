package codec

import (
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"time"

	"pgregory.net/rapid"

	"tributary.io/sdk-plugin/event"
)

// Generators of random values for the property tests. Everything they make is
// what the wire can carry exactly: UTF-8, canonical attribute values, lists that
// are nil rather than empty.

func genBytes(t *rapid.T, label string) []byte {
	return some(rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, label))
}

func genTime(t *rapid.T, label string) time.Time {
	if rapid.Bool().Draw(t, label+" absent") {
		return time.Time{}
	}
	// The first second of the year 1 is how a Time says "absent".
	s := rapid.Int64Range(-62135596800+1, 253402300799).Draw(t, label)
	return time.Unix(s, rapid.Int64Range(0, 999_999_999).Draw(t, label+" nanos")).UTC()
}

func genDuration(t *rapid.T, label string) time.Duration {
	return time.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, label))
}

func genStrings(t *rapid.T, label string) []string {
	return orNil(rapid.SliceOfN(rapid.String(), 0, 3).Draw(t, label))
}

func genProperties(t *rapid.T, label string) []event.Property {
	return orNil(rapid.SliceOfN(rapid.Custom(func(t *rapid.T) event.Property {
		return event.Property{Name: rapid.String().Draw(t, "name"), Value: rapid.String().Draw(t, "value")}
	}), 0, 3).Draw(t, label))
}

func orNil[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return list
}

func genAttribute(t *rapid.T) event.Attribute {
	a := event.Attribute{Name: "x" + rapid.StringMatching(`[a-z0-9]{0,19}`).Draw(t, "name"), Kind: event.Kind(rapid.IntRange(0, 6).Draw(t,
		"kind"))}
	switch a.Kind {
	case event.Boolean:
		a.Value = strconv.FormatBool(rapid.Bool().Draw(t, "bool"))
	case event.Integer:
		a.Value = strconv.Itoa(int(rapid.Int32().Draw(t, "int")))
	case event.Binary:
		a.Value = base64.StdEncoding.EncodeToString(genBytes(t, "binary"))
	case event.Timestamp:
		a.Value = genTime(t, "timestamp").Format(time.RFC3339Nano)
	default:
		a.Value = rapid.String().Draw(t, "value")
	}
	return a
}

func genEvent(t *rapid.T) event.Event {
	s := func(label string) string { return rapid.String().Draw(t, label) }
	e := event.Event{
		ID: s("id"), Source: s("source"), Type: s("type"), Subject: s("subject"), Time: genTime(t, "time"),
		DataContentType: s("datacontenttype"), DataSchema: s("dataschema"),
		Application: s("application"), Device: s("device"), Sender: s("sender"),
	}
	e.Extensions = rapid.SliceOfNDistinct(rapid.Custom(genAttribute), 0, 6, func(a event.Attribute) string { return a.Name }).Draw(t,
		"extensions")
	e.Extensions = orNil(slices.Clip(e.Extensions))
	switch rapid.IntRange(0, 2).Draw(t, "data") {
	case 1:
		e.Data = rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "binary")
	case 2:
		e.Data, e.Text = append([]byte{}, s("text")...), true
	}
	return e
}

func genInbound(t *rapid.T) event.Inbound {
	s := func(label string) string { return rapid.String().Draw(t, label) }
	var original *event.Event
	if rapid.Bool().Draw(t, "is an event") {
		e := genEvent(t)
		original = &e
	}
	var upload *event.Upload
	if rapid.Bool().Draw(t, "has an upload") {
		upload = &event.Upload{ID: s("upload"), Size: rapid.Uint64().Draw(t, "size"), SHA256: s("sha256"), Name: s("name"),
			ContentType: s("type")}
	}
	return event.Inbound{Event: genEvent(t), Original: original, Transport: event.Transport{
		Protocol: s("protocol"), Topic: s("topic"), QoS: rapid.ByteMax(2).Draw(t, "qos"), Retain: rapid.Bool().Draw(t, "retain"),
		Properties: genProperties(t, "properties"), ResponseTopic: s("response topic"), Correlation: genBytes(t, "correlation"),
		Method: s("method"), Path: s("path"), Query: s("query"), ClientID: s("client"), Username: s("user"), Peer: s("peer"), Upload: upload,
	}}
}

func genEffect(t *rapid.T) event.Effect {
	s := func(label string) string { return rapid.String().Draw(t, label) }
	switch rapid.IntRange(effectEmit, effectDropFile).Draw(t, "kind") {
	case effectEmit:
		return &event.Emit{Event: genEvent(t)}
	case effectPublish:
		return &event.Publish{Topics: genStrings(t, "topics"), Device: s("device"), Payload: genBytes(t, "payload"),
			QoS: rapid.ByteMax(2).Draw(t, "qos"), Retain: rapid.Bool().Draw(t, "retain"), ContentType: s("content type"),
			ResponseTopic: s("response topic"), Correlation: genBytes(t, "correlation"),
			Properties: genProperties(t, "properties"), Expiry: genDuration(t, "expiry"), Answer: rapid.Bool().Draw(t, "answer")}
	case effectPut:
		return &event.Put{Key: s("key"), Value: genBytes(t, "value"), TTL: genDuration(t, "ttl")}
	case effectDelete:
		return &event.Delete{Key: s("key")}
	case effectSetTimer:
		return &event.SetTimer{Key: s("key"), At: genTime(t, "at"), Data: genBytes(t, "data")}
	case effectCancelTimer:
		return &event.CancelTimer{Key: s("key")}
	case effectReply:
		return &event.Reply{Code: event.Code(rapid.Uint32().Draw(t, "code")), Reason: s("reason"), Headers: genProperties(t, "headers"),
			Payload: genBytes(t, "payload"),
			File:    s("file")}
	case effectAllow:
		return &event.Allow{Identity: s("identity"), Application: s("application"), Device: s("device"),
			Publish: genStrings(t, "publish"), Subscribe: genStrings(t, "subscribe"), Expires: genTime(t, "expires")}
	case effectDeny:
		return &event.Deny{Reason: s("reason")}
	case effectCall:
		return &event.Call{ID: s("id"), Method: s("method"), URL: s("url"), Headers: genProperties(t, "headers"),
			Body: genBytes(t, "body"), Timeout: genDuration(t, "timeout")}
	case effectKeepFile:
		return &event.KeepFile{Name: s("name"), Upload: s("upload"), Append: rapid.Bool().Draw(t, "append"), TTL: genDuration(t, "ttl")}
	case effectDropFile:
		return &event.DropFile{Name: s("name")}
	}
	return &event.Pass{Event: genEvent(t)}
}

func genResult(t *rapid.T) event.Result {
	if rapid.IntRange(0, 3).Draw(t, "fails") == 0 {
		return event.Result{Failure: &event.Failure{Retryable: rapid.Bool().Draw(t, "retryable"),
			Code: event.Code(rapid.Uint32().Draw(t, "code")), Message: rapid.String().Draw(t, "message")}}
	}
	return event.Result{Effects: orNil(rapid.SliceOfN(rapid.Custom(genEffect), 0, 4).Draw(t, "effects"))}
}
