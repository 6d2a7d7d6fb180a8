package codec

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tributary.io/sdk-plugin/event"
	"tributary.io/sdk-plugin/wire"
)

// nest wraps a message into one field of an outer one.
func nest(field int, parts ...[]byte) []byte {
	return wire.AppendPresent(nil, field, join(parts...))
}

func join(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func text(field int, s string) []byte { return wire.AppendPresent(nil, field, []byte(s)) }
func number(field int, v uint64) []byte {
	return wire.AppendUvarint(wire.AppendUvarint(nil, uint64(field)<<3), v)
}
func attribute(name string, value ...[]byte) []byte { return nest(5, text(1, name), nest(2, value...)) }
func effect(parts ...[]byte) []byte                 { return nest(1, nest(1, nest(1, parts...))) }

var version = text(3, "1.0")

// stamp is a Timestamp or Duration.
func stamp(seconds int64, nanos int32) []byte {
	return join(number(1, uint64(seconds)), number(2, uint64(int64(nanos))))
}

func TestParseEventRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		message []byte
		want    string
	}{
		"nothing":                 {nil, "specversion"},
		"no specversion":          {text(1, "id"), "specversion"},
		"old specversion":         {text(3, "0.3"), "specversion"},
		"id twice":                {join(version, text(1, "a"), text(1, "b")), "twice"},
		"id not UTF-8":            {join(version, text(1, "\xff")), "UTF-8"},
		"id a number":             {join(version, number(1, 7)), "wire type"},
		"ends in a field":         {join(version, []byte{1<<3 | 2, 5, 'a'}), "ends inside"},
		"ends in a tag":           {join(version, []byte{0x80}), "ends inside"},
		"length beyond 2^63":      {join(version, []byte{1<<3 | 2, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1}), "ends inside"},
		"varint of 11 bytes":      {join(version, []byte{1 << 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1}), "varint"},
		"varint above 64 bits":    {join(version, []byte{1 << 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2}), "varint"},
		"field 0":                 {join(version, []byte{0<<3 | 2, 0}), "impossible"},
		"field above 2^29":        {join(version, number(1<<29, 0)), "impossible"},
		"group":                   {join(version, []byte{9<<3 | 3, 9<<3 | 4}), "impossible"},
		"truncated fixed64":       {join(version, []byte{9<<3 | 1, 1, 2, 3}), "ends inside"},
		"truncated fixed32":       {join(version, []byte{9<<3 | 5, 1, 2, 3}), "ends inside"},
		"binary and text data":    {join(version, text(6, "a"), text(7, "b")), "data comes twice"},
		"text data not UTF-8":     {join(version, text(7, "\xc0\xa0")), "data is text that is not UTF-8"},
		"proto data":              {join(version, nest(8, text(1, "x"))), "proto_data"},
		"attribute without value": {join(version, nest(5, text(1, "x"))), "attribute x has no value"},
		"attribute of two values": {join(version, attribute("x", text(3, "a"), text(3, "b"))), "attribute x has no value or several"},
		"attribute of an unknown": {join(version, attribute("x", text(9, "a"))), "attribute x has no value"},
		"attribute twice":         {join(version, attribute("x", text(3, "a")), attribute("x", text(3, "a"))), "attribute x comes twice"},
		"subject twice": {join(version, attribute("subject", text(3, "a")), attribute("subject", text(3, "a"))),
			"attribute subject comes twice"},
		"device twice": {join(version, attribute("device", text(3, "a")), attribute("device", text(3, "a"))),
			"attribute device comes twice"},
		"subject empty":     {join(version, attribute("subject", text(3, ""))), "attribute subject is empty"},
		"subject a number":  {join(version, attribute("subject", number(2, 1))), "attribute subject has a wrong type"},
		"time a boolean":    {join(version, attribute("time", number(1, 1))), "attribute time has a wrong type"},
		"time a bad string": {join(version, attribute("time", text(3, "noon"))), "attribute time is not an RFC 3339"},
		"time twice": {join(version, attribute("time", nest(7, stamp(1, 0))), attribute("time", nest(7, stamp(1, 0)))),
			"attribute time comes twice"},
		"time before year 1":   {join(version, attribute("time", nest(7, stamp(-62135596801, 0)))), "range"},
		"time after year 9999": {join(version, attribute("time", nest(7, stamp(253402300800, 0)))), "range"},
		"negative nanos":       {join(version, attribute("time", nest(7, stamp(1, -1)))), "range"},
		"nanos of a second":    {join(version, attribute("time", nest(7, stamp(1, 1e9)))), "range"},
		"seconds twice":        {join(version, attribute("time", nest(7, number(1, 1), number(1, 1)))), "twice"},
		"boolean 2":            {join(version, attribute("x", number(1, 2))), "range"},
		"integer above int32":  {join(version, attribute("x", number(2, 1<<31))), "range"},
		"id as an attribute":   {join(version, attribute("id", text(3, "a"))), "attribute id is no extension"},
		"data as an attribute": {join(version, attribute("data", text(3, "a"))), "attribute data is no extension"},
		"too many extensions":  {join(version, manyAttributes(MaxExtensions+1)), "at most 256"},
	} {
		t.Run(name, func(t *testing.T) {
			var e event.Event
			refused(t, ParseEvent(c.message, &e), c.want)
		})
	}
}

