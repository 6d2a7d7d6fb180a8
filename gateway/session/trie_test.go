package session

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

var anyLevels = []string{"a", "b", "", "$x"}

func anyTopic(r *rand.Rand) string {
	list := make([]string, 1+r.IntN(4))
	for i := range list {
		list[i] = anyLevels[r.IntN(len(anyLevels))]
	}
	return strings.Join(list, "/")
}

func anyFilter(r *rand.Rand) string {
	list := strings.Split(anyTopic(r), "/")
	for i := range list {
		if r.IntN(3) == 0 {
			list[i] = "+"
		}
	}
	if r.IntN(3) == 0 {
		list[len(list)-1] = "#"
	}
	return strings.Join(list, "/")
}

// The trie and the retained tree agree with packet.Match.
func TestTrieAgainstMatch(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var tr trie
		var kept retained
		subs := map[string]*subscription{}
		for range r.IntN(20) {
			sub := &subscription{session: &session{}, filter: anyFilter(r)}
			if old := subs[sub.filter]; old != nil {
				sub.session = old.session
			}
			if r.IntN(3) == 0 {
				sub.group = "g"
			}
			replaced := tr.add(sub)
			if old := subs[sub.filter]; old != nil && old.group == sub.group && replaced != old {
				t.Fatal("not replaced")
			} else if old != nil && old.group != sub.group {
				tr.remove(old)
			}
			subs[sub.filter] = sub
		}
		topics := map[string]bool{}
		for range 20 {
			topic := anyTopic(r)
			if topic == "" {
				continue
			}
			topics[topic] = true
			kept.set(&Message{Topic: topic, Payload: []byte("x")}, 100, 1<<20)
			var m matches
			tr.match(topic, &m)
			for _, g := range m.shared {
				m.subs = append(m.subs, g.members...)
			}
			want := 0
			for filter, sub := range subs {
				if packet.Match(filter, topic) {
					want++
					if !slices.Contains(m.subs, sub) {
						t.Fatalf("%q does not find %q", topic, filter)
					}
				}
			}
			if want != len(m.subs) {
				t.Fatalf("%q finds %d, want %d", topic, len(m.subs), want)
			}
		}
		for filter, sub := range subs {
			want := 0
			for topic := range topics {
				if packet.Match(filter, topic) {
					want++
				}
			}
			if got := kept.match(filter, time.Now()); len(got) != want {
				t.Fatalf("%q finds %d retained, want %d", filter, len(got), want)
			}
			tr.remove(sub)
		}
		for topic := range topics {
			kept.set(&Message{Topic: topic}, 100, 1<<20)
		}
		if !tr.root.empty() || tr.count != 0 || len(kept.root.children) != 0 || kept.count != 0 || kept.bytes != 0 {
			t.Fatal("something was left over")
		}
	}
}

// covers says yes exactly when no topic is matched by the filter alone; but to #
// and /#, whose parent level is no topic, it may say no.
func TestCovers(t *testing.T) {
	var topics []string
	var grow func(prefix string, depth int)
	grow = func(prefix string, depth int) {
		for _, level := range []string{"a", "b", "c", "", "$x"} {
			topic := prefix + level
			if topic != "" {
				topics = append(topics, topic)
			}
			if depth < 4 {
				grow(topic+"/", depth+1)
			}
		}
	}
	grow("", 0)
	r := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		granted, filter := anyFilter(r), anyFilter(r)
		if granted == "" || filter == "" {
			continue
		}
		outside := ""
		for _, topic := range topics {
			if packet.Match(filter, topic) && !packet.Match(granted, topic) {
				outside = topic
				break
			}
		}
		if got := covers(granted, filter); got != (outside == "") && (got || filter != "#" && filter != "/#") {
			t.Fatalf("covers(%q, %q) is %v; %q is outside", granted, filter, got, outside)
		}
	}
}
