package router

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tributary.io/gateway/plugin"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

func connect(username, password string) *event.Inbound {
	return &event.Inbound{
		Event:     event.Event{ID: "c", Source: "/x", Type: event.TypeConnect, Data: []byte(password)},
		Transport: event.Transport{Protocol: "mqtt", ClientID: username, Username: username},
	}
}

func TestJudge(t *testing.T) {
	f := start(t, quick(), &handlerFunc{name: "p", state: func(in *event.Inbound, st plugin.StateReader) (event.Result, error) {
		if in.Event.Application != "demo" {
			return event.Result{}, fmt.Errorf("application %q", in.Event.Application)
		}
		want, err := st.Get("password/" + in.Transport.Username)
		if err != nil {
			return event.Result{}, err
		}
		allow, deny := &event.Allow{Application: "demo", Device: in.Transport.Username}, &event.Deny{Reason: "no"}
		switch {
		case in.Transport.Username == "fails":
			return event.Result{Failure: &event.Failure{Message: "secret " + string(in.Event.Data)}}, nil
		case in.Transport.Username == "breaks":
			return event.Result{}, &plugin.Fault{Plugin: "p", Kind: plugin.FaultTrap}
		case in.Transport.Username == "greedy":
			return event.Result{Effects: []event.Effect{allow, &event.Put{Key: "k", Value: []byte("v")}}}, nil
		case in.Transport.Username == "silent":
			return event.Result{}, nil
		case in.Transport.Username == "both":
			return event.Result{Effects: []event.Effect{allow, deny}}, nil
		case want != nil && string(want) == string(in.Event.Data):
			return event.Result{Effects: []event.Effect{allow}}, nil
		}
		return event.Result{Effects: []event.Effect{deny}}, nil
	}})
	if err := f.store.Commit(&store.Batch{Puts: []store.Put{{Key: store.Key{Kind: store.State, Name: "demo\x00p\x00password/anna"},
		Value: []byte("right")}}}, func(error) {}); err != nil {
		t.Fatal(err)
	}
	before := len(f.store.keys)
	for _, c := range []struct{ user, password, want string }{
		{"anna", "right", "allow"}, {"anna", "wrong", "deny"}, {"otto", "right", "deny"}, {"fails", "hunter2", "error"},
		{"breaks", "hunter2", "error"},
		{"greedy", "hunter2", "error"}, {"silent", "hunter2", "error"}, {"both", "hunter2", "error"},
	} {
		in := connect(c.user, c.password)
		verdict, _, err := f.Judge(context.Background(), "p", in)
		got := "error"
		switch e := verdict.(type) {
		case *event.Allow:
			if got = "allow"; e.Device != c.user || e.Application != "demo" {
				t.Errorf("%+v", e)
			}
		case *event.Deny:
			got = "deny"
		}
		if got != c.want || (err != nil) != (c.want == "error") {
			t.Errorf("%s: %s, %v", c.user, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error holds the password: %v", c.user, err)
		}
		if in.Event.Application != "" {
			t.Error("the event was changed")
		}
	}
	if len(f.store.keys) != before || len(f.store.logs) != 0 {
		t.Errorf("a verdict left something: %v", f.store.logs)
	}
	if _, _, err := f.Judge(context.Background(), "absent", connect("a", "b")); err == nil ||
		!strings.Contains(err.Error(), "[plugins.absent]") {
		t.Errorf("no such plugin: %v", err)
	}
}

// Who waits for a verdict gives up with its context.
func TestJudgeWaits(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	cfg := quick()
	cfg.Shards = 1
	f := start(t, cfg, &handlerFunc{name: "p", state: func(*event.Inbound, plugin.StateReader) (event.Result, error) {
		entered <- struct{}{}
		<-leave
		return event.Result{Effects: []event.Effect{&event.Deny{}}}, nil
	}})
	done := make(chan error, 1)
	go func() { _, _, err := f.Judge(context.Background(), "p", connect("a", "")); done <- err }()
	<-entered
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, _, err := f.Judge(ctx, "p", connect("b", "")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	leave <- struct{}{}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Handlers on several shards that read and write the same keys, by name and by
// range, give the same state as one after the other.
func TestConcurrentState(t *testing.T) {
	const devices, each = 8, 40
	cfg := quick()
	cfg.Shards, cfg.Retries = 4, 100
	var runs atomic.Int64
	f := start(t, cfg, &handlerFunc{name: "p", state: func(in *event.Inbound, st plugin.StateReader) (event.Result, error) {
		runs.Add(1)
		found := 0
		if err := st.Scan("n/", "", func(key string, _ []byte) bool {
			if key != fmt.Sprintf("n/%03d", found) {
				return true // the store changed under the scan: this run will not count
			}
			found++
			return true
		}); err != nil {
			return event.Result{}, err
		}
		// A number that is taken means that what was read is old: whatever is
		// answered then must not count, be it a failure or a refusal.
		next := fmt.Sprintf("n/%03d", found)
		if v, err := st.Get(next); err != nil {
			return event.Result{}, err
		} else if v != nil {
			if found%2 == 0 {
				return event.Result{Effects: []event.Effect{&event.Reply{Code: 0x80}}}, nil
			}
			return event.Result{Failure: &event.Failure{Message: "taken"}}, nil
		}
		return event.Result{Effects: []event.Effect{&event.Put{Key: next}, emit(next)}}, nil
	}, bytes: 1 << 20})
	var wg sync.WaitGroup
	for d := range devices {
		wg.Go(func() {
			for range each {
				if o := f.do(t, publish(fmt.Sprint("d", d), "t", "x")); o.Code != event.Success {
					t.Errorf("%+v", o)
					return
				}
			}
		})
	}
	wg.Wait()
	log := f.store.events(store.Events("demo"))
	if len(log) != devices*each || len(f.store.keys) != devices*each {
		t.Fatalf("%d events, %d keys, want %d", len(log), len(f.store.keys), devices*each)
	}
	seen := map[string]bool{}
	for _, e := range log {
		if seen[e.Subject] {
			t.Fatalf("%s was given twice", e.Subject)
		}
		seen[e.Subject] = true
	}
	if got := f.metrics.conflicts.Load(); int64(got) != runs.Load()-devices*each {
		t.Errorf("%d conflicts, %d runs for %d events", got, runs.Load(), devices*each)
	}
}

// A scan sees what handlers of the same event wrote, and its range is exact.
func TestScanOwnWrites(t *testing.T) {
	f := newFakeStore()
	at := func(k string) store.Key { return store.Key{Kind: store.State, Name: "demo\x00p\x00" + k} }
	if err := f.Commit(&store.Batch{Puts: []store.Put{{Key: at("a/1"), Value: []byte("1")}, {Key: at("a/3"), Value: []byte("3")},
		{Key: at("a/5"), Value: []byte("5")}, {Key: at("b")}}}, func(error) {}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		after string
		limit int
		want  string
		to    string // of the range that was read; "": to the end of the prefix
		keys  int
	}{
		{"", 9, "a/0=own a/1=1 a/4=own a/5=new a/9=", "", 3},
		{"", 1, "a/0=own", "a/1", 0},
		{"", 2, "a/0=own a/1=1", "a/4", 2},
		{"", 3, "a/0=own a/1=1 a/4=own", "a/5", 2},
		{"a/1", 9, "a/4=own a/5=new a/9=", "", 2},
		{"a/5", 9, "a/9=", "", 0},
		{"a/9", 9, "", "", 0},
		{"z", 9, "", "", 0},
	} {
		b := &store.Batch{Puts: []store.Put{{Key: at("a/9")}, {Key: at("a/4"), Value: []byte("own")}, {Key: at("a/5"), Value: []byte("new")},
			{Key: at("a/0"), Value: []byte("own")}, {Key: at("c")}},
			Deletes: []store.Key{at("a/3"), at("a/7")}}
		r := stateReader{store: f, batch: b, prefix: "demo\x00p\x00"}
		var got []string
		if err := r.Scan("a/", c.after, func(key string, value []byte) bool {
			if len(got) == c.limit {
				return false
			}
			got = append(got, key+"="+string(value))
			return true
		}); err != nil {
			t.Fatal(err)
		}
		x := b.ExpectRanges[0]
		if strings.Join(got, " ") != c.want || len(x.Keys) != c.keys || c.to != "" && x.Range.To != at(c.to).Name {
			t.Errorf("after %q, %d: %q, %d keys up to %q", c.after, c.limit, got, len(x.Keys), x.Range.To)
		}
		if err := f.Commit(&store.Batch{ExpectRanges: b.ExpectRanges}, func(error) {}); err != nil {
			t.Errorf("after %q, %d: the range does not hold: %v", c.after, c.limit, err)
		}
	}
}

// keeper notes what it is asked to keep.
type keeper struct {
	mu      sync.Mutex
	origins []stage.Origin
	kept    int
	err     error
}

func (k *keeper) Keep(b *store.Batch, o *stage.Origin, effects []event.Effect) (func(), error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.origins = append(k.origins, *o)
	b.Put(store.Put{Key: store.Key{Kind: store.Timer, Name: "k"}})
	return func() { k.mu.Lock(); k.kept += len(effects); k.mu.Unlock() }, k.err
}

// What a plugin wants later is kept in the same commit, and announced after it.
func TestKeep(t *testing.T) {
	cfg := quick()
	f := start(t, cfg, &handlerFunc{name: "p", fn: func(*event.Inbound, func(string) []byte) (event.Result, error) {
		return event.Result{Effects: []event.Effect{&event.SetTimer{Key: "a"}, &event.CancelTimer{Key: "b"}, &event.Call{ID: "c"}}}, nil
	}})
	timers, calls := &keeper{}, &keeper{}
	f.UseKeepers(Keepers{Timers: timers, Calls: calls})
	in := publish("d", "t", "x")
	in.Event.SetExtension("traceparent", "00-x")
	if o := f.do(t, in); o.Code != event.Success {
		t.Fatal(o)
	}
	want := stage.Origin{Plugin: "p", Application: "demo", Device: "d", Sender: "d", Traceparent: "00-x", Timers: 2}
	if timers.kept != 2 || calls.kept != 1 || timers.origins[0] != want || len(f.store.keys) != 1 {
		t.Errorf("%d, %d, %+v", timers.kept, calls.kept, timers.origins)
	}
	f.down.online["gw"] = stage.Delivered
	f.do(t, command("child-1", "x"))
	if o := timers.origins[1]; o.Device != "child-1" || o.Sender != "" {
		t.Errorf("of a command: %+v", o)
	}
	timers.err = &event.Failure{Code: 0x97, Message: "too many"}
	if o := f.do(t, publish("d", "t", "x")); o.Code != event.QuotaExceeded || timers.kept != 4 {
		t.Errorf("%+v", o)
	}
	f.UseKeepers(Keepers{})
	if o := f.do(t, publish("d", "t", "x")); o.Code != event.PayloadFormatInvalid {
		t.Errorf("%+v", o)
	}
}

// What an event stands for ends with it, however it ends.
func TestSubmitDue(t *testing.T) {
	key := store.Key{Kind: store.Timer, Name: "due"}
	for _, c := range []struct {
		name        string
		res         event.Result
		log, quar   int
		unhandled   bool // the key stays
		replaced    bool // before the event is handled
		plugin      string
		wantCode    event.Code
		overtaken   bool
		unavailable bool
	}{
		{name: "handled", res: event.Result{Effects: []event.Effect{emit("x")}}, log: 1},
		{name: "nothing to do"},
		{name: "refused", res: event.Result{Effects: []event.Effect{&event.Reply{Code: 0x83}}}, wantCode: 0x83},
		{name: "quarantined", res: event.Result{Failure: &event.Failure{Message: "no"}}, quar: 1, wantCode: 0x99},
		{name: "overtaken", res: event.Result{Effects: []event.Effect{emit("x")}}, replaced: true, unhandled: true, overtaken: true,
			wantCode: event.NoMatchingSubscribers},
		{name: "overtaken and refused", res: event.Result{Effects: []event.Effect{&event.Reply{Code: 0x83}}}, replaced: true, unhandled: true,
			overtaken: true, wantCode: event.NoMatchingSubscribers},
		{name: "overtaken and failed", res: event.Result{Failure: &event.Failure{Message: "no"}}, replaced: true, unhandled: true,
			overtaken: true, wantCode: event.NoMatchingSubscribers},
		{name: "no such plugin", plugin: "absent", unhandled: true, unavailable: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := quick()
			cfg.Routes = []Route{{Application: "other", Plugin: "p"}} // no route takes it: it is the plugin's own
			f := start(t, cfg, &handlerFunc{name: "p", fn: func(in *event.Inbound, _ func(string) []byte) (event.Result, error) {
				return c.res,
					nil
			}})
			put := func() store.Revision {
				if err := f.store.Commit(&store.Batch{Puts: []store.Put{{Key: key}}}, func(error) {}); err != nil {
					t.Fatal(err)
				}
				_, rev, _ := f.store.Get(key)
				return rev
			}
			rev := put()
			if c.replaced {
				put()
			}
			in := publish("d", "", "x")
			in.Event.Type = event.TypeTimer
			name := "p"
			if c.plugin != "" {
				name = c.plugin
			}
			done := make(chan stage.Outcome, 1)
			f.SubmitDue(name, in, &store.Batch{Expect: []store.Expect{{Key: key, Revision: rev}}, Deletes: []store.Key{key}},
				func(o stage.Outcome) { done <- o })
			o := <-done
			_, left, _ := f.store.Get(key)
			if o.Code != c.wantCode || o.Overtaken != c.overtaken || o.Unavailable != c.unavailable || (left != 0) != c.unhandled ||
				len(f.store.events(store.Events("demo"))) != c.log || len(f.store.events(store.Quarantine("demo"))) != c.quar {
				t.Errorf("%+v, key left: %v", o, left != 0)
			}
		})
	}
}

// A verdict holds until a key changes that the plugin read for it, or a range that it scanned.
func TestVerdictHolds(t *testing.T) {
	f := start(t, quick(), &handlerFunc{name: "p", bytes: 1 << 20, state: func(in *event.Inbound, st plugin.StateReader) (event.Result,
		error) {
		if in.Event.Type != event.TypeConnect {
			return event.Result{Effects: []event.Effect{&event.Put{Key: in.Event.Subject, Value: in.Event.Data}}}, nil
		}
		if _, err := st.Get("secret"); err != nil {
			return event.Result{}, err
		}
		err := st.Scan("node/", "", func(string, []byte) bool { return true })
		return event.Result{Effects: []event.Effect{&event.Deny{}}}, err
	}})
	for i, key := range []string{"secret", "other", "node/a", "nodes", "node/b", "secret"} {
		_, holds, err := f.Judge(context.Background(), "p", connect("anna", ""))
		if err != nil || !holds() || !holds() {
			t.Fatalf("%v: a verdict does not hold", err)
		}
		in := publish("d1", "t", fmt.Sprint(i))
		in.Event.Subject = key
		if out := f.do(t, in); out.Code != 0 {
			t.Fatalf("%+v", out)
		}
		if want := key == "other" || key == "nodes"; holds() != want {
			t.Errorf("after a write of %s the verdict holds: %v, want %v", key, !want, want)
		}
	}
}

// With the grant about, the plugin's word counts for whom its events are about; the sender
// and the application are still those of who spoke.
func TestAbout(t *testing.T) {
	for _, about := range []bool{false, true} {
		f := start(t, quick(), &handlerFunc{name: "p", about: about, state: func(*event.Inbound, plugin.StateReader) (event.Result, error) {
			return event.Result{Effects: []event.Effect{&event.Emit{Event: event.Event{Type: "t", Device: "stranger", Application: "other",
				Sender: "x"}}}}, nil
		}})
		out := f.do(t, publish("d1", "t", "1"))
		if about != (out.Code == 0) {
			t.Fatalf("about %v: %+v", about, out)
		}
		if !about {
			continue
		}
		if e := f.store.events(store.Events("demo")); len(e) != 1 || e[0].Device != "stranger" || e[0].Sender != "d1" ||
			e[0].Application != "demo" {
			t.Errorf("%+v", e)
		}
	}
}

// A judgement that takes more than a trial leaves the instance of its shard to others.
func TestALongJudgementHoldsUpNobodyElse(t *testing.T) {
	release, began := make(chan struct{}), make(chan struct{})
	allow := event.Result{Effects: []event.Effect{&event.Allow{Application: "demo", Device: "d"}}}
	f := start(t, quick(), &handlerFunc{name: "p", fn: func(in *event.Inbound, _ func(string) []byte) (event.Result, error) {
		if in.Transport.Username == "long" {
			close(began)
			<-release
		}
		return allow, nil
	}, long: func(in *event.Inbound) bool { return in.Transport.Username == "long" }})
	judged := make(chan error, 1)
	go func() {
		_, _, err := f.Judge(context.Background(), "p", connect("long", "x"))
		judged <- err
	}()
	<-began
	if _, _, err := f.Judge(context.Background(), "p", connect("short", "x")); err != nil { // in vain, if it waits behind it
		t.Error(err)
	}
	close(release)
	if err := <-judged; err != nil {
		t.Error(err)
	}
}
