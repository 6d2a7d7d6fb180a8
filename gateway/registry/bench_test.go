package registry

import (
	"fmt"
	"runtime"
	"testing"

	"tributary.io/gateway/resource"
	"tributary.io/gateway/store"
	"tributary.io/gateway/store/pebble"
)

const benchDevices = 100_000

// fleet makes a store with an application of benchDevices devices, each with an
// API key.
func fleet(b *testing.B) *pebble.Store {
	b.Helper()
	cfg := pebble.Default()
	cfg.Dir = b.TempDir()
	st, err := pebble.Open(cfg, discard())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { st.Close() })
	r, err := New(Config{}, st, discard())
	if err != nil {
		b.Fatal(err)
	}
	if _, _, err := r.PutApplication(r.NewApplication("plant"), resource.Precondition{}); err != nil {
		b.Fatal(err)
	}
	for i := 0; i < benchDevices; {
		var batch store.Batch
		for range 1000 {
			c, _, err := issue(resource.NewCredential{Kind: resource.KeyCredential}, r.now())
			if err != nil {
				b.Fatal(err)
			}
			d := r.NewDevice("plant", fmt.Sprintf("device-%06d", i))
			d.Entry = r.stamp(nil)
			batch.Puts = append(batch.Puts, store.Put{
				Key:   store.Key{Kind: store.Meta, Name: deviceKey + "plant/" + d.Name},
				Value: encode(deviceRecord{version{recordVersion}, d, toRecords([]credential{c})}),
			})
			i++
		}
		if err := store.CommitWait(r.store, &batch); err != nil {
			b.Fatal(err)
		}
	}
	return st
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkStart reads 100,000 devices, and says what each takes in memory.
func BenchmarkStart(b *testing.B) {
	st := fleet(b)
	before := heap()
	var r *Registry
	for b.Loop() {
		r = nil
		var err error
		if r, err = New(Config{}, st, discard()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(heap()-before)/benchDevices, "B/device")
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/start")
	runtime.KeepAlive(r)
}

// BenchmarkPutDevice changes a device among 100,000, durably.
func BenchmarkPutDevice(b *testing.B) {
	r, err := New(Config{}, fleet(b), discard())
	if err != nil {
		b.Fatal(err)
	}
	d := r.NewDevice("plant", "device-050000")
	b.ReportAllocs()
	for b.Loop() {
		d.MessageRate++
		if _, _, err := r.PutDevice(d, resource.Precondition{}); err != nil {
			b.Fatal(err)
		}
	}
}
