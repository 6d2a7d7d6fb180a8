package consumer

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

func offsets(from, to uint64) []uint64 {
	var out []uint64
	for o := from; o < to; o++ {
		out = append(out, o)
	}
	return out
}

// Where a subscription begins, for each stream-offset, new and resumed.
func TestStart(t *testing.T) {
	cases := []struct {
		name  string
		start stage.Start
		want  uint64
	}{
		{"default starts at the end", stage.Start{}, 20},
		{"first", stage.Start{Kind: stage.StartFirst}, 5},
		{"last", stage.Start{Kind: stage.StartLast}, 19},
		{"next", stage.Start{Kind: stage.StartNext}, 20},
		{"resume without a position starts at the end", stage.Start{Kind: stage.StartResume}, 20},
		{"offset", stage.Start{Kind: stage.StartOffset, Offset: 12}, 12},
		{"offset before the oldest", stage.Start{Kind: stage.StartOffset, Offset: 1}, 5},
		{"offset behind the end", stage.Start{Kind: stage.StartOffset, Offset: 1000}, 20},
		{"time", stage.Start{Kind: stage.StartTime, Time: time.Unix(7, 1)}, 8},
		{"time behind the end", stage.Start{Kind: stage.StartTime, Time: time.Unix(700, 0)}, 20},
	}
	for _, tc := range cases {
		for _, group := range []string{"", "s.g"} {
			t.Run(tc.name+"/"+group, func(t *testing.T) {
				st := newFakeStore()
				st.append(t, 20)
				st.drop(store.Events("demo"), 5)
				c := newTestConsumer(t, st)
				r := join(t, c, stage.Subscription{Group: group, Start: tc.start})
				st.append(t, 1)
				if got := r.take(t, 1)[0]; got != tc.want {
					t.Fatalf("first record %d, want %d", got, tc.want)
				}
				if group == "" {
					return
				}
				r.ack(tc.want)
				r.Leave()
				again := join(t, c, stage.Subscription{Group: group, Start: stage.Start{Kind: stage.StartFirst}})
				st.append(t, 1)
				if got := again.take(t, 1)[0]; got != tc.want+1 {
					t.Fatalf("a known group continued at %d, want %d", got, tc.want+1)
				}
			})
		}
	}
}

func TestJoinRefusals(t *testing.T) {
	st := newFakeStore()
	c := newTestConsumer(t, st)
	_, err := c.Join(stage.Subscription{Application: "nope", Window: 1}, func(stage.Record) {})
	if e := (*stage.Error)(nil); !errors.As(err, &e) || e.Code != event.NotAuthorized {
		t.Errorf("unknown application: %v", err)
	}
	for _, g := range []string{"s.1", "s.2", "s.3"} {
		join(t, c, stage.Subscription{Group: g})
	}
	_, err = c.Join(stage.Subscription{Application: "demo", Group: "s.4", Window: 1}, func(stage.Record) {})
	if e := (*stage.Error)(nil); !errors.As(err, &e) || e.Code != event.QuotaExceeded {
		t.Errorf("group beyond the limit: %v", err)
	}
	join(t, c, stage.Subscription{Group: "s.1"}) // one more member of a group that exists
}

// Two members share 10,000 records: each goes to exactly one.
func TestGroupShares(t *testing.T) {
	const total = 10_000
	st := newFakeStore()
	c := newTestConsumer(t, st)
	var mu sync.Mutex
	seen := map[uint64]int{}
	counts := [2]int{}
	all := make(chan struct{})
	for i := range counts {
		ack := make(chan uint64, total)
		m, err := c.Join(stage.Subscription{Application: "demo", Group: "s.g", Window: 20}, func(r stage.Record) { ack <- r.Offset })
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for o := range ack {
				m.Ack(o)
				mu.Lock()
				seen[o]++
				counts[i]++
				if len(seen) == total {
					close(all)
				}
				mu.Unlock()
			}
		}()
	}
	st.append(t, total)
	select {
	case <-all:
	case <-time.After(30 * time.Second):
		t.Fatal("not all records were delivered")
	}
	mu.Lock()
	defer mu.Unlock()
	for o, n := range seen {
		if n != 1 {
			t.Fatalf("record %d was delivered %d times", o, n)
		}
	}
	if counts[0] == 0 || counts[1] == 0 {
		t.Errorf("one member got nothing: %v", counts)
	}
}

// A member that leaves with a full window gives exactly its unacknowledged
// records to the other, before anything new.
func TestLeaveGivesBackExactly(t *testing.T) {
	st := newFakeStore()
	c := newTestConsumer(t, st)
	dying := join(t, c, stage.Subscription{Group: "s.g", Window: 10})
	st.append(t, 13)
	got := dying.take(t, 10)
	dying.ack(got[0], got[4], got[9])
	got = append(got, dying.take(t, 3)...)
	held := slices.DeleteFunc(slices.Clone(got), func(o uint64) bool { return o == 0 || o == 4 || o == 9 })
	other := join(t, c, stage.Subscription{Group: "s.g", Window: 100})
	st.append(t, 5)
	other.ack(other.take(t, 5)...)
	dying.Leave()
	dying.Leave()
	if back := other.take(t, len(held)); !slices.Equal(back, held) {
		t.Fatalf("the other member got %v, want %v", back, held)
	}
	st.append(t, 1)
	if next := other.take(t, 1); next[0] != 18 {
		t.Fatalf("then %v, want 18", next)
	}
}

