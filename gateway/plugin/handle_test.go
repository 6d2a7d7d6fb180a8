package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"tributary.io/sdk-plugin/event"
)

// fakeState is a StateReader over a map.
type fakeState map[string]string

func (f fakeState) Get(key string) ([]byte, error) {
	if key == "broken" {
		return nil, errStore
	}
	v, ok := f[key]
	if !ok {
		return nil, nil
	}
	return append([]byte{}, v...), nil
}

func (f fakeState) Scan(prefix, after string, fn func(string, []byte) bool) error {
	for _, key := range slices.Sorted(maps.Keys(f)) {
		if strings.HasPrefix(key, prefix) && key > after && !fn(key, []byte(f[key])) {
			break
		}
	}
	if prefix == "broken" {
		return errStore
	}
	return nil
}

// countingState counts the reads that reach it.
type countingState struct {
	fakeState
	gets map[string]int
}

func (c countingState) Get(key string) ([]byte, error) {
	c.gets[key]++
	return c.fakeState.Get(key)
}

var errStore = errors.New("the disk is gone")

func TestState(t *testing.T) {
	h := testHost(t, testConfig())
	p := load(t, h, goGuest(t, "modes"), everything())
	st := countingState{fakeState{"short": "abc", "long": strings.Repeat("x", 5000), "empty": ""}, map[string]int{}}
	for _, c := range []struct{ key, want string }{
		{"short", "value abc"},
		{"long", "value " + st.fakeState["long"]}, // asked for twice, read once
		{"empty", "value "},
		{"absent", "-1"},
		{strings.Repeat("k", maxKeyBytes+1), "-2"},
	} {
		clear(st.gets)
		res, err := p.Handle(context.Background(), 0, inbound("state "+c.key), testTime, st)
		if err != nil {
			t.Fatalf("%.20s: %v", c.key, err)
		}
		if got := emitted(t, res); got != c.want {
			t.Errorf("%.20s: got %.40q, want %.40q", c.key, got, c.want)
		}
		if c.want != "-2" && st.gets[c.key] != 1 || len(st.gets) > 1 {
			t.Errorf("%.20s: reads: %v", c.key, st.gets)
		}
	}
	clear(st.gets)
	if _, err := p.Handle(context.Background(), 0, inbound("states"), testTime, st); err != nil || len(st.gets) != maxReads {
		t.Errorf("%d reads of one event, want %d (%v)", len(st.gets), maxReads, err)
	}
	large := fakeState{}
	for i := range 100 {
		large[fmt.Sprint("k", i)] = strings.Repeat("x", 1<<20)
	}
	if res, err := p.Handle(context.Background(), 0, inbound("states"), testTime, large); err != nil || emitted(t, res) != "16" {
		t.Errorf("reads of 1 MiB each: %v %v", res, err)
	}

	// A store that fails is no fault of the plugin, and the instance goes on.
	_, err := p.Handle(context.Background(), 0, inbound("state broken"), testTime, st)
	var f *Fault
	if !errors.Is(err, errStore) || errors.As(err, &f) {
		t.Errorf("error of the store became %v", err)
	}
	if got := ask(t, p, 0, "echo x"); got != "x clean" {
		t.Errorf("after an error of the store: %q", got)
	}

	none := load(t, h, goGuest(t, "modes"), Grant{Emit: []string{"*"}})
	clear(st.gets)
	res, err := none.Handle(context.Background(), 0, inbound("state short"), testTime, st)
	if err != nil || emitted(t, res) != "-2" || len(st.gets) != 0 {
		t.Errorf("state without a grant: %v %v %v", res, st.gets, err)
	}
}

