package session

import (
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// heldStore is a store in memory whose commits are durable at once.
type heldStore map[store.Key]store.Put

func (m heldStore) Commit(b *store.Batch, done func(error)) error {
	for _, k := range b.Deletes {
		delete(m, k)
	}
	for _, p := range b.Puts {
		m[p.Key] = p
	}
	go done(nil)
	return nil
}

func (m heldStore) Get(k store.Key) ([]byte, store.Revision, error) { return m[k].Value, 1, nil }

func (m heldStore) Scan(kind store.Kind, prefix string, fn func(name string, value []byte, rev store.Revision) bool) error {
	var names []string
	for k := range m {
		if k.Kind == kind && strings.HasPrefix(k.Name, prefix) {
			names = append(names, k.Name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if !fn(name, m[store.Key{Kind: kind, Name: name}].Value, 1) {
			break
		}
	}
	return nil
}

// noRouter takes what nobody asked for.
type noRouter struct{}

func (noRouter) Submit(_ *event.Inbound, _ stage.Companion, done func(stage.Outcome)) {
	done(stage.Outcome{})
}

// openDoor is an entrance that leaves every grant as it is.
type openDoor struct{ Entrance }

func (openDoor) Renew(g *access.Grant) (*access.Grant, error) { return g, nil }

// A start with 100,000 sessions of 10 subscriptions each, all away, each with one
// message: the time without the disk's, and the memory that a session costs.
func BenchmarkRestore(b *testing.B) {
	const sessions, subscriptions = 100_000, 10
	st := heldStore{}
	put := func(k store.Key, value []byte) { st[k] = store.Put{Key: k, Value: value} }
	for n := uint64(1); n <= sessions; n++ {
		id := fmt.Sprint("device-", n)
		from := &Client{ClientID: id, Peer: "192.0.2.1:1234", Version: packet.V5, listener: "mqtt"}
		from.current.Store(&access.Grant{Principal: "p", Namespace: "n", Application: "demo", Device: id, Method: "password", Credential: "c",
			Publish: []string{"#"}, Subscribe: []string{"#"}, Messaging: true})
		r := sessionRecord{namespace: "n", clientID: id, principal: "p", application: "demo", device: id, expiry: time.Hour, left: time.Now(),
			client: from}
		put(sessKey('s', n), r.append(nil))
		subs := map[string]*subscription{}
		for i := range subscriptions {
			subs[fmt.Sprint("to/", id, "/", i)] = &subscription{qos: 1}
		}
		put(sessKey('u', n), appendSubscriptions(nil, subs, nil, nil))
		put(queueKey('e', n, n), appendEntry(nil, &Item{QoS: 1, Message: &Message{Topic: "to/" + id + "/1", Payload: make([]byte, 100)}}))
	}
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		s := New(Default(), noRouter{}, nil, st, slog.New(slog.DiscardHandler))
		if err := s.Restore(func(string) Entrance { return openDoor{} }); err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/sessions, "B/session")
		for _, ses := range s.sessions {
			if ses.timer != nil {
				ses.timer.Stop()
			}
		}
	}
}
