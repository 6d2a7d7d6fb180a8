package timer

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tributary.io/gateway/plugin"
	"tributary.io/gateway/router"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/gateway/store/pebble"
	"tributary.io/sdk-plugin/event"
)

// gateway is a store, a router with one plugin, and timers.
type gateway struct {
	t      *testing.T
	dir    string
	store  *pebble.Store
	router *router.Router
	timers *Timers
	stop   func()

	limit int // of timers

	mu     sync.Mutex
	fired  []event.Inbound
	handle func(in *event.Inbound) []event.Effect // of timer events
	came   chan struct{}
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func start(t *testing.T) *gateway {
	g := &gateway{t: t, dir: t.TempDir(), limit: 9_000, came: make(chan struct{}, 1<<17)}
	g.open()
	t.Cleanup(g.close)
	return g
}

func (g *gateway) open() {
	g.t.Helper()
	cfg := pebble.Default()
	cfg.Dir = g.dir
	st, err := pebble.Open(cfg, quiet())
	if err != nil {
		g.t.Fatal(err)
	}
	rc := router.Default()
	rc.Shards, rc.Retries, rc.RetryDelay = 2, 2, time.Millisecond
	rc.Routes = []router.Route{{Application: "*", Plugin: "p"}}
	r, err := router.New(rc, map[string]router.Handler{"p": g}, st, nobody{}, quiet())
	if err != nil {
		g.t.Fatal(err)
	}
	g.store, g.router = st, r
	if g.timers, err = New(st, r, func(p string) bool { return p == "p" }, quiet()); err != nil {
		g.t.Fatal(err)
	}
	r.UseKeepers(router.Keepers{Timers: g.timers})
	r.Start(nobody{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.timers.Run(ctx) }()
	g.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			g.t.Error(err)
		}
		if err := r.Close(context.Background()); err != nil {
			g.t.Error(err)
		}
		if err := st.Close(); err != nil {
			g.t.Error(err)
		}
	}
}

func (g *gateway) close()  { g.stop() }
func (g *gateway) reopen() { g.stop(); g.open() }

// Handle is the plugin. The data of a publish says what to do with timers, one a
// line: set <key> <milliseconds from now> <data>, cancel <key>, fail.
func (g *gateway) Try(ctx context.Context, shard int, in *event.Inbound, now time.Time, st plugin.StateReader) (event.Result, error) {
	return g.Handle(ctx, shard, in, now, st)
}

func (g *gateway) Handle(_ context.Context, _ int, in *event.Inbound, _ time.Time, _ plugin.StateReader) (res event.Result, err error) {
	if in.Event.Type == event.TypeTimer {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.handle != nil {
			res.Effects = g.handle(in)
		}
		if len(res.Effects) == 1 && res.Effects[0] == nil {
			return event.Result{Failure: &event.Failure{Message: "no"}}, nil
		}
		g.fired = append(g.fired, *in)
		g.came <- struct{}{}
		return res, nil
	}
	for line := range strings.Lines(string(in.Event.Data)) {
		var key, data string
		var ms int
		switch n, _ := fmt.Sscanf(line, "set %s %d %s", &key, &ms, &data); {
		case n >= 2:
			res.Effects = append(res.Effects, &event.SetTimer{Key: key, At: time.Now().Add(time.Duration(ms) * time.Millisecond),
				Data: []byte(data)})
		default:
			res.Effects = append(res.Effects, &event.CancelTimer{Key: strings.TrimSpace(strings.TrimPrefix(line, "cancel "))})
		}
	}
	return res, nil
}

func (g *gateway) Name() string          { return "p" }
func (g *gateway) Digest() string        { return "sha256:p" }
func (g *gateway) Limits() plugin.Limits { return plugin.Limits{Timers: g.limit} }

// nobody is a registry and a downlink without devices.
type nobody struct{}

func (nobody) Device(string, string) (bool, bool) { return true, false }
func (nobody) Messaging(string) (on, known bool)  { return false, false }

func (nobody) Trusts(string, string, string) bool                                  { return false }
func (nobody) Gateways(string, string) []string                                    { return nil }
func (nobody) Reach(string, string) stage.Delivery                                 { return stage.NoDevice }
func (nobody) Prepare(string, string, *event.Publish, *store.Batch) stage.Prepared { panic("no") }

