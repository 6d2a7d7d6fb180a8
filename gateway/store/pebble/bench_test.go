package pebble

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tributary.io/gateway/store"
)

// BenchmarkCommit has committers that each wait for their commit to be durable
// before the next, as a device with one message in flight does.
func BenchmarkCommit(b *testing.B) {
	for _, state := range []bool{false, true} {
		for _, n := range []int{1, 16, 256} {
			name := fmt.Sprintf("event/%d", n)
			if state {
				name = fmt.Sprintf("event+state/%d", n)
			}
			b.Run(name, func(b *testing.B) { benchCommit(b, n, state) })
		}
	}
}

func benchCommit(b *testing.B, committers int, state bool) {
	s := testOpen(b, b.TempDir()).(*Store)
	defer s.Close()
	record := make([]byte, 300)
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for i := range committers {
		wg.Go(func() {
			durable := make(chan error, 1)
			done := func(err error) { durable <- err }
			key := store.Key{Kind: store.State, Name: fmt.Sprintf("app\x00plugin\x00device-%d", i)}
			batch := store.Batch{Appends: []store.Append{{Log: "e/app", Record: record, Time: time.Now()}}}
			for left.Add(-1) >= 0 {
				if state {
					_, rev, err := s.Get(key)
					if err != nil {
						b.Error(err)
						return
					}
					batch.Expect = append(batch.Expect[:0], store.Expect{Key: key, Revision: rev})
					batch.Puts = append(batch.Puts[:0], store.Put{Key: key, Value: record[:40]})
				}
				if err := s.Commit(&batch, done); err != nil {
					b.Error(err)
					return
				}
				if err := <-durable; err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
	b.ReportMetric(float64(s.stats.commits.Load())/float64(s.stats.groups.Load()), "commits/fsync")
}

// BenchmarkCommitAsync has committers that keep a window of commits in flight,
// as a listener with many devices does.
func BenchmarkCommitAsync(b *testing.B) {
	for _, n := range []int{1, 2, 8} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := testOpen(b, b.TempDir()).(*Store)
			defer s.Close()
			record := make([]byte, 300)
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for range n {
				wg.Go(func() {
					window := make(chan struct{}, 1024)
					done := func(err error) {
						if err != nil {
							b.Error(err)
						}
						<-window
					}
					batch := store.Batch{Appends: []store.Append{{Log: "e/app", Record: record, Time: time.Now()}}}
					for left.Add(-1) >= 0 {
						window <- struct{}{}
						if err := s.Commit(&batch, done); err != nil {
							b.Error(err)
							return
						}
					}
					for range cap(window) {
						window <- struct{}{}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
			b.ReportMetric(float64(s.stats.commits.Load())/float64(s.stats.groups.Load()), "commits/fsync")
		})
	}
}

// BenchmarkFsync is the disk alone: append 300 bytes to a file, fsync, repeat.
func BenchmarkFsync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "file"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	record := make([]byte, 300)
	for b.Loop() {
		if _, err := f.Write(record); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "fsyncs/s")
}

// BenchmarkRead reads a log from its start, 256 records at a time.
func BenchmarkRead(b *testing.B) {
	s := testOpen(b, b.TempDir()).(*Store)
	defer s.Close()
	const records = 100_000
	record := make([]byte, 300)
	var wg sync.WaitGroup
	for range records {
		wg.Add(1)
		if err := s.Commit(&store.Batch{Appends: []store.Append{{Log: "e/app", Record: record}}}, func(error) { wg.Done() }); err != nil {
			b.Fatal(err)
		}
	}
	wg.Wait()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if err := s.Read("e/app", uint64(n*256%records), 256, func(uint64, time.Time, []byte) bool { return true }); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(b.N)*256/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkGet reads keys that are on disk.
func BenchmarkGet(b *testing.B) {
	s := testOpen(b, b.TempDir()).(*Store)
	defer s.Close()
	var wg sync.WaitGroup
	keys := make([]store.Key, 10_000)
	for i := range keys {
		keys[i] = store.Key{Kind: store.State, Name: fmt.Sprintf("app\x00plugin\x00device-%d", i)}
		wg.Add(1)
		if err := s.Commit(&store.Batch{Puts: []store.Put{{Key: keys[i], Value: make([]byte, 40)}}}, func(error) { wg.Done() }); err != nil {
			b.Fatal(err)
		}
	}
	wg.Wait()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if _, rev, err := s.Get(keys[n%len(keys)]); err != nil || rev == 0 {
			b.Fatal(rev, err)
		}
		n++
	}
}
