//go:build !linux

package plugin

// reserveMemory allocates n zero bytes.
func reserveMemory(n int64) ([]byte, error) { return make([]byte, n), nil }

func unreserve([]byte) {}

func zero(b []byte) {
	for len(b) > 0 {
		n := min(len(b), copyChunk)
		clear(b[:n])
		b = b[n:]
	}
}