// do publishes commands about timers and waits until they are durable.
func (g *gateway) do(device, commands string) stage.Outcome {
	g.t.Helper()
	in := &event.Inbound{Event: event.Event{ID: "1", Source: "/x", Type: event.TypePublish, Application: "demo", Device: device,
		Sender: device, Time: time.Now(), Data: []byte(commands)}}
	done := make(chan stage.Outcome, 1)
	g.router.Submit(in, nil, func(o stage.Outcome) { done <- o })
	return <-done
}

func (g *gateway) wait(n int) []event.Inbound {
	g.t.Helper()
	for range n {
		select {
		case <-g.came:
		case <-time.After(30 * time.Second):
			g.t.Fatalf("only %d timers fired of %d", len(g.fired), n)
		}
	}
	return g.seen()
}

func (g *gateway) seen() []event.Inbound {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]event.Inbound{}, g.fired...)
}

// left waits until n timers are pending and says what is in the store.
func (g *gateway) left(n int) {
	g.t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(time.Millisecond) {
		keys := 0
		if err := g.store.Scan(store.Timer, "", func(string, []byte, store.Revision) bool { keys++; return true }); err != nil {
			g.t.Fatal(err)
		}
		pending := g.timers.Metrics()[0].Value
		if keys == 2*n && pending == float64(n) {
			return
		}
		if time.Now().After(end) {
			g.t.Fatalf("%d keys and %v timers are pending, want %d timers", keys, pending, n)
		}
	}
}

func TestFires(t *testing.T) {
	g := start(t)
	set := time.Now()
	g.do("d1", "set a 50 hello")
	e := g.wait(1)[0].Event
	scheduled, _ := e.Extension("scheduledtime")
	at, err := time.Parse(time.RFC3339Nano, scheduled)
	if e.Type != event.TypeTimer || e.Subject != "a" || string(e.Data) != "hello" || e.Application != "demo" || e.Device != "d1" ||
		e.Sender != "d1" ||
		e.ID == "" || e.Source != "/applications/demo/devices/d1" || err != nil || at.Before(set.Add(50*time.Millisecond)) || e.Time.Before(at) {
		t.Errorf("%+v", e)
	}
	g.left(0)
	_, late, _ := g.timers.late.Snapshot()
	t.Logf("%.1f ms late", late*1000)
}

// The same key replaces, whichever is earlier; cancelling removes.
func TestReplaceAndCancel(t *testing.T) {
	g := start(t)
	g.do("d", "set a 3600000 old\nset b 30 old\nset c 40 no\nset e 3600000 no")
	g.left(4)
	g.do("d", "set a 60 new\nset b 80 new\ncancel c\ncancel none\nset f 10 no\ncancel f\ncancel e\nset e 90 new\nset g 1 no\nset g 100 new")
	var got []string
	for _, in := range g.wait(4) {
		got = append(got, in.Event.Subject+" "+string(in.Event.Data))
	}
	if s := strings.Join(got, ","); s != "a new,b new,e new,g new" {
		t.Errorf("fired: %s", s)
	}
	g.left(0)
}

// A timer may set itself again, to any time, also to the one that it fired for.
func TestPeriodic(t *testing.T) {
	g := start(t)
	g.handle = func(in *event.Inbound) []event.Effect {
		n, _ := strconv.Atoi(string(in.Event.Data))
		if n == 0 {
			return []event.Effect{&event.CancelTimer{Key: in.Event.Subject}}
		}
		at := time.Now().Add(time.Duration(n%3) * time.Millisecond)
		if n%4 == 0 {
			scheduled, _ := in.Event.Extension("scheduledtime")
			at, _ = time.Parse(time.RFC3339Nano, scheduled)
		}
		return []event.Effect{&event.SetTimer{Key: in.Event.Subject, At: at, Data: []byte(strconv.Itoa(n - 1))}}
	}
	g.do("d", "set a 1 20")
	ids := map[string]bool{}
	for _, in := range g.wait(21) {
		ids[in.Event.ID] = true
	}
	if len(ids) != 21 {
		t.Errorf("%d ids of 21 events", len(ids))
	}
	g.left(0)
}

// It may also when the plugin has as many timers as it was granted.
func TestPeriodicAtTheLimit(t *testing.T) {
	g := start(t)
	g.limit = 1
	g.handle = func(in *event.Inbound) []event.Effect {
		n, _ := strconv.Atoi(string(in.Event.Data))
		if n == 0 {
			return nil
		}
		return []event.Effect{&event.SetTimer{Key: in.Event.Subject, At: time.Now(), Data: []byte(strconv.Itoa(n - 1))}}
	}
	g.do("d", "set a 1 5")
	g.wait(6)
	g.left(0)
	if _, n, err := g.store.Bounds(store.Quarantine("demo")); n != 0 || err != nil {
		t.Errorf("%d events in quarantine, %v", n, err)
	}
}

