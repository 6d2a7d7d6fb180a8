package pebble

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tributary.io/gateway/store"
)

// flushedDisk returns a disk with a store of several tables and logs, as a killed process
// leaves it.
func flushedDisk(t *testing.T, commits int) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewCrashableMem()
	s := openMem(t, fs)
	t.Cleanup(func() { s.Close() })
	for n := range commits {
		if err := s.Commit(bulky(n), nil); err != nil {
			t.Fatal(err)
		}
		if n%500 == 499 {
			if err := commitWait(s, &store.Batch{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := commitWait(s, &store.Batch{}); err != nil {
		t.Fatal(err)
	}
	for s.witnessed.Load() != s.durable.Load() {
		time.Sleep(time.Millisecond)
	}
	return killed(fs)
}

// killed is what a process that is killed leaves.
func killed(fs *vfs.MemFS) *vfs.MemFS {
	return fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(0, 0))})
}

// bulky is a commit that fills memtables.
func bulky(n int) *store.Batch {
	b := sequence(n)
	payload := make([]byte, 2000)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)}).Read(payload)
	b.Puts = append(b.Puts, store.Put{Key: store.Key{Kind: store.State, Name: fmt.Sprint("bulk/", n)}, Value: payload})
	return b
}

// files are the contents of all files of a store.
func files(t *testing.T, fs *vfs.MemFS) map[string][]byte {
	t.Helper()
	names, err := fs.List("data/store")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, name := range names {
		all[name] = readFile(t, fs, filepath.Join("data/store", name))
	}
	return all
}

// asItWas is what is done to a store that must open.
const asItWas = "as it was"

// opened says what comes of a store: everything is there, or it is refused and left as it was.
func opened(t *testing.T, fs *vfs.MemFS, commits int, what string) (outcome string) {
	t.Helper()
	before := files(t, fs)
	s, err := openWith(memConfig(), slog.New(slog.DiscardHandler), environment{fs: fs, now: time.Now, every: time.Hour})
	if err != nil {
		if !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: refused, but not as damage: %v", what, err)
		}
		after := files(t, fs)
		for name, data := range before {
			if !bytes.Equal(after[name], data) {
				t.Errorf("%s: refused, but %s changed", what, name)
			}
		}
		for name := range after {
			if _, was := before[name]; !was {
				t.Errorf("%s: refused, but %s is new", what, name)
			}
		}
		if what == asItWas {
			t.Errorf("a store that was killed, and that nothing happened to, is refused: %v", err)
		}
		return "refused"
	}
	defer s.Close()
	if n, err := found(t, s); err == nil && n != commits {
		t.Errorf("%s: %d of %d commits are left and nobody says so", what, n, commits)
	}
	return "opened"
}

// A bit that is flipped in the MANIFEST, a part of it that is zero or cut off, a file that is
// missing: the store opens with everything, or refuses and changes nothing.
func TestDamagedManifest(t *testing.T) {
	t.Parallel()
	const commits = 6000
	fs := flushedDisk(t, commits)
	var manifest string
	for name := range files(t, fs) {
		if strings.HasPrefix(name, "MANIFEST-") {
			manifest = name
		}
	}
	path := filepath.Join("data/store", manifest)
	whole := readFile(t, fs, path)
	step := max(1, len(whole)/40)
	if testing.Short() {
		step = max(1, len(whole)/10)
	}
	outcomes := map[string]int{}
	try := func(what string, bad []byte) {
		copied := killed(fs)
		writeFile(t, copied, path, bad)
		outcomes[opened(t, copied, commits, what)]++
	}
	for at := len(whole) - 1; at >= 0; at -= step {
		flipped := slices.Clone(whole)
		flipped[at] ^= 1 << (at % 8)
		try(fmt.Sprint("bit flipped at ", at), flipped)
		try(fmt.Sprint("cut off at ", at), whole[:at])
		zeroed := slices.Clone(whole)
		clear(zeroed[at:min(at+50, len(zeroed))])
		try(fmt.Sprint("zeroed from ", at), zeroed)
	}
	try(asItWas, whole)
	t.Log(len(whole), "bytes:", outcomes)
	if outcomes["refused"] == 0 || outcomes["opened"] == 0 {
		t.Error("the damage is none, or all of it is refused")
	}
}

func TestMissingFileOfSeveral(t *testing.T) {
	t.Parallel()
	const commits = 6000
	fs := flushedDisk(t, commits)
	for name := range files(t, fs) {
		if name == witnessName || name == "LOCK" || strings.HasPrefix(name, "OPTIONS") {
			continue
		}
		copied := killed(fs)
		if err := copied.Remove(filepath.Join("data/store", name)); err != nil {
			t.Fatal(err)
		}
		t.Log(name, "is missing:", opened(t, copied, commits, name+" is missing"))
	}
}

// Power cuts while tables are written, logs recycled and a new MANIFEST begun lose nothing
// that was acknowledged, and are not taken for damage.
func TestPowerCutDuringFlushes(t *testing.T) {
	t.Parallel()
	cuts := 30
	if testing.Short() {
		cuts = 8
	}
	rnd := rand.New(rand.NewPCG(rand.Uint64(), 0))
	fs := vfs.NewCrashableMem()
	s := openMem(t, fs)
	made := 0
	for range cuts {
		for range 100 + rnd.IntN(600) {
			if err := s.Commit(bulky(made), nil); err != nil {
				t.Fatal(err)
			}
			made++
		}
		if err := commitWait(s, &store.Batch{}); err != nil {
			t.Fatal(err)
		}
		acknowledged := made
		after := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[rnd.IntN(3)], RNG: rnd})
		s.Close()
		fs = after
		s = openMem(t, fs)
		if n, err := found(t, s); err != nil || n < acknowledged {
			t.Fatalf("%d commits of %d acknowledged, error %v", n, acknowledged, err)
		}
	}
	s.Close()
}
