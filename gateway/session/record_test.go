package session

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
)

var golden = flag.Bool("golden", false, "write testdata/records anew")

// samples are one record of each kind, with everything set.
func samples() map[string][]byte {
	text, one, nine := func(s string) *string { return &s }, byte(1), uint32(9)
	when := time.Unix(1700000000, 500).UTC()
	m := &Message{Topic: "a/b", Payload: []byte("body"), QoS: 2, retain: true, Expires: when, Props: &packet.Properties{
		ContentType: text("text/plain"), ResponseTopic: text("r"), CorrelationData: []byte("c"), PayloadFormat: &one,
		User: []packet.UserProperty{{Name: "k", Value: "v"}, {Name: "k", Value: "w"}}}}
	shared := &subscription{group: "g", filter: "a/+"}
	from := &Client{ClientID: "c1", Username: "u", Peer: "192.0.2.1:1", Version: 5, listener: "mqtt"}
	from.current.Store(&access.Grant{
		Principal: "p", Namespace: "n", Method: "m", Credential: "k", Application: "demo", Device: "d",
		Publish: []string{"w/#", "x"}, Subscribe: []string{"s"}, Read: []string{"r"}, Write: []string{"*"},
		Messaging: true, PerMessage: true, Ask: true, Fixed: true, Expires: when.Local(),
		Names: access.Placeholders{Application: "demo", Device: "d", ClientID: "c1", Username: "u"}})
	w := &Will{Delay: time.Minute, due: when, Publish: packet.Publish{Topic: "w/t", Payload: []byte("gone"), QoS: 1, Retain: true,
		Props: &packet.Properties{MessageExpiry: &nine}},
		Client: from}
	return map[string][]byte{
		"session": (&sessionRecord{namespace: "n", clientID: "c1", principal: "p", application: "demo", device: "d",
			expiry: time.Hour, left: when, client: from}).append(nil),
		"subscriptions": appendSubscriptions(nil,
			map[string]*subscription{"$share/g/a/+": {qos: 2, noLocal: true, asIs: true, byPlugin: true, ids: []uint32{7, 268435455}}},
			map[string]*LogSubscription{"$share/g/app/demo": {Topic: "app/demo", Binary: true, QoS: 1, IDs: []uint32{3},
				Log: stage.Subscription{Application: "demo", Quarantine: true, Group: "s.g"}}}, nil),
		"entry":     appendEntry(nil, &Item{Message: m, QoS: 1, Retain: true, IDs: []uint32{1, 300}, shared: shared}),
		"reference": appendEntry(nil, &Item{Message: m, QoS: 2, body: 99}),
		"body":      m.append(nil),
		"flight":    appendFlight(nil, &flight{Item: Item{QoS: 2}, id: 4711, released: true}),
		"will":      w.append(nil),
	}
}

// What an earlier version wrote is read by this one: the files of testdata/records
// are what version 1 wrote, and may be added to, never changed.
func TestRecords(t *testing.T) {
	for name, record := range samples() {
		file := filepath.Join("testdata", "records", name+".v1.hex")
		if *golden {
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(hex.EncodeToString(record)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(stored, record) {
			t.Errorf("%s is written otherwise than version 1 did: a change needs a new version byte and a reader of both", name)
		}
		want, err := readBack(name, record)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := readBack(name, stored); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if _, err := readBack(name, append([]byte{99}, stored[1:]...)); err == nil || !strings.Contains(err.Error(), "newer") {
			t.Errorf("%s of version 99: %v", name, err)
		}
		if _, err := readBack(name, append(stored[:len(stored):len(stored)], 0xFA, 0x01, 1, 'x')); err != nil { // field 31
			t.Errorf("%s with a field of tomorrow: %v", name, err)
		}
	}
}

// A subscription to a log keeps its filter over a restart.
func TestRecordOfAFilter(t *testing.T) {
	record := appendSubscriptions(nil, nil, map[string]*LogSubscription{"app/demo": {Filter: "app/demo", Topic: "app/demo", QoS: 1,
		Where: "type = 'a'", Log: stage.Subscription{Application: "demo"}}}, nil)
	var got *LogSubscription
	if err := parseSubscriptions(record, nil, func(r *LogSubscription) { got = r }); err != nil || got.Where != "type = 'a'" {
		t.Errorf("%+v %v", got, err)
	}
}

// readBack reads a record and writes it again.
func readBack(name string, b []byte) (again []byte, err error) {
	switch name {
	case "session":
		var r sessionRecord
		if err := r.parse(b); err != nil {
			return nil, err
		}
		if r.read != nil {
			r.client = clientOf(r.read)
		}
		return r.append(nil), nil
	case "subscriptions":
		subs, readers := map[string]*subscription{}, map[string]*LogSubscription{}
		err = parseSubscriptions(b, func(topic string, s *subscription, _ bool) { subs[topic] = s },
			func(r *LogSubscription) { readers[r.Filter] = r })
		return appendSubscriptions(nil, subs, readers, nil), err
	case "entry", "reference":
		e, err := parseEntry(b, true)
		if err != nil {
			return nil, err
		}
		if e.Message == nil {
			e.Message = &Message{Payload: make([]byte, e.size), Expires: e.expires}
		}
		return appendEntry(nil, &e.Item), nil
	case "body":
		m := new(Message)
		if err := m.parse(b, nil); err != nil {
			return nil, err
		}
		return m.append(nil), nil
	case "flight":
		f := new(flight)
		err = f.parse(b)
		return appendFlight(nil, f), err
	}
	w, from := new(Will), new(clientRecord)
	if err := w.parse(b, from); err != nil {
		return nil, err
	}
	w.Client = clientOf(from)
	return w.append(nil), nil
}

func clientOf(r *clientRecord) *Client {
	s := &Client{ClientID: r.clientID, Username: r.username, Peer: r.peer, Version: r.version, listener: r.listener}
	s.current.Store(&r.grant)
	return s
}

func TestRecordsKeepEverything(t *testing.T) {
	for name, record := range samples() {
		again, err := readBack(name, record)
		if err != nil || !bytes.Equal(again, record) {
			t.Errorf("%s: read and written again it is\n%x, was\n%x (%v)", name, again, record, err)
		}
	}
}

// Whatever is on the disk: a reader of records answers with an error at worst.
func FuzzRecords(f *testing.F) {
	for _, record := range samples() {
		f.Add(record)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name := range samples() {
			again, err := readBack(name, b)
			if err != nil {
				continue
			}
			if third, err := readBack(name, again); err != nil {
				t.Errorf("%s cannot be read again: %v\n%x\n%x", name, err, again, third)
			}
		}
	})
}

func TestKeys(t *testing.T) {
	for _, c := range []struct{ space, topic string }{{"demo", "a/b"}, {"\x00n", "t"}, {strings.Repeat("s", 200), ""}, {"", "x"}} {
		space, topic, ok := retainedNames(retainedKey(c.space, c.topic).Name)
		if !ok || space != c.space || topic != c.topic {
			t.Errorf("%q %q became %q %q", c.space, c.topic, space, topic)
		}
	}
	if n, seq, ok := keyNumbers(queueKey('e', 5, 1<<40).Name); n != 5 || seq != 1<<40 || !ok {
		t.Error(n, seq, ok)
	}
	if n, id, ok := keyNumbers(incomingKey(5, 65535).Name); n != 5 || id != 65535 || !ok {
		t.Error(n, id, ok)
	}
	if _, _, ok := keyNumbers("s123"); ok {
		t.Error("a short name has numbers")
	}
}
