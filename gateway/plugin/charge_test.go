package plugin

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// What the gateway does for a guest costs the guest fuel, so that a loop in it ends, however
// little of the loop is the guest's own.
func TestTheGatewaysWorkIsCharged(t *testing.T) {
	const fuel, counter = 1 << 23, 1028
	h := testHost(t, testConfig())
	st := fakeState{"a": strings.Repeat("x", 1<<20)}
	for name, most := range map[string]uint32{
		"randomloop": fuel / (randomFuel << 20),
		"stateloop":  fuel / (1 << 20 >> copyShift),
		"writeloop":  fuel / (1024 * vectorFuel),
	} {
		p := load(t, h, watGuest(t, name), Grant{Deadline: time.Minute, Fuel: fuel, StateBytes: 1 << 20})
		_, err := p.Handle(context.Background(), 0, inbound(`{}`), testTime, st)
		var fault *Fault
		if !errors.As(err, &fault) || fault.Kind != FaultFuel {
			t.Errorf("%s: %v, want %s", name, err, FaultFuel)
		}
		in := p.slots[0].in
		if calls, _ := in.mem.ReadUint32Le(counter); calls < most/2 || calls > most {
			t.Errorf("%s: %d calls for %d units, want at most %d", name, calls, fuel, most)
		}
		if in.spent != fuel {
			t.Errorf("%s: %d units of fuel are counted, want %d", name, in.spent, fuel)
		}
	}
}
