package plugin

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestJSONIndex(t *testing.T) {
	h := testHost(t, testConfig())
	p := load(t, h, watGuest(t, "json"), Grant{})
	if _, err := p.Handle(context.Background(), 0, inbound(`{}`), testTime, nil); err != nil {
		t.Fatal(err)
	}
	for name, kinds := range map[string]string{
		"jsonloop":    FaultFuel, // the gateway's work is charged to the guest
		"jsonpointer": FaultGarbage,
	} {
		cfg := Grant{Deadline: time.Minute, Fuel: 1 << 28}
		_, err := load(t, h, watGuest(t, name), cfg).Handle(context.Background(), 0, inbound(`{}`), testTime, nil)
		var fault *Fault
		if !errors.As(err, &fault) || fault.Kind != kinds {
			t.Errorf("%s: %v, want %s", name, err, kinds)
		}
	}
}
