package consumer

import (
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tributary.io/gateway/stage"
)

// Members of one group join, leave, acknowledge and restart in any order while
// the log grows. Whatever happens: a record is never with two members at once,
// never comes again after it was acknowledged (but for a restart, which may
// repeat what lies behind the stored position), and in the end all were done.
func TestGroupModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		st := newFakeStore()
		c := newTestConsumer(t, st)
		var mu sync.Mutex
		holder := map[uint64]*modelMember{}
		acked := map[uint64]bool{}
		var members []*modelMember
		fault := ""

		enter := func() {
			m := &modelMember{}
			ms, err := c.Join(stage.Subscription{Application: "demo", Group: "s.g", Window: rapid.IntRange(1, 5).Draw(rt, "window")},
				func(r stage.Record) {
					mu.Lock()
					defer mu.Unlock()
					if m.left {
						return
					}
					if h := holder[r.Offset]; h != nil && !h.left {
						fault = "a record is with two members"
					}
					if acked[r.Offset] {
						fault = "an acknowledged record came again"
					}
					holder[r.Offset] = m
					m.held = append(m.held, r.Offset)
				})
			if err != nil {
				rt.Fatal(err)
			}
			m.Membership = ms
			members = append(members, m)
		}
		leave := func(i int) {
			mu.Lock()
			members[i].left = true
			for _, o := range members[i].held {
				delete(holder, o)
			}
			mu.Unlock()
			members[i].Leave()
			members = slices.Delete(members, i, i+1)
		}
		ack := func(m *modelMember, n int) {
			mu.Lock()
			n = min(n, len(m.held))
			done := slices.Clone(m.held[len(m.held)-n:])
			m.held = m.held[:len(m.held)-n]
			for _, o := range done {
				acked[o] = true
				delete(holder, o)
			}
			mu.Unlock()
			for _, o := range done {
				m.Ack(o)
			}
		}
		enter()
		total := 0
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			switch rapid.IntRange(0, 4).Draw(rt, "step") {
			case 0:
				n := rapid.IntRange(1, 9).Draw(rt, "events")
				st.append(t, n)
				total += n
			case 1:
				if len(members) < 4 {
					enter()
				}
			case 2:
				if len(members) > 0 {
					leave(rapid.IntRange(0, len(members)-1).Draw(rt, "who"))
				}
			default:
				if len(members) > 0 {
					ack(members[rapid.IntRange(0, len(members)-1).Draw(rt, "who")], rapid.IntRange(1, 5).Draw(rt, "acks"))
				}
			}
		}
		if len(members) == 0 {
			enter()
		}
		for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(time.Millisecond) {
			mu.Lock()
			n, f := len(acked), fault
			mu.Unlock()
			if f != "" {
				rt.Fatal(f)
			}
			if n == total {
				break
			}
			if time.Now().After(deadline) {
				rt.Fatalf("%d of %d records were delivered and acknowledged", n, total)
			}
			for _, m := range members {
				ack(m, 9)
			}
		}
		if err := c.shut(); err != nil {
			rt.Fatal(err)
		}
	})
}

type modelMember struct {
	stage.Membership
	held []uint64
	left bool
}
