package bench

import (
	"math/bits"
	"time"
)

// A histogram counts durations in buckets that are at most 1/64 of their value wide,
// up to about 70 seconds; longer ones count as that long, but for the maximum. The
// zero value is ready. It is not for concurrent use.
type histogram struct {
	counts [(topBit-subBits+1)<<subBits + 1]uint32
	total  uint64
	max    time.Duration
}

const (
	subBits = 6
	topBit  = 36 // 2^36 ns are 69 s
)

// bucket numbers the buckets without gaps: 64 for each power of two, and the values
// below 64 each for itself.
func bucket(d time.Duration) int {
	v := uint64(min(max(d, 0), 1<<topBit))
	if v < 1<<subBits {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return (shift+1)<<subBits + int(v>>shift) - 1<<subBits
}

// upper is the largest value of a bucket.
func upper(i int) time.Duration {
	if i < 1<<subBits {
		return time.Duration(i)
	}
	shift := i>>subBits - 1
	mantissa := uint64(i&(1<<subBits-1)) + 1<<subBits
	return time.Duration((mantissa+1)<<shift - 1)
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(d)]++
	h.total++
	h.max = max(h.max, d)
}

func (h *histogram) merge(o *histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.total += o.total
	h.max = max(h.max, o.max)
}

// quantile is the value that the share q of all values does not exceed, rounded up
// to the end of its bucket.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.total))
	if float64(rank) < q*float64(h.total) {
		rank++
	}
	var seen uint64
	for i, n := range h.counts {
		if seen += uint64(n); seen >= rank && n > 0 {
			return min(upper(i), h.max)
		}
	}
	return h.max
}

// latency is the histogram as reports show it.
func (h *histogram) latency() Latency {
	if h.total == 0 {
		return Latency{}
	}
	return Latency{Count: int(h.total), P50: h.quantile(0.50), P90: h.quantile(0.90), P99: h.quantile(0.99), Max: h.max}
}