// A timer whose plugin fails for good fires once and ends in quarantine.
func TestQuarantined(t *testing.T) {
	g := start(t)
	g.handle = func(*event.Inbound) []event.Effect { return []event.Effect{nil} }
	g.do("d", "set a 1 x")
	g.left(0)
	if _, n, err := g.store.Bounds(store.Quarantine("demo")); n != 1 || err != nil {
		t.Errorf("%d events in quarantine, %v", n, err)
	}
}

func TestQuota(t *testing.T) {
	g := start(t)
	var commands strings.Builder
	for i := range 9_000 {
		fmt.Fprintf(&commands, "set t%d 3600000 x\n", i)
	}
	all := strings.SplitAfter(commands.String(), "\n")
	for len(all) > 1 {
		n := min(500, len(all))
		if o := g.do("d", strings.Join(all[:n], "")); o.Code.Refused() {
			t.Fatal(o)
		}
		all = all[n:]
	}
	g.left(9_000)
	if o := g.do("d", "set more 1 x"); o.Code != event.QuotaExceeded || !strings.Contains(o.Reason, "plugins.p.grant.timers") {
		t.Errorf("%+v", o)
	}
	if o := g.do("d", "set t7 3600000 x\ncancel t8\nset more 3600000 x"); o.Code.Refused() {
		t.Errorf("%+v", o)
	}
	g.timers.mu.Lock()
	held := len(g.timers.next)
	g.timers.mu.Unlock()
	if held > 2*window {
		t.Errorf("%d timers are in memory", held)
	}
	g.reopen()
	g.left(9_000)
}

// A start with many late timers fires all of them, each once and in the order of
// their times for each device, while devices get through.
func TestLateAfterRestart(t *testing.T) {
	late := 6_000
	if n, err := strconv.Atoi(os.Getenv("TRIBUTARY_LATE_TIMERS")); err == nil {
		late = n
	}
	g := start(t)
	g.limit = 2 * late
	g.stop()
	g.seed(late)
	g.open()
	begin := time.Now()
	if o := g.do("device-3", "set own 1 x"); o.Code.Refused() {
		t.Fatal(o)
	}
	waited := time.Since(begin)
	events := g.wait(late + 1)
	t.Logf("%d late timers took %v, a message among them %v", late, time.Since(begin), waited)
	seen, last := map[string]bool{}, map[string]int{}
	for _, in := range events {
		e := in.Event
		if seen[e.Subject] {
			t.Fatalf("%s fired twice", e.Subject)
		}
		seen[e.Subject] = true
		if n, err := strconv.Atoi(e.Subject); err == nil {
			if n < last[e.Device] {
				t.Fatalf("%s: %d after %d", e.Device, n, last[e.Device])
			}
			last[e.Device] = n
		}
	}
	if len(seen) != late+1 {
		t.Errorf("%d timers fired", len(seen))
	}
	if took := time.Since(begin); waited > took/2 {
		t.Errorf("a message took %v while late timers fired for %v", waited, took)
	}
	g.left(0)
}

// seed puts late timers into the closed store.
func (g *gateway) seed(n int) {
	g.t.Helper()
	cfg := pebble.Default()
	cfg.Dir = g.dir
	st, err := pebble.Open(cfg, quiet())
	if err != nil {
		g.t.Fatal(err)
	}
	timers := &Timers{store: st, pending: map[string]int{}, held: map[string]place{}, horizon: dueSpace}
	for i := 0; i < n; {
		b := &store.Batch{}
		for range min(500, n-i) {
			o := &stage.Origin{Plugin: "p", Application: "demo", Device: fmt.Sprint("device-", i%7), Sender: fmt.Sprint("device-", i%7), Timers: n}
			// Times that sort as numbers, unlike the keys.
			if _, err := timers.Keep(b, o, []event.Effect{&event.SetTimer{Key: strconv.Itoa(i),
				At: time.Now().Add(time.Duration(i-2*n) * time.Millisecond)}}); err != nil {
				g.t.Fatal(err)
			}
			i++
		}
		if err := st.Commit(b, nil); err != nil {
			g.t.Fatal(err)
		}
	}
	if err := st.Close(); err != nil {
		g.t.Fatal(err)
	}
}