func refused(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want one that says %q", err, want)
	}
}

func manyAttributes(n int) (b []byte) {
	for i := range n {
		b = append(b, attribute("x"+string(rune('a'+i/26))+string(rune('a'+i%26)), text(3, "v"))...)
	}
	return b
}

func TestParseEventAccepts(t *testing.T) {
	for name, c := range map[string]struct {
		message []byte
		want    event.Event
	}{
		"unknown fields": {join(version, text(15, "new"), number(99, 1),
			[]byte{9<<3 | 5, 1, 2, 3, 4, 10<<3 | 1, 1, 2, 3, 4, 5, 6, 7, 8}), event.Event{}},
		"time as a string": {join(version, attribute("time", text(3, "1970-01-01t02:00:01+02:00"))),
			event.Event{Time: time.Unix(1, 0).UTC(), TimeText: "1970-01-01t02:00:01+02:00"}},
		"time of the year 1": {join(version, attribute("time", nest(7, stamp(-62135596800, 0)))), event.Event{}},
		"extension of the year 1": {join(version, attribute("x", nest(7, stamp(-62135596800, 0)))),
			event.Event{Extensions: []event.Attribute{{Name: "x", Kind: event.Timestamp, Value: "0001-01-01T00:00:00Z"}}}},
		"data of no bytes":       {join(version, text(6, "")), event.Event{Data: []byte{}}},
		"device of another type": {join(version, attribute("device", number(2, 42))), event.Event{Device: "42"}},
	} {
		t.Run(name, func(t *testing.T) {
			e := event.Event{ID: "left over", Data: []byte("left over")}
			if err := ParseEvent(c.message, &e); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, e); d != "" {
				t.Error(d)
			}
			var again event.Event
			if err := ParseEvent(AppendEvent(nil, &e), &again); err != nil || !cmp.Equal(e, again) {
				t.Errorf("after a round trip: %v %v", again, err)
			}
		})
	}
	var e event.Event
	if err := ParseEvent(join(version, manyAttributes(MaxExtensions)), &e); err != nil || len(e.Extensions) != MaxExtensions {
		t.Errorf("%d extensions: %v", len(e.Extensions), err)
	}
}

func TestParseRequestRefuses(t *testing.T) {
	empty := nest(1, version)
	for name, c := range map[string]struct {
		message []byte
		want    string
	}{
		"nothing":        {nil, "exactly one inbound"},
		"two":            {join(nest(1, empty), nest(1, empty)), "exactly one inbound"},
		"no event":       {nest(1), "specversion"},
		"qos 3":          {nest(1, empty, nest(2, number(3, 3))), "transport: a number is out of the range"},
		"topic twice":    {nest(1, empty, nest(2, text(2, "a"), text(2, "b"))), "twice"},
		"bad property":   {nest(1, empty, nest(2, nest(5, text(1, "\xff")))), "UTF-8"},
		"bad original":   {nest(1, empty, nest(3, text(1, "id"))), "original: attribute specversion"},
		"now twice":      {join(nest(1, empty), nest(2), nest(2)), "twice"},
		"now of no year": {join(nest(1, empty), nest(2, stamp(1<<60, 0))), "range"},
	} {
		t.Run(name, func(t *testing.T) {
			var in event.Inbound
			_, _, err := ParseRequest(c.message, &in)
			refused(t, err, c.want)
		})
	}
	var in event.Inbound
	if _, _, err := ParseRequest(join(nest(1, empty, text(4, "new"), nest(2, text(15, "new"), text(15, "new"))), text(9, "new")),
		&in); err != nil {
		t.Errorf("a field of a newer gateway: %v", err)
	}
}