// TestDeterministic checks that time and chance come from the event alone.
func TestDeterministic(t *testing.T) {
	p := load(t, testHost(t, testConfig()), goGuest(t, "modes"), everything())
	if got, want := ask(t, p, 0, "time"), testTime.Format(time.RFC3339Nano); got != want {
		t.Errorf("the guest's clock says %s, want %s", got, want)
	}
	first := ask(t, p, 0, "random")
	if again := ask(t, p, 1, "random"); again != first {
		t.Errorf("the same event drew %s and %s", first, again)
	}
	other := inbound("random")
	other.Event.ID = "id-2"
	res, err := p.Handle(context.Background(), 0, other, testTime, nil)
	if err != nil || emitted(t, res) == first {
		t.Errorf("another event drew the same: %v %v", first, err)
	}
	got, err := time.ParseDuration(ask(t, p, 0, "sleep"))
	if err != nil || got < 2*time.Hour || got > 3*time.Hour { // of its own clock: it may not run for so long
		t.Errorf("the guest slept %v (%v), want 2 hours", got, err)
	}
}

// TestGrantChecked checks each effect against what is granted.
func TestGrantChecked(t *testing.T) {
	h := testHost(t, testConfig())
	g := Grant{Publish: []string{"command/+", "up/#"}, Emit: []string{"io.acme.*", "exact"}, StateBytes: 12}
	p := load(t, h, goGuest(t, "modes"), g)
	for _, c := range []struct{ send, refused string }{
		{"emit io.acme.reading", ""},
		{"emit exact", ""},
		{"emit exactly", "grant.emit"},
		{"emit io.acm", "grant.emit"},
		{"publish command/x", ""},
		{"publish up/a/b", ""},
		{"publish command/x/y", "grant.publish"},
		{"publish $up/a", "grant.publish"},
		{"publish up/+", "no topic name"},
		{"publish x" + strings.Repeat("y", 5000), "grant.publish"},
		{"publish ", "no topic name"},
		{"put key=value", ""},
		{"put key=valuetoolong", "grant.state_bytes"},
		{"put =value", "state key of 0 bytes"},
		{"delete key", ""},
		{"delete " + strings.Repeat("k", 13), "grant.state_bytes"},
		{"pass x", "grant.pass"},
		{"timer x", "timer"},
	} {
		res, err := send(p, 0, c.send)
		switch {
		case err != nil:
			t.Errorf("%s: %v", c.send, err)
		case c.refused == "" && (res.Failure != nil || len(res.Effects) != 1):
			t.Errorf("%s: refused: %v", c.send, res.Failure)
		case c.refused != "" && (res.Failure == nil || res.Failure.Retryable || len(res.Effects) != 0 ||
			!strings.Contains(res.Failure.Message, c.refused) || len(res.Failure.Message) > 500):
			t.Errorf("%s: %+v, want a permanent failure that says %q", c.send, res, c.refused)
		}
	}
	res, err := send(p, 0, "fail my own words")
	if err != nil || res.Failure == nil || res.Failure.Message != "my own words" {
		t.Errorf("the plugin's own failure became %+v (%v)", res, err)
	}
}

// TestMemoryOwned checks that a result stays what it is when the guest goes on.
func TestMemoryOwned(t *testing.T) {
	p := load(t, testHost(t, testConfig()), goGuest(t, "modes"), everything())
	var results []event.Result
	for i := range 50 {
		res, err := send(p, 0, fmt.Sprintf("echo %040d", i))
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, res)
	}
	for i, res := range results {
		if got, want := emitted(t, res), fmt.Sprintf("%040d clean", i); got != want {
			t.Fatalf("result %d became %q", i, got)
		}
		if e := res.Effects[0].(*event.Emit); e.Event.Type != "test.echo" {
			t.Fatalf("type %d became %q", i, e.Event.Type)
		}
	}
}

// TestLargeEvents sends requests beyond the first buffer and results near the cap.
func TestLargeEvents(t *testing.T) {
	p := load(t, testHost(t, testConfig()), goGuest(t, "modes"), everything())
	for _, n := range []int{1, 4000, 4096, 5000, 100_000, 1_000_000, 10} {
		text := strings.Repeat("a", n)
		if got := ask(t, p, 0, "echo "+text); got != text+" clean" {
			t.Fatalf("%d bytes came back as %d", n, len(got))
		}
	}
	if got := ask(t, p, 0, "large 4000000"); len(got) != 4_000_000 {
		t.Errorf("large result has %d bytes", len(got))
	}
}

