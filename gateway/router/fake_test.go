package router

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tributary.io/gateway/plugin"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// handlerFunc is a plugin in plain Go; fn or state handles.
type handlerFunc struct {
	name  string
	fn    func(in *event.Inbound, get func(key string) []byte) (event.Result, error)
	state func(in *event.Inbound, st plugin.StateReader) (event.Result, error)
	long  func(in *event.Inbound) bool // whether it takes more than a trial; nil: never
	bytes int64                        // of state; 0: 20
	about bool
}

func (h *handlerFunc) Name() string   { return h.name }
func (h *handlerFunc) Digest() string { return "sha256:" + h.name }

func (h *handlerFunc) Limits() plugin.Limits {
	return plugin.Limits{StateBytes: cmp.Or(h.bytes, 20), Timers: 2, Judges: []string{"demo"}, About: h.about}
}

func (h *handlerFunc) Try(ctx context.Context, shard int, in *event.Inbound, now time.Time, st plugin.StateReader) (event.Result, error) {
	if h.long != nil && h.long(in) {
		return event.Result{}, &plugin.Fault{Plugin: h.name, Kind: plugin.FaultTrial}
	}
	return h.Handle(ctx, shard, in, now, st)
}

func (h *handlerFunc) Handle(_ context.Context, _ int, in *event.Inbound, _ time.Time, st plugin.StateReader) (event.Result, error) {
	if h.state != nil {
		return h.state(in, st)
	}
	return h.fn(in, func(key string) []byte {
		v, err := st.Get(key)
		if err != nil {
			panic(err)
		}
		return v
	})
}

// fakeStore applies commits at once and makes them durable when released.
type fakeStore struct {
	mu      sync.Mutex
	keys    map[store.Key][]byte
	revs    map[store.Key]store.Revision
	rev     store.Revision
	logs    map[store.Log][]event.Event
	fail    error
	hold    bool
	waiting []func(error)
}

func newFakeStore() *fakeStore {
	return &fakeStore{keys: map[store.Key][]byte{}, revs: map[store.Key]store.Revision{}, logs: map[store.Log][]event.Event{}}
}

func (f *fakeStore) Commit(b *store.Batch, done func(error)) error {
	f.mu.Lock()
	if f.fail != nil {
		defer f.mu.Unlock()
		return f.fail
	}
	for _, e := range b.Expect {
		if f.revs[e.Key] != e.Revision {
			f.mu.Unlock()
			return store.ErrConflict
		}
	}
	for _, x := range b.ExpectRanges {
		var have []store.Found
		for _, k := range f.sorted(x.Range) {
			have = append(have, store.Found{Name: k.Name, Revision: f.revs[k]})
		}
		if !slices.Equal(have, x.Keys) {
			f.mu.Unlock()
			return store.ErrConflict
		}
	}
	f.rev++
	for _, p := range b.Puts {
		f.keys[p.Key], f.revs[p.Key] = append([]byte{}, p.Value...), f.rev
	}
	for _, k := range b.Deletes {
		delete(f.keys, k)
		delete(f.revs, k)
	}
	for _, a := range b.Appends {
		var e event.Event
		if err := codec.ParseEvent(slices.Clone(a.Record), &e); err != nil {
			panic(err)
		}
		f.logs[a.Log] = append(f.logs[a.Log], e)
	}
	if f.hold {
		f.waiting = append(f.waiting, done)
		f.mu.Unlock()
		return nil
	}
	f.mu.Unlock()
	if done != nil {
		done(nil)
	}
	return nil
}

func (f *fakeStore) waits() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.waiting) > 0
}

func (f *fakeStore) release(err error) {
	f.mu.Lock()
	w := f.waiting
	f.waiting = nil
	f.mu.Unlock()
	for _, fn := range w {
		fn(err)
	}
}

func (f *fakeStore) Get(k store.Key) ([]byte, store.Revision, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.keys[k], f.revs[k], nil
}

func (f *fakeStore) Scan(kind store.Kind, prefix string, fn func(string, []byte, store.Revision) bool) error {
	return f.ScanRange(store.Prefix(kind, prefix), fn)
}

func (f *fakeStore) ScanRange(r store.Range, fn func(string, []byte, store.Revision) bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range f.sorted(r) {
		if !fn(k.Name, f.keys[k], f.revs[k]) {
			break
		}
	}
	return nil
}

