package session

import (
	"math"
	"strings"
	"testing"
)

// Each level that is a retained message's alone counts against the bound of bytes, for
// it takes more memory than a short message; and counts no more when it is gone.
func TestRetainedLevelsCount(t *testing.T) {
	var r retained
	set := func(topic, payload string, most int) bool {
		m := &Message{Topic: topic, Payload: []byte(payload)}
		room := r.room(m, 100, most)
		if room != r.set(m, 100, most) {
			t.Fatalf("%s: there is room: %v", topic, room)
		}
		return room
	}
	deep := strings.Repeat("/", 31)
	if set(deep, "x", 32*levelBytes) || !set(deep, "x", 33*levelBytes) {
		t.Errorf("a topic of 32 levels counts %d bytes", r.bytes)
	}
	alone := r.bytes
	set(deep, "xx", math.MaxInt)
	if r.bytes != alone+1 {
		t.Errorf("one byte more made %d of %d", r.bytes, alone)
	}
	for _, topic := range []string{deep + "/", "/", "a", "/a", deep, "/"} {
		set(topic, "x", math.MaxInt)
	}
	if want := 35*levelBytes + 5*(overhead+1) + len(deep+deep+"/"+"/"+"a"+"/a"); r.bytes != want || r.tree.Len() != 5 {
		t.Errorf("%d messages count %d bytes, want %d", r.tree.Len(), r.bytes, want)
	}
	for _, topic := range []string{"/", deep, "a", "none", deep + "/", "/a"} {
		set(topic, "", 0)
	}
	_, missing := r.tree.Find(deep + "/x")
	if empty := missing == 33; r.bytes != 0 || r.tree.Len() != 0 || !empty {
		t.Errorf("%d messages, %d bytes are left", r.tree.Len(), r.bytes)
	}
}