// TestPanicThird lets the guest panic on every third event: state counts from
// one again afterwards, and no event after it is hurt.
func TestPanicThird(t *testing.T) {
	p := load(t, testHost(t, testConfig()), goGuest(t, "modes"), everything())
	for i := range 12 {
		res, err := send(p, 0, "third")
		if i%3 == 2 {
			var f *Fault
			if !errors.As(err, &f) || !strings.Contains(f.Detail, "third event") {
				t.Fatalf("event %d: %v", i, err)
			}
			continue
		}
		if err != nil || emitted(t, res) != itoa(i%3+1) {
			t.Fatalf("event %d: %v %v", i, res, err)
		}
	}
}

// TestMemoryAfterFaults checks that faults do not use memory up: a guest that
// grows and breaks again and again keeps the whole of its limit.
func TestMemoryAfterFaults(t *testing.T) {
	g := everything()
	g.MemoryBytes = 48 << 20
	p := load(t, testHost(t, testConfig()), goGuest(t, "modes"), g)
	for i := range 10 {
		var f *Fault
		if _, err := send(p, 0, "grow"); !errors.As(err, &f) || !strings.Contains(f.Detail, "grown") {
			t.Fatalf("round %d: %v", i, err)
		}
	}
}

// TestStateBeyondSnapshots restores guests with globals that they do not export,
// with vector or reference globals, and with a changed table.
func TestStateBeyondSnapshots(t *testing.T) {
	h := testHost(t, testConfig())
	for name, want := range map[string]string{"globals": "ok trap ok trap ok trap", "simd": "ok trap ok trap ok trap",
		"table": "trap trap trap", "reference": "trap trap trap"} {
		t.Run(name, func(t *testing.T) {
			p := load(t, h, watGuest(t, name), Grant{})
			var got []string
			for range strings.Fields(want) {
				_, err := send(p, 0, "x")
				var f *Fault
				switch {
				case err == nil:
					got = append(got, "ok")
				case errors.As(err, &f):
					got = append(got, f.Kind)
				default:
					t.Fatal(err)
				}
			}
			if strings.Join(got, " ") != want {
				t.Errorf("got %v, want %s", got, want)
			}
		})
	}
}

// TestFuel checks that the budget is a budget per event.
func TestFuel(t *testing.T) {
	g := everything()
	g.Fuel = 3_000_000
	p := load(t, testHost(t, testConfig()), goGuest(t, "modes"), g)
	for range 3 {
		for range 20 {
			ask(t, p, 0, "echo x")
		}
		var f *Fault
		if _, err := send(p, 0, "spin"); !errors.As(err, &f) || f.Kind != FaultFuel || !strings.Contains(f.Detail, "3000000") {
			t.Fatalf("spin: %v", err)
		}
	}
}

// TestStackLimit checks that deep calls end long before wazero's own limit of
// 100 MB, and that the stack is given back.
func TestStackLimit(t *testing.T) {
	p := load(t, testHost(t, testConfig()), watGuest(t, "recurse"), Grant{})
	for range 3 {
		var f *Fault
		if _, err := send(p, 0, "x"); !errors.As(err, &f) || f.Kind != FaultStack {
			t.Fatal(err)
		}
		in := p.slots[0].in
		if !in.handle.stack.IsValid() {
			t.Fatal("the stack of a wazero function cannot be seen: newGuestFunc has to follow a change in wazero")
		}
		if n := in.handle.stackBytes(); n > 2*maxStack+maxStack/2 {
			t.Errorf("the stack grew to %d bytes", n)
		}
	}
}

