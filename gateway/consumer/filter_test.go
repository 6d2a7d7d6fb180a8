package consumer

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// containing chooses the records that hold a text.
type containing string

func (c containing) Match(record []byte) bool { return strings.Contains(string(record), string(c)) }
func (c containing) String() string           { return string(c) }

func appendRecords(t *testing.T, st *fakeStore, records ...string) {
	t.Helper()
	for _, r := range records {
		if err := st.Commit(&store.Batch{Appends: []store.Append{{Log: store.Events("demo"), Record: []byte(r)}}}, func(error) {}); err != nil {
			t.Fatal(err)
		}
	}
}

func committed(t *testing.T, c *Consumer, group string, want uint64) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(time.Millisecond) {
		list := c.Groups("demo")
		for _, g := range list {
			if g.Name == group && g.Position == want {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("groups are %+v, want position %d", list, want)
		}
	}
}

// What the filter leaves out is done with: the group's position passes it, and not what is
// chosen and unacknowledged.
func TestFilterMovesThePosition(t *testing.T) {
	st := newFakeStore()
	c := newTestConsumer(t, st)
	r := join(t, c, stage.Subscription{Group: "s.g", Filter: containing("a")})
	appendRecords(t, st, "b0", "b1", "b2")
	committed(t, c, "s.g", 3)
	appendRecords(t, st, "a3", "b4", "a5", "b6")
	if got := r.take(t, 2); !slices.Equal(got, []uint64{3, 5}) {
		t.Fatal(got)
	}
	committed(t, c, "s.g", 3)
	r.ack(3)
	committed(t, c, "s.g", 5)
	r.ack(5)
	committed(t, c, "s.g", 7)
	// A long run that nobody wants needs no event to move on.
	for range 3 * readRecords {
		appendRecords(t, st, "b")
	}
	committed(t, c, "s.g", 7+3*readRecords)
	if n := c.stats.filtered.Load(); n != 5+3*readRecords {
		t.Errorf("%d records counted as filtered", n)
	}
}

// The members of a group have one filter. When the last one is gone the next brings its own:
// it gets what is from there on, and of what was left unacknowledged what it chooses.
func TestFilterOfAGroup(t *testing.T) {
	st := newFakeStore()
	c := newTestConsumer(t, st)
	first := join(t, c, stage.Subscription{Group: "s.g", Filter: containing("a"), Window: 2})
	_, err := c.Join(stage.Subscription{Application: "demo", Group: "s.g", Window: 1}, func(stage.Record) {})
	if e := (*stage.Error)(nil); !errors.As(err, &e) || e.Code != event.ImplementationSpecificError || !strings.Contains(e.Reason, `"a"`) {
		t.Fatalf("a member without the filter: %v", err)
	}
	join(t, c, stage.Subscription{Group: "s.g", Filter: containing("a")}).Leave()
	appendRecords(t, st, "a0", "ab1", "b2", "a3", "b4", "b5")
	if got := first.take(t, 2); !slices.Equal(got, []uint64{0, 1}) {
		t.Fatal(got)
	}
	first.Leave() // with 0 and 1 out, and 3 read, behind 2 that its filter left out
	second := join(t, c, stage.Subscription{Group: "s.g", Filter: containing("b")})
	// 0 is none of its, 1 comes again; 2 was not passed yet, since 3 was not handed out.
	if got := second.take(t, 4); !slices.Equal(got, []uint64{1, 2, 4, 5}) {
		t.Fatal(got)
	}
	second.ack(1, 2, 4, 5)
	committed(t, c, "s.g", 6)
}

// Beside one record of any size no more is out than the bytes allow.
func TestBytesBoundWhatIsOut(t *testing.T) {
	st := newFakeStore()
	c := newTestConsumer(t, st)
	r := join(t, c, stage.Subscription{Bytes: 100, Window: 1000, Start: stage.Start{Kind: stage.StartFirst}})
	for range 10 {
		appendRecords(t, st, strings.Repeat("x", 60))
	}
	if got := r.take(t, 2); !slices.Equal(got, []uint64{0, 1}) {
		t.Fatal(got)
	}
	select {
	case o := <-r.got:
		t.Fatalf("%d came beyond the bound", o)
	case <-time.After(50 * time.Millisecond):
	}
	r.ack(0)
	if got := r.take(t, 1); got[0] != 2 {
		t.Fatal(got)
	}
	r.ack(1, 2)
	if got := r.take(t, 2); !slices.Equal(got, []uint64{3, 4}) {
		t.Fatal(got)
	}
}
