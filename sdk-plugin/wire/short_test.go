package wire

import (
	"strings"
	"testing"
	"unsafe"
)

func TestShort(t *testing.T) {
	const alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~äö"
	for n := range len(alphabet) {
		s := alphabet[:n]
		for _, room := range []int{0, n - 1, n, n + 20} {
			if got := AppendShort(make([]byte, 2, 2+max(room, 0)), s); string(got) != "\x00\x00"+s {
				t.Errorf("AppendShort of %d with room for %d: %q", n, room, got)
			}
		}
		same := strings.Clone(s)
		if !EqualShort(unsafe.Pointer(unsafe.StringData(s)), unsafe.Pointer(unsafe.StringData(same)), n) {
			t.Errorf("a text of %d bytes is not itself", n)
		}
		for i := range n {
			other := []byte(s)
			other[i] ^= 1
			if EqualShort(unsafe.Pointer(unsafe.StringData(s)), unsafe.Pointer(&other[0]), n) {
				t.Errorf("%d bytes that differ at %d are the same", n, i)
			}
			for _, c := range []byte{'"', '\\', 0, 31, 0x80, 0xff} {
				other[i] = c
				if PlainShort(string(other)) {
					t.Errorf("%q is plain", other)
				}
			}
			other[i] = ' '
			if n <= 66 && !PlainShort(string(other)) {
				t.Errorf("%q is not plain", other)
			}
		}
	}
}
