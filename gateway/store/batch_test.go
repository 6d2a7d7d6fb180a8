package store_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"tributary.io/gateway/store"
)

// TestBatch compares batches of every size with a map: the last write to a key counts,
// however it came in.
func TestBatch(t *testing.T) {
	var b store.Batch // used again and again, as a shard does
	rapid.Check(t, func(t *rapid.T) {
		b.Reset()
		last := map[store.Key]string{} // "" is a deletion
		for i := range rapid.IntRange(0, 400).Draw(t, "writes") {
			k := store.Key{Kind: store.State, Name: fmt.Sprint(rapid.IntRange(0, 200).Draw(t, "key"))}
			switch rapid.IntRange(0, 5).Draw(t, "do") {
			case 0, 1:
				b.Delete(k)
				last[k] = ""
			case 2: // as a caller that knows that the key is new
				if _, ok := last[k]; !ok {
					last[k] = fmt.Sprint("value ", i)
					b.Puts = append(b.Puts, store.Put{Key: k, Value: []byte(last[k])})
				}
			case 3:
				if _, ok := last[k]; !ok {
					last[k] = ""
					b.Deletes = append(b.Deletes, k)
				}
			default:
				last[k] = fmt.Sprint("value ", i)
				b.Put(store.Put{Key: k, Value: []byte(last[k])})
			}
		}
		if n := len(b.Puts) + len(b.Deletes); n != len(last) {
			t.Fatalf("%d writes of %d keys", n, len(last))
		}
		for n := range 201 {
			k := store.Key{Kind: store.State, Name: fmt.Sprint(n)}
			want, known := last[k]
			p, written := b.Written(k)
			if written != known || (p != nil) != (want != "") || p != nil && string(p.Value) != want {
				t.Fatalf("key %d: %+v, %v; want %q, %v", n, p, written, want, known)
			}
			if slices.Contains(b.Deletes, k) != (known && want == "") {
				t.Fatalf("key %d: deleted %v, want %q", n, b.Deletes, want)
			}
		}
	})
}

// BenchmarkBatch shows what a write costs in a batch of this size.
func BenchmarkBatch(b *testing.B) {
	for _, n := range []int{2, 64, 16384} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			keys := make([]store.Key, n)
			for i := range keys {
				keys[i] = store.Key{Kind: store.State, Name: fmt.Sprint(i)}
			}
			var batch store.Batch
			for b.Loop() {
				batch.Reset()
				for _, k := range keys {
					if _, written := batch.Written(k); !written {
						batch.Put(store.Put{Key: k})
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/write")
		})
	}
}
