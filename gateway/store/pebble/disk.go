package pebble

import (
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Disk is a simulated disk in memory for tests of what holds on to a store: its
// power can be cut. It may be used by several goroutines.
type Disk struct{ fs *vfs.MemFS }

// NewDisk returns an empty disk.
func NewDisk() Disk { return Disk{vfs.NewCrashableMem()} }

// memConfig has everything small, so that flushes and compactions happen in
// the few commits of a test.
func memConfig() Config {
	return Config{Dir: "data/store", CacheBytes: 1 << 20, MemTableBytes: 1 << 20, MaxPendingBytes: 64 << 10, MaxPendingCommits: 64}
}

// Open opens the store on the disk with small settings.
func (d Disk) Open(log *slog.Logger) (*Store, error) {
	return openWith(memConfig(), log, environment{fs: d.fs, now: time.Now, every: 10 * time.Millisecond})
}

// Cut is the disk that a power cut of this moment leaves: what was synced, and
// each block of what was not with a probability of unsynced percent. The store
// on d goes on unharmed.
func (d Disk) Cut(unsynced int, rnd *rand.Rand) Disk {
	return Disk{d.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rnd})}
}