func TestLogs(t *testing.T) {
	var out logBuffer
	cfg := testConfig()
	cfg.LogBytes = 100
	p := load(t, logHost(t, cfg, &out), goGuest(t, "modes"), everything())
	ask(t, p, 0, "logonce hello from inside")
	if text := out.String(); !strings.Contains(text, `level=INFO msg="hello from inside" plugin=guest device=d`) {
		t.Errorf("log:\n%s", text)
	}
	ask(t, p, 0, "logonce "+strings.Repeat("y", 1000))
	if text := out.String(); !strings.Contains(text, strings.Repeat("y", 100)) || strings.Contains(text, strings.Repeat("y", 101)) {
		t.Errorf("a long line was not cut to 100 bytes:\n%s", text)
	}
	for _, m := range p.samples() {
		if m.Name == "tributary_plugin_log_dropped_bytes_total" && m.Value != 900 {
			t.Errorf("dropped %v bytes, want 900", m.Value)
		}
	}
}

func TestSettings(t *testing.T) {
	h := testHost(t, testConfig())
	settings := map[string]string{"unit": "°C", "a": "1"}
	p, err := h.Load(context.Background(), "guest", goGuest(t, "modes"), everything(), settings)
	if err != nil {
		t.Fatal(err)
	}
	res, err := send(p, 0, "config")
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal([]byte(emitted(t, res)), &got); err != nil || !cmp.Equal(got, settings) {
		t.Errorf("the guest saw %v (%v)", got, err)
	}
}

// TestConcurrent uses more goroutines than instances, some of which break them.
func TestConcurrent(t *testing.T) {
	h := testHost(t, testConfig())
	p := load(t, h, goGuest(t, "modes"), everything())
	var group sync.WaitGroup
	for worker := range 6 {
		group.Go(func() {
			for i := range 20 {
				text := fmt.Sprintf("%d-%d", worker, i)
				if worker == 0 {
					if _, err := send(p, i, "panic "+text); err == nil {
						t.Error("no fault")
					}
					_ = h.Metrics()
					continue
				}
				res, err := send(p, worker, "echo "+text)
				if err != nil || emitted(t, res) != text+" clean" {
					t.Errorf("%s: %v %v", text, res, err)
				}
			}
		})
	}
	group.Wait()
	values := map[string]float64{}
	for _, m := range h.Metrics() {
		values[m.Name] += m.Value
		if m.Hist != nil {
			n, _, _ := m.Hist.Snapshot()
			values[m.Name] += float64(n)
		}
	}
	if values["tributary_plugin_call_seconds"] != 120 || values["tributary_plugin_faults_total"] != 20 ||
		values["tributary_plugin_memory_bytes"] < 2<<20 || values["tributary_plugin_fuel_total"] == 0 ||
		values["tributary_plugin_restores_total"] < 10 {
		t.Errorf("metrics: %v", values)
	}
}

// A trial stops what needs more fuel than it has, which is no fault of the plugin; what
// needs less gets the same answer as from Handle.
func TestTry(t *testing.T) {
	p := load(t, testHost(t, testConfig()), goGuest(t, "modes"), everything())
	ctx := context.Background()
	var f *Fault
	for range 2 {
		if _, err := p.Try(ctx, 0, inbound("spin"), testTime, nil); !errors.As(err, &f) || f.Kind != FaultTrial {
			t.Fatal(err)
		}
	}
	want, err := send(p, 0, "echo x")
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Try(ctx, 0, inbound("echo x"), testTime, nil)
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Error(err, d)
	}
	if p.metrics.trials.Load() != 2 {
		t.Errorf("%d trials ran out", p.metrics.trials.Load())
	}
	for i, kind := range faultKinds() {
		if n := p.metrics.faults[i].Load(); n != 0 {
			t.Errorf("%d faults of kind %s", n, kind)
		}
	}
	small := everything()
	small.Fuel = 3_000_000
	if _, err := load(t, testHost(t, testConfig()), goGuest(t, "modes"), small).Try(ctx, 0, inbound("spin"), testTime, nil); !errors.As(err,
		&f) || f.Kind != FaultFuel {
		t.Errorf("a plugin whose fuel is less than a trial: %v", err)
	}
}