// Positions survive: what was acknowledged does not come again, what was not does.
func TestRestart(t *testing.T) {
	st := newFakeStore()
	st.append(t, 10)
	c := newTestConsumer(t, st)
	r := join(t, c, stage.Subscription{Group: "c.x", Start: stage.Start{Kind: stage.StartFirst}, Window: 5})
	got := r.take(t, 5)
	r.ack(got[0], got[1], got[3])
	if err := c.shut(); err != nil {
		t.Fatal(err)
	}
	c = newTestConsumer(t, st)
	r = join(t, c, stage.Subscription{Group: "c.x", Window: 100})
	if got := r.take(t, 8); !slices.Equal(got, offsets(2, 10)) {
		t.Fatalf("after a restart %v, want 2 to 9", got)
	}
}

// A group exists from its first use on: a crash before its first
// acknowledgement does not move its start.
func TestNewGroupIsStoredAtOnce(t *testing.T) {
	st := newFakeStore()
	st.append(t, 3)
	join(t, newTestConsumer(t, st), stage.Subscription{Group: "s.g"})
	st.append(t, 2) // no flush, no shut: the process is gone
	r := join(t, newTestConsumer(t, st), stage.Subscription{Group: "s.g"})
	if got := r.take(t, 2); !slices.Equal(got, offsets(3, 5)) {
		t.Fatalf("got %v, want 3 and 4", got)
	}
}

// Retention removes records that a member held: they count as done.
func TestRetentionUnderAGroup(t *testing.T) {
	st := newFakeStore()
	c := newTestConsumer(t, st)
	r := join(t, c, stage.Subscription{Group: "s.g", Window: 4})
	st.append(t, 4)
	r.take(t, 4)
	st.drop(store.Events("demo"), 4)
	st.append(t, 2)
	r.Leave()
	r = join(t, c, stage.Subscription{Group: "s.g"})
	if got := r.take(t, 2); !slices.Equal(got, offsets(4, 6)) {
		t.Fatalf("got %v, want 4 and 5", got)
	}
	r.ack(4, 5)
	if err := c.flush(); err != nil {
		t.Fatal(err)
	}
	if lag := measured(c, "tributary_consumer_group_lag_records"); lag != 0 {
		t.Fatalf("lag %v, want 0", lag)
	}
}

// A log that cannot be read holds the group up and loses nothing.
func TestReadErrorIsNotSkipped(t *testing.T) {
	st := newFakeStore()
	st.append(t, 1)
	st.fail = store.ErrCorrupt
	c := newTestConsumer(t, st)
	r := join(t, c, stage.Subscription{Start: stage.Start{Kind: stage.StartFirst}})
	for measured(c, "tributary_consumer_read_errors_total") == 0 {
		time.Sleep(time.Millisecond)
	}
	st.mu.Lock()
	st.fail = nil
	st.mu.Unlock()
	st.append(t, 1)
	if got := r.take(t, 2); !slices.Equal(got, offsets(0, 2)) {
		t.Fatalf("got %v, want 0 and 1", got)
	}
}

// However often such a log grows, it is read again once in a while.
func TestReadErrorIsNotTriedAllTheTime(t *testing.T) {
	st := newFakeStore()
	st.append(t, 1)
	st.fail = store.ErrCorrupt
	c := newTestConsumer(t, st)
	join(t, c, stage.Subscription{Start: stage.Start{Kind: stage.StartFirst}})
	begin := time.Now()
	for range 200 {
		st.append(t, 1)
		time.Sleep(time.Millisecond)
	}
	if n, most := measured(c, "tributary_consumer_read_errors_total"), 1+time.Since(begin)/readAgain; n > float64(most) {
		t.Errorf("%v failed reads in %v", n, time.Since(begin))
	}
}

func TestLagOfADisconnectedGroup(t *testing.T) {
	st := newFakeStore()
	c := newTestConsumer(t, st)
	join(t, c, stage.Subscription{Group: "s.g"}).Leave()
	st.append(t, 7)
	if lag := measured(c, "tributary_consumer_group_lag_records"); lag != 7 {
		t.Fatalf("lag %v, want 7", lag)
	}
}

func TestConfigValidate(t *testing.T) {
	cfg := Default()
	if err := cfg.Validate(); err != nil {
		t.Fatal("the defaults:", err)
	}
	for _, broken := range []func(*Config){
		func(c *Config) { c.GroupExpiry = 0 }, func(c *Config) { c.CursorInterval = 0 },
		func(c *Config) { c.MaxWindow = 65536 }, func(c *Config) { c.MaxGroups = 0 },
	} {
		cfg := Default()
		broken(&cfg)
		if cfg.Validate() == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}

func measured(c *Consumer, name string) float64 {
	for _, m := range c.Metrics() {
		if m.Name == name {
			return m.Value
		}
	}
	return -1
}