func (f *fakeStore) sorted(r store.Range) (keys []store.Key) {
	for k := range f.keys {
		if k.Kind == r.Kind && r.Has(k.Name) {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b store.Key) int { return strings.Compare(a.Name, b.Name) })
	return keys
}

func (f *fakeStore) events(l store.Log) []event.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.logs[l])
}

// fakeRegistry: the gateway gw may speak for child-1; everything but "ghost" is known.
type fakeRegistry struct{}

func (fakeRegistry) Device(_, device string) (known, disabled bool) {
	return device != "ghost", device == "off"
}
func (fakeRegistry) Messaging(application string) (on, known bool) {
	return application == "social", application != "gone"
}
func (fakeRegistry) Trusts(_, gateway, device string) bool {
	return gateway == "gw" && device == "child-1"
}
func (fakeRegistry) Gateways(_, device string) []string {
	if device == "child-1" {
		return []string{"gw"}
	}
	return nil
}

// fakeDownlink notes what is sent; online says who takes it.
type fakeDownlink struct {
	mu     sync.Mutex
	online map[string]stage.Delivery
	late   bool // what it delivers is durable only with the next commit
	sent   []*event.Publish

	withdrawn int
}

// prepared is a message that waits for its commit; its key is committed along.
type prepared struct {
	d *fakeDownlink
	p *event.Publish
}

func (d *fakeDownlink) Prepare(_, _ string, p *event.Publish, b *store.Batch) stage.Prepared {
	if p.Device != "" {
		b.Puts = append(b.Puts, store.Put{Key: store.Key{Kind: store.Queue, Name: p.Device}, Value: p.Payload})
	}
	return prepared{d, p}
}

func (x prepared) Deliver() (stage.Delivery, bool) {
	d := x.d
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sent = append(d.sent, x.p)
	return d.online[x.p.Device], d.late
}

func (x prepared) Withdraw() {
	x.d.mu.Lock()
	defer x.d.mu.Unlock()
	x.d.withdrawn++
}

func (d *fakeDownlink) Reach(_, device string) stage.Delivery {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.online[device]
}

// fixture is a running router with its fakes.
type fixture struct {
	*Router
	store *fakeStore
	down  *fakeDownlink
}

func start(t testing.TB, cfg Config, handlers ...*handlerFunc) *fixture {
	t.Helper()
	byName := map[string]Handler{}
	for _, h := range handlers {
		byName[h.name] = h
		if len(cfg.Routes) < len(handlers) {
			cfg.Routes = append(cfg.Routes, Route{Application: "demo", Plugin: h.name})
		}
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	f := &fixture{store: newFakeStore(), down: &fakeDownlink{online: map[string]stage.Delivery{}}}
	r, err := New(cfg, byName, f.store, fakeRegistry{}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	f.Router = r
	r.Start(f.down)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return f
}

func quick() Config {
	cfg := Default()
	cfg.RetryDelay, cfg.RetryDelayMax, cfg.Retries = time.Millisecond, 4*time.Millisecond, 3
	return cfg
}

func publish(device, topic, data string) *event.Inbound {
	return &event.Inbound{
		Event: event.Event{ID: "id-x", Type: event.TypePublish, Subject: topic, Time: time.Unix(100, 0).UTC(),
			Application: "demo", Device: device, Sender: device, Data: []byte(data)},
		Transport: event.Transport{Protocol: "mqtt", Topic: topic},
	}
}

func command(device, name string) *event.Inbound {
	return &event.Inbound{
		Event: event.Event{ID: "cmd", Type: event.TypeCommand, Subject: name, Time: time.Unix(100, 0).UTC(), Application: "demo",
			Device: device},
		Transport: event.Transport{Protocol: "mqtt", Topic: "command/demo/" + device + "/" + name},
	}
}

// do submits an event and waits for its outcome.
func (f *fixture) do(t testing.TB, in *event.Inbound) stage.Outcome {
	t.Helper()
	ch := make(chan stage.Outcome, 1)
	f.Submit(in, nil, func(o stage.Outcome) { ch <- o })
	select {
	case o := <-ch:
		return o
	case <-time.After(60 * time.Second):
		t.Fatal("no outcome")
		panic("unreachable")
	}
}

func emit(subject string) event.Effect {
	return &event.Emit{Event: event.Event{Type: "test", Subject: subject}}
}

// companion counts what it hears of its commit.
type companion struct{ committed atomic.Int32 }

func (c *companion) Prepare(*store.Batch) {}
func (c *companion) Committed()           { c.committed.Add(1) }
func (c *companion) Withdraw()            {}
