package main

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
	"time"

	sdk "tributary.io/sdk-plugin"
)

const hour = time.Hour

// thing is what Fleets knows about a device beside its shadow. Its name is the device's name in
// the gateway, which decides which client may be the device.
type thing struct {
	name   string
	id     string // a UUID, for paths of the REST interface
	client string // MQTT client id as it was registered
	typ    string // id of its thing type
	group  string
	tags   []string
	online bool
	seen   int64 // last change of online, ms
	added  int64 // ms
}

// loadThing reads a thing by its name.
func loadThing(r *call, name string) (t thing, ok bool) {
	text, ok := r.State(thingKey(name))
	if !ok {
		return t, false
	}
	return parseThing(name, text), true
}

func parseThing(name string, text []byte) (t thing) {
	v := sdk.ParseJSON(text)
	t.name = name
	t.id, _ = v.Get("thingId").String()
	t.client, _ = v.Get("mqttClientId").String()
	t.typ, _ = v.Get("thingTypeId").String()
	t.group, _ = v.Get("group").String()
	t.online, _ = v.Get("online").Bool()
	t.seen, _ = v.Get("lastSeen").Int()
	t.added, _ = v.Get("createdAt").Int()
	for tag := range v.Get("tags").Elements() {
		text, _ := tag.String()
		t.tags = append(t.tags, text)
	}
	return t
}

// findThing reads a thing by its id or name.
func findThing(r *call, given string) (t thing, ok bool) {
	if name, found := r.State(idKey(given)); found {
		given = string(name)
	}
	return loadThing(r, given)
}

// newThing makes a thing that was never seen before.
func newThing(r *call, name string) thing {
	t := thing{name: name, id: uuid(), client: name, added: r.Event.Time.UnixMilli()}
	r.Put(idKey(t.id), []byte(name), 0)
	r.Put(clientKey(t.client), []byte(name), 0)
	return t
}

func (t *thing) store(r *call) {
	var w sdk.Writer
	t.write(&w)
	r.Put(thingKey(t.name), w.Bytes(), 0)
}

func (t *thing) write(w *sdk.Writer) {
	w.Object().Key("thingId").String(t.id).Key("name").String(t.name).Key("mqttClientId").String(t.client)
	if t.typ != "" {
		w.Key("thingTypeId").String(t.typ)
	}
	if t.group != "" {
		w.Key("group").String(t.group)
	}
	w.Key("tags").Array()
	for _, tag := range t.tags {
		w.String(tag)
	}
	w.End().Key("status").String(t.status()).Key("online").Bool(t.online)
	if t.seen != 0 {
		w.Key("lastSeen").Int(t.seen)
	}
	w.Key("createdAt").Int(t.added).End()
}

func (t *thing) status() string {
	if t.online {
		return "online"
	}
	return "offline"
}

// uuid makes a random UUID (RFC 9562 version 4). In a plugin random numbers come
// from the gateway and are the same when an event is handled again.
func uuid() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	text := hex.EncodeToString(b[:])
	return strings.Join([]string{text[:8], text[8:12], text[12:16], text[16:20], text[20:]}, "-")
}