// The timers of an application that was deleted go with it.
func TestPurge(t *testing.T) {
	g := start(t)
	var b strings.Builder
	for i := range 500 + 10 {
		fmt.Fprintf(&b, "set k%d 3600000 x\n", i)
	}
	g.do("d", b.String())
	o := &stage.Origin{Plugin: "p", Application: "demo2", Timers: 10}
	other := &store.Batch{}
	kept, err := g.timers.Keep(other, o, []event.Effect{&event.SetTimer{Key: "a", At: time.Now().Add(time.Hour)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.store.Commit(other, func(error) { kept() }); err != nil {
		t.Fatal(err)
	}
	g.left(500 + 11)
	if err := g.timers.Purge("demo"); err != nil {
		t.Fatal(err)
	}
	g.left(1)
	g.do("d", "set again 1 x")
	g.wait(1)
	g.left(1)
}

// Timers of a plugin that is not there wait for it.
func TestUnknownPlugin(t *testing.T) {
	g := start(t)
	o := &stage.Origin{Plugin: "absent", Application: "demo", Timers: 10}
	b := &store.Batch{}
	if _, err := g.timers.Keep(b, o, []event.Effect{&event.SetTimer{Key: "a", At: time.Now().Add(-time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	durable := make(chan error, 1)
	if err := g.store.Commit(b, func(err error) { durable <- err }); err != nil || <-durable != nil {
		t.Fatal(err)
	}
	g.reopen()
	g.do("d", "set a 1 x")
	g.wait(1)
	g.left(1)
}

// What the store holds may be damaged by a fault of ours: it must not stop the rest.
func TestDamaged(t *testing.T) {
	g := start(t)
	at := time.Now().UnixNano()
	for i, value := range [][]byte{nil, []byte("x"), binary.BigEndian.AppendUint64(nil, uint64(at)),
		append(binary.BigEndian.AppendUint64(nil, uint64(at)), "garbage"...)} {
		name := fmt.Sprintf("demo\x00p\x00k%d", i)
		b := &store.Batch{Puts: []store.Put{{Key: nameKey(name), Value: value}, {Key: dueKey(at, name)},
			{Key: store.Key{Kind: store.Timer, Name: "t"}}, {Key: nameKey("")}}}
		if err := g.store.Commit(b, nil); err != nil {
			t.Fatal(err)
		}
	}
	g.reopen()
	g.do("d", "set a 1 x")
	g.wait(1)
}

// twoLanes is a router whose lane 0 answers nothing until it is told to.
type twoLanes struct {
	fast    chan string
	release chan struct{}
	slow    sync.WaitGroup
}

func (l *twoLanes) Lanes() int { return 2 }

func (l *twoLanes) Lane(in *event.Inbound) int {
	if in.Event.Application == "slow" {
		return 0
	}
	return 1
}

func (l *twoLanes) SubmitDue(_ string, in *event.Inbound, _ *store.Batch, done func(stage.Outcome)) {
	if in.Event.Application != "slow" {
		l.fast <- in.Event.Subject
		done(stage.Outcome{})
		return
	}
	go func() {
		<-l.release
		done(stage.Outcome{})
		l.slow.Done()
	}()
}

// However many timers wait for a lane that is slow, those of another one fire; and
// then the slow one's do, too.
func TestSlowLane(t *testing.T) {
	const slow = 2*maxInHand + 100
	cfg := pebble.Default()
	cfg.Dir = t.TempDir()
	st, err := pebble.Open(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	l := &twoLanes{fast: make(chan string, 1), release: make(chan struct{})}
	timers, err := New(st, l, func(string) bool { return true }, quiet())
	if err != nil {
		t.Fatal(err)
	}
	set := func(application string, n int, at time.Time) {
		var effects []event.Effect
		for i := range n {
			effects = append(effects, &event.SetTimer{Key: fmt.Sprintf("t%04d", i), At: at})
		}
		var b store.Batch
		kept, err := timers.Keep(&b, &stage.Origin{Plugin: "p", Application: application, Device: "d", Timers: 10_000}, effects)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.Commit(&b, nil); err != nil {
			t.Fatal(err)
		}
		kept()
	}
	l.slow.Add(slow)
	set("slow", slow, time.Now().Add(-time.Second))
	set("other", 1, time.Now())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- timers.Run(ctx) }()
	<-l.fast
	close(l.release)
	l.slow.Wait()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := timers.behind + timers.lanes[0].inHand + len(timers.held); n != 0 {
		t.Errorf("%d timers are left in memory", n)
	}
}
