package topic

import (
	"fmt"
	"strings"
	"testing"
)

func BenchmarkMatch(b *testing.B) {
	topic := "fleet/demo/device-17/shadow/update"
	for name, filter := range map[string]string{"exact": topic, "plus": "fleet/+/+/shadow/+", "hash": "fleet/demo/#",
		"no": "fleet/demo/device-18/#"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if Match(filter, topic) == (name == "no") {
					b.Fatal("wrong")
				}
			}
		})
	}
}

func BenchmarkValidName(b *testing.B) {
	for size, name := range map[string]string{"34B": "fleet/demo/device-17/shadow/update", "1KB": strings.Repeat("level/", 170)} {
		b.Run(size, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !ValidName(name) {
					b.Fatal("refused")
				}
			}
		})
	}
}

func BenchmarkFilterTree(b *testing.B) {
	var tree FilterTree[*wish]
	for i := range 10_000 {
		tree.Put(fmt.Sprintf("fleet/demo/device-%d/shadow/update", i), "", &wish{subscriber: i})
		tree.Put(fmt.Sprintf("fleet/+/device-%d/#", i), "", &wish{subscriber: i})
	}
	tree.Put("fleet/#", "", &wish{subscriber: -1})
	tree.Put("fleet/demo/+/shadow/+", "g", &wish{subscriber: -1})
	var m Matches[*wish]
	b.ReportAllocs()
	for b.Loop() {
		m = Matches[*wish]{Subscriptions: m.Subscriptions[:0], Shares: m.Shares[:0]}
		tree.Match("fleet/demo/device-7/shadow/update", &m)
		if len(m.Subscriptions) != 3 || len(m.Shares) != 1 {
			b.Fatalf("%d and %d", len(m.Subscriptions), len(m.Shares))
		}
	}
}
