package pebble

import (
	"log/slog"
	"testing"

	"tributary.io/gateway/store"
	"tributary.io/gateway/store/storetest"
)

func testConfig(dir string) Config {
	c := Default()
	c.Dir = dir
	return c
}

func testOpen(t testing.TB, dir string) store.Store {
	t.Helper()
	s, err := Open(testConfig(dir), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) { storetest.Test(t, testOpen) }

// TestSmall has everything as small as it goes: flushes, compactions and
// commits that wait for room happen all the time.
func TestSmall(t *testing.T) {
	storetest.Test(t, func(t testing.TB, dir string) store.Store {
		t.Helper()
		c := testConfig(dir)
		c.CacheBytes, c.MemTableBytes, c.MaxPendingBytes, c.MaxPendingCommits = 1<<20, 1<<20, 64<<10, 4
		s, err := Open(c, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}
