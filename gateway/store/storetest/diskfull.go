package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"

	"tributary.io/gateway/store"
)

// testDiskFull fills a small file system: the commit that does not fit gets the
// error, everything after it ErrFailed, and with more room all that was
// acknowledged is there.
func testDiskFull(t *testing.T, open Open) {
	if os.Getuid() != 0 {
		t.Skip("not root: a disk cannot be filled without mounting a small one")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		t.Skipf("mounting a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	s := open(t, dir)
	acked := fillUp(t, s)
	if err := s.Commit(&store.Batch{}, func(error) { t.Error("done was called") }); !errors.Is(err, store.ErrFailed) {
		t.Errorf("commit after the failure: error %v, want ErrFailed", err)
	}
	if err := s.Close(); !errors.Is(err, store.ErrFailed) {
		t.Errorf("close after the failure: error %v, want ErrFailed", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=200m"); err != nil {
		t.Fatal(err)
	}
	f := &fixture{TB: t, Store: open(t, dir)}
	defer f.Store.Close()
	got := f.records("l", 0, 1<<30)
	t.Logf("%d commits acknowledged before the disk was full, %d found", acked, len(got))
	if len(got) < acked {
		t.Fatalf("%d records of %d that were acknowledged", len(got), acked)
	}
	for i, r := range got {
		if want := fullRecord(i); r != want {
			t.Fatalf("record %d is %.20q", i, r)
		}
	}
	f.append("l", "and on")
}

// fullRecord is 20 KB that do not compress.
func fullRecord(i int) string {
	rnd := rand.New(rand.NewPCG(1, uint64(i)))
	b := fmt.Appendf(nil, "%d ", i)
	for len(b) < 20<<10 {
		b = append(b, byte(rnd.Uint32()))
	}
	return string(b)
}

// fillUp commits from one goroutine until the store fails and returns how many
// commits were acknowledged.
func fillUp(t *testing.T, s store.Store) (acked int) {
	var mu sync.Mutex
	var failed error
	var wg sync.WaitGroup
	for i := 0; ; i++ {
		wg.Add(1)
		err := s.Commit(&store.Batch{Appends: []store.Append{{Log: "l", Record: []byte(fullRecord(i))}}}, func(err error) {
			defer wg.Done()
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && failed != nil:
				t.Errorf("commit %d succeeded after one that failed", i)
			case err == nil:
				acked++
			default:
				failed = err
			}
		})
		if err != nil {
			wg.Done()
			if !errors.Is(err, store.ErrFailed) {
				t.Errorf("commit %d: error %v, want ErrFailed", i, err)
			}
			break
		}
		if i > 20_000 {
			t.Fatal("400 MB fit into 24 MB")
		}
	}
	wg.Wait()
	if failed == nil {
		t.Log("the failure came between two commits")
	} else if !errors.Is(failed, syscall.ENOSPC) {
		t.Errorf("done got %v, want no space left on device", failed)
	}
	return acked
}
