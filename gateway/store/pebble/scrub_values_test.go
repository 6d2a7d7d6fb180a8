package pebble

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"tributary.io/gateway/store"
)

// TestScrubOfValueBlocks flips a bit in a block of values. pebble makes such blocks for older
// values of a key that a snapshot, such as that of an iterator, still needs.
func TestScrubOfValueBlocks(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s, err := openWith(memConfig(), slog.New(slog.DiscardHandler), environment{fs: fs, now: time.Now, every: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.cfg.ScrubRate = 1 << 40 // for the round below; openWith has started no loop
	for n := range 50 {
		value := bytes.Repeat([]byte{byte(n)}, 3000)
		if err := commitWait(s, &store.Batch{Puts: []store.Put{{Key: store.Key{Kind: store.State, Name: "k"}, Value: value}}}); err != nil {
			t.Fatal(err)
		}
		defer s.db.NewSnapshot().Close()
	}
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	path := tablesOf(t, fs)[0]
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table := &pacedTable{f, int64(len(readFile(t, fs, path))), func(int) error { return nil }}
	r, err := sstable.NewReader(context.Background(), table, sstable.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	layout, err := r.Layout()
	if err != nil || len(layout.ValueBlock) == 0 {
		t.Fatalf("the table has no blocks of values, error %v", err)
	}
	b := layout.ValueBlock[0]
	data := readFile(t, fs, path)
	data[b.Offset+b.Length/2] ^= 1
	writeFile(t, fs, path, data)
	if err := s.scrubRound(); err != nil {
		t.Fatal(err)
	}
	if found := s.Damaged(); len(found) != 1 {
		t.Errorf("%v are damaged, want %s", found, path)
	}
}
