package stage

import (
	"regexp"
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

func TestIDsAcrossTheSplitOfTheCounter(t *testing.T) {
	shape := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	a, b := NewIDs(), NewIDs()
	a.counter.Store(1<<22 - 3) // the next carry from the low bits to the high ones
	now := time.Now()
	seen := map[string]bool{}
	last := ""
	for range 6 {
		id := a.Next(now)
		if !shape.MatchString(id) || seen[id] || id < last {
			t.Fatal(id, last)
		}
		seen[id], last = true, id
	}
	if b.Next(now)[24:] == last[24:] {
		t.Fatal("two processes share their random part")
	}
}
