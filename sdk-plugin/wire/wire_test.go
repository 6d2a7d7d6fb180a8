package wire

import (
	"bytes"
	"math"
	"strings"
	"testing"
)

// TestClose: whatever the guess was, the message is the same.
func TestClose(t *testing.T) {
	for _, n := range []int{0, 1, 127, 128, 16383, 16384, 1 << 21} {
		body := strings.Repeat("x", n)
		want := AppendPresent([]byte("before"), 3, []byte(body))
		for _, guess := range []int{0, 127, 128, 16384, 1 << 21, 1 << 30} {
			dst, m := Open([]byte("before"), 3, guess)
			dst = append(dst, body...)
			if got := Close(dst, m); !bytes.Equal(got, want) {
				t.Errorf("%d bytes, guessed %d: %d bytes, want %d", n, guess, len(got), len(want))
			}
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, v := range []uint64{1, 127, 128, math.MaxUint32, math.MaxInt64, math.MaxUint64} {
		r := Read(AppendUint(nil, 1<<29-1, v), 0)
		if !r.Next() || r.Field() != 1<<29-1 || r.Uint64() != v || r.Next() || r.Err() != nil {
			t.Errorf("%d: %v", v, r.Err())
		}
	}
	for _, v := range []int32{-1, math.MinInt32, math.MaxInt32} {
		r := Read(AppendUint(nil, 1, uint64(int64(v))), 0)
		if r.Next(); r.Int32() != v || r.Err() != nil {
			t.Errorf("%d: %v", v, r.Err())
		}
	}
}

// TestFixed: fields that the contract does not use are skipped whole.
func TestFixed(t *testing.T) {
	r := Read([]byte{1<<3 | 1, 1, 2, 3, 4, 5, 6, 7, 8, 2<<3 | 5, 1, 2, 3, 4, 3 << 3, 7}, 0)
	for want := 1; r.Next(); want++ {
		if r.Field() != want {
			t.Errorf("field %d, want %d", r.Field(), want)
		}
	}
	if r.Err() != nil || r.Field() != 3 || r.Uint64() != 7 {
		t.Errorf("field %d: %v", r.Field(), r.Err())
	}
}
