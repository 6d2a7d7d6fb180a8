package loglimit

import (
	"testing"
	"time"
)

func TestCount(t *testing.T) {
	var l Limit[string]
	now := time.Unix(1000, 0)
	for _, step := range []struct {
		key   string
		later time.Duration
		want  int
	}{
		{"a", 0, 1}, {"a", 0, 0}, {"b", 0, 1}, {"a", interval / 2, 0}, {"a", interval / 2, 3}, {"a", 0, 0}, {"b", interval, 1},
	} {
		now = now.Add(step.later)
		if got := l.Count(step.key, now); got != step.want {
			t.Errorf("%s after %v: a line for %d events, want %d", step.key, step.later, got, step.want)
		}
	}
}

// Keys that a stranger makes up fill neither the memory nor the log.
func TestKeysAreBounded(t *testing.T) {
	var l Limit[int]
	now := time.Unix(1000, 0)
	lines, events := 0, 0
	for key := range 3 * keysMax {
		if n := l.Count(key, now); n > 0 {
			lines, events = lines+1, events+n
		}
	}
	if lines != keysMax+1 || len(l.keys) > keysMax {
		t.Errorf("%d lines, %d keys are remembered, at most %d", lines, len(l.keys), keysMax)
	}
	// Later, old keys make room for new ones, and nothing was forgotten of the others.
	now = now.Add(2 * interval)
	if n := l.Count(-1, now); n != 1 || len(l.keys) != 1 {
		t.Errorf("a line for %d events, %d keys are remembered", n, len(l.keys))
	}
}
