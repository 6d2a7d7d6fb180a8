package stage

import "testing"

func TestSource(t *testing.T) {
	for _, c := range []struct{ application, device, want string }{
		{"demo", "sensor-1", "/applications/demo/devices/sensor-1"},
		{"demo", "sensor 1/ü%", "/applications/demo/devices/sensor%201%2F%C3%BC%25"},
		{"demo", "a.b_c~d", "/applications/demo/devices/a.b_c~d"},
		{"demo", "", "/applications/demo"},
	} {
		if got := Source(c.application, c.device); got != c.want {
			t.Errorf("Source(%q, %q) = %s, want %s", c.application, c.device, got, c.want)
		}
	}
}
