package consumer

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tributary.io/gateway/resource"
	"tributary.io/gateway/stage"
)

func TestGroups(t *testing.T) {
	st := newFakeStore()
	c := newTestConsumer(t, st)
	st.append(t, 3)
	away := join(t, c, stage.Subscription{Group: "s.away", Start: stage.Start{Kind: stage.StartFirst}})
	away.ack(away.take(t, 3)[:2]...)
	away.Leave()
	here := join(t, c, stage.Subscription{Group: "s.here", Start: stage.Start{Kind: stage.StartFirst}})
	here.take(t, 3)
	join(t, c, stage.Subscription{}) // a reader of its own is no group
	want := []resource.Group{
		{Application: "demo", Name: "s.away", Position: 2, Lag: 1},
		{Application: "demo", Name: "s.here", Position: 0, Lag: 3, Members: 1, InFlight: 3},
	}
	got := c.Groups("demo")
	for i := range got { // what a group that nobody is in has in hand says nothing
		if got[i].Members == 0 {
			got[i].InFlight = 0
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("groups (-want +got):\n%s", d)
	}
	if got := c.Groups("other"); len(got) != 0 {
		t.Errorf("groups of another application: %+v", got)
	}
}

func TestDeleteGroup(t *testing.T) {
	st := newFakeStore()
	c := newTestConsumer(t, st)
	st.append(t, 3)
	r := join(t, c, stage.Subscription{Group: "s.g", Start: stage.Start{Kind: stage.StartFirst}})
	r.ack(r.take(t, 3)...)
	is := func(name string, kind resource.FaultKind) bool {
		var f *resource.Fault
		return errors.As(c.DeleteGroup("demo", false, name), &f) && f.Kind == kind
	}
	if !is("s.g", resource.Conflict) {
		t.Error("a group in use is deleted")
	}
	if !is("s.nope", resource.NotFound) || !is("", resource.NotFound) {
		t.Error("an unknown group is deleted")
	}
	if err := c.flush(); err != nil { // its position is stored
		t.Fatal(err)
	}
	r.Leave()
	deadline := time.Now().Add(60 * time.Second)
	for is("s.g", resource.Conflict) { // its pump takes a moment to end
		if time.Now().After(deadline) {
			t.Fatal("the group stays in use")
		}
		time.Sleep(time.Millisecond)
	}
	if err := c.flush(); err != nil {
		t.Fatal(err)
	}
	if got := c.Groups("demo"); len(got) != 0 {
		t.Errorf("after deletion: %+v", got)
	}
	again := join(t, c, stage.Subscription{Group: "s.g"})
	st.append(t, 1)
	if got := again.take(t, 1)[0]; got != 3 {
		t.Errorf("the new group began at %d, want the end, 3", got)
	}
}
