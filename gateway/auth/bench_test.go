package auth

import (
	"log/slog"
	"testing"

	"tributary.io/sdk-plugin/event"
)

// BenchmarkMessage checks a message whose credentials are cached. With credentials in
// messages, every PUBLISH costs that.
func BenchmarkMessage(b *testing.B) {
	a, err := New(Default(), newDirectory(), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	chain, err := a.Chain([]string{"password", "properties"})
	if err != nil {
		b.Fatal(err)
	}
	g, err := chain.Connect(b.Context(), client("d1@demo", "right"))
	if err != nil {
		b.Fatal(err)
	}
	properties := []event.Property{{Name: "device_id", Value: "d1"}, {Name: "access_key", Value: "key of d1"}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := chain.Message(b.Context(), g, properties); err != nil {
			b.Fatal(err)
		}
	}
}
