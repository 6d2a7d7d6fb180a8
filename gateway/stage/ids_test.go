package stage

import (
	"testing"
	"time"
)

func TestIDs(t *testing.T) {
	a, b := NewIDs(), NewIDs()
	seen := map[string]bool{}
	now := time.Now()
	for range 10_000 {
		for _, id := range []string{a.Next(now), b.Next(now)} {
			if seen[id] {
				t.Fatalf("%s comes twice", id)
			}
			if len(id) != 36 || id[14] != '7' || id[19] < '8' || id[19] > 'b' {
				t.Fatalf("%s is no UUIDv7", id)
			}
			seen[id] = true
		}
	}
	if early, late := a.Next(now), a.Next(now.Add(time.Millisecond)); early[:13] >= late[:13] {
		t.Errorf("%s is not before %s", early, late)
	}
}
