package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A bit flips in a file of the store while the gateway is stopped. The next one finds it
// without anybody reading that event, says so wherever an operator looks, and goes on.
func TestDamagedFile(t *testing.T) {
	g := start(t, demo("", ""), "--set", "store.scrub_bytes=1GiB")
	c := g.v5("device")
	for range 200 {
		c.accepted("t", strings.Repeat("x", 500))
	}
	if status := g.stop(); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	tables, err := filepath.Glob(filepath.Join(g.dir, "store", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("the store has no tables: %v", err)
	}
	damaged := ""
	var size int64
	for _, table := range tables {
		if info, err := os.Stat(table); err == nil && info.Size() > size {
			damaged, size = table, info.Size()
		}
	}
	data, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/3] ^= 1
	if err := os.WriteFile(damaged, data, 0o600); err != nil {
		t.Fatal(err)
	}
	g.run()
	eventually(t, "the damage is found", func() bool {
		n, _ := g.metric("tributary_store_damaged_files")
		return n == 1
	})
	var ready struct {
		Ready    bool
		Degraded []string
	}
	status, body := g.get("/readyz")
	if err := json.Unmarshal([]byte(body), &ready); err != nil || status != 200 || !ready.Ready || len(ready.Degraded) != 1 ||
		!strings.Contains(ready.Degraded[0], filepath.Base(damaged)) {
		t.Errorf("/readyz: %d %s", status, body)
	}
	if log := g.out.tail(); !strings.Contains(log, filepath.Base(damaged)) || !strings.Contains(log, "restore a backup") {
		t.Errorf("the log does not say which file is damaged and what to do:\n%s", log)
	}
	g.v5("device").accepted("t", "the next event")
}
