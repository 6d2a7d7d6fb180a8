package mqtt

import (
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/store"
)

// A start with 100,000 sessions of 10 subscriptions each, all away, each with one
// message: the time without the disk's, and the memory that a session costs.
func BenchmarkRestore(b *testing.B) {
	const sessions, subscriptions = 100_000, 10
	st := newMemStore()
	put := func(k store.Key, value []byte) { st.keys[k] = store.Put{Key: k, Value: value} }
	for n := uint64(1); n <= sessions; n++ {
		id := fmt.Sprint("device-", n)
		from := &Client{clientID: id, peer: "192.0.2.1:1234", version: packet.V5, listener: "mqtt"}
		from.current.Store(messaging(id))
		r := sessionRecord{namespace: "n", clientID: id, principal: "p", application: "demo", device: id, expiry: time.Hour, left: time.Now(), from: from}
		put(sessKey('s', n), r.append(nil))
		subs := map[string]*subscription{}
		for i := range subscriptions {
			subs[fmt.Sprint("to/", id, "/", i)] = &subscription{qos: 1}
		}
		put(sessKey('u', n), appendSubscriptions(nil, subs, nil))
		put(queueKey('e', n, n), appendEntry(nil, &item{qos: 1, m: &message{topic: "to/" + id + "/1", payload: make([]byte, 100)}}))
	}
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		s := New(Default(), &fakeRouter{unrouted: true, store: st}, &fakeLogs{}, st, slog.New(slog.DiscardHandler))
		if err := s.Restore(&Listener{Name: "mqtt", Auth: fakeAuth(nil), Limits: DefaultLimits()}); err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/sessions, "B/session")
		for _, ses := range s.sessions {
			ses.timer.Stop()
		}
	}
}