func TestParseResponseRefuses(t *testing.T) {
	empty := nest(1, version)
	none := nest(1, nest(1))
	for name, c := range map[string]struct {
		message []byte
		want    string
	}{
		"nothing":             {nil, "exactly one result"},
		"empty result":        {nest(1), "exactly one result"},
		"two results":         {join(none, none), "exactly one result"},
		"effects and failure": {nest(1, nest(1), nest(2)), "exactly one result"},
		"text":                {[]byte("an error message"), "response"},
		"unknown field":       {join(none, number(2, 1)), "does not know"},
		"unknown outcome":     {nest(1, nest(3)), "does not know"},
		"unknown in effects":  {nest(1, nest(1, nest(2))), "does not know"},
		"unknown effect":      {effect(nest(14)), "effect 0: kind 14: there is a field that this gateway does not know"},
		"unknown in emit":     {effect(nest(1, empty, text(2, "x"))), "effect 0: emit: there is a field"},
		"unknown in publish":  {effect(nest(2, text(12, "x"))), "publish: there is a field"},
		"unknown in put":      {effect(nest(3, text(4, "x"))), "put: there is a field"},
		"unknown in delete":   {effect(nest(4, text(2, "x"))), "delete: there is a field"},
		"unknown in timer":    {effect(nest(5, text(4, "x"))), "set_timer: there is a field"},
		"unknown in cancel":   {effect(nest(6, text(2, "x"))), "cancel_timer: there is a field"},
		"unknown in reply":    {effect(nest(7, text(6, "x"))), "reply: there is a field"},
		"unknown in allow":    {effect(nest(8, text(8, "x"))), "allow: there is a field"},
		"unknown in deny":     {effect(nest(9, text(4, "x"))), "deny: there is a field"},
		"unknown in keep":     {effect(nest(12, text(5, "x"))), "keep_file: there is a field"},
		"unknown in drop":     {effect(nest(13, text(2, "x"))), "drop_file: there is a field"},
		"unknown in call":     {effect(nest(10, text(7, "x"))), "call: there is a field"},
		"unknown in pass":     {effect(nest(11, empty, text(2, "x"))), "pass: there is a field"},
		"unknown in failure":  {nest(1, nest(2, text(4, "x"))), "failure: there is a field"},
		"empty effect":        {effect(), "exactly one kind"},
		"two kinds":           {effect(nest(4, text(1, "k")), nest(6, text(1, "k"))), "exactly one kind"},
		"emit of nothing":     {effect(nest(1)), "emit: there is no event"},
		"emit of two events":  {effect(nest(1, empty, empty)), "twice"},
		"emit of a bad event": {effect(nest(1, nest(1, version, attribute("subject", number(2, 1))))),
			"emit: attribute subject has a wrong type"},
		"qos 3":                {effect(nest(2, number(4, 3))), "publish: a number is out of the range"},
		"payload twice":        {effect(nest(2, text(3, "a"), text(3, "b"))), "twice"},
		"negative expiry":      {effect(nest(2, nest(10, stamp(-1, 0)))), "range"},
		"ttl above 292 years":  {effect(nest(3, nest(3, stamp(1<<34, 0)))), "range"},
		"negative ttl nanos":   {effect(nest(3, nest(3, stamp(0, -1)))), "range"},
		"reply code of 33 bit": {effect(nest(7, number(1, 1<<32))), "range"},
		"bad UTF-8 in filter":  {effect(nest(8, text(4, "\xed\xa0\x80"))), "UTF-8"},
		"16385 effects":        {nest(1, nest(1, bytes.Repeat(nest(1, nest(4)), MaxEffects+1))), "more than 16384 effects"},
		"second effect":        {nest(1, nest(1, nest(1, nest(4)), nest(1, nest(99)))), "effect 1: kind 99"},
		"cut off":              {nest(1, nest(1, nest(1, nest(4, []byte{1<<3 | 2, 3, 'k'})))), "ends inside"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseResponse(c.message)
			refused(t, err, c.want)
			if got.Effects != nil || got.Failure != nil {
				t.Errorf("a refused answer has a result: %v", got)
			}
		})
	}
}

func TestErrorsUnwrapToTheWire(t *testing.T) {
	_, err := ParseResponse(effect(nest(7, number(1, 1<<32))))
	if !errors.Is(err, wire.ErrRange) {
		t.Errorf("%v is not wire.ErrRange", err)
	}
}
