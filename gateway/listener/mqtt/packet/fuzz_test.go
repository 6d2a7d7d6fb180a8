package packet

import (
	"bytes"
	"runtime"
	"testing"
)

// FuzzDecode feeds bodies to every decoder. Nothing panics; errors are *Error with
// a code for closing; what is accepted encodes to a form that is stable from then
// on; and memory stays within a small multiple of the input.
func FuzzDecode(f *testing.F) {
	for _, file := range []string{"valid.txt", "invalid.txt"} {
		for _, v := range vectors(f, file) {
			if _, size, n, err := Header(v.frame, MaxSize); err == nil && n > 0 && n+size == len(v.frame) {
				f.Add(v.version, v.frame[0], v.frame[n:])
			}
		}
	}
	f.Fuzz(func(t *testing.T, version, first byte, body []byte) {
		if version != V5 {
			version = V311
		}
		input := bytes.Clone(body)
		p, err := Decode(version, first, body)
		if !bytes.Equal(input, body) {
			t.Fatal("the body was written to")
		}
		if err != nil {
			e, ok := err.(*Error)
			if !ok || e.Code < CodeUnspecified || e.Reason == "" || p != nil {
				t.Fatalf("%v, %v", p, err)
			}
			answer := (&Connack{Code: e.Code}).Append(nil, e.Version)
			if e.Version != 0 && len(answer) > 0 {
				if _, err := decodeFrame(e.Version, answer); err != nil {
					t.Fatalf("CONNACK %x: %v", answer, err)
				}
			}
			return
		}
		_ = FromClient(p)
		if c, ok := p.(*Connect); ok {
			version = c.Version
		}
		frame := p.Append(nil, version)
		again, err := decodeFrame(version, frame)
		if err != nil {
			t.Fatalf("%s: %x: %v", dump(p), frame, err)
		}
		if dump(again) != dump(p) {
			t.Fatalf("decoded again\n got %s\nwant %s", dump(again), dump(p))
		}
		if frame2 := again.Append(nil, version); !bytes.Equal(frame, frame2) {
			t.Fatalf("encoded again\n got %x\nwant %x", frame2, frame)
		}
		if len(body) > 64 {
			checkMemory(t, version, first, body)
		}
	})
}

// checkMemory decodes again and counts what that allocates: at most 2 KiB for the
// packet itself and 40 bytes for each byte of the body, most of it what the growth of
// slices leaves behind.
func checkMemory(t *testing.T, version, first byte, body []byte) {
	const rounds = 8 // other goroutines allocate too: the least of several
	least := ^uint64(0)
	for range rounds {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		p, _ := Decode(version, first, body)
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(p)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	if limit := uint64(2048 + 40*len(body)); least > limit {
		t.Fatalf("%d bytes allocated for a body of %d", least, len(body))
	}
}

// TestMemoryBound decodes the bodies that ask for most memory for their size.
func TestMemoryBound(t *testing.T) {
	repeat := func(head, unit string) []byte { return append([]byte(head), bytes.Repeat([]byte(unit), 20_000)...) }
	props := func(head, unit, tail string) []byte {
		block := bytes.Repeat([]byte(unit), 20_000)
		return append(append(appendVarint([]byte(head), len(block)), block...), tail...)
	}
	tests := map[string]struct {
		first byte
		body  []byte
	}{
		"filters":          {0x82, repeat("\x00\x01\x00", "\x00\x01a\x00")},
		"unsubscriptions":  {0xa2, repeat("\x00\x01\x00", "\x00\x01a")},
		"user properties":  {0x30, props("\x00\x01a", "\x26\x00\x00\x00\x00", "")},
		"subscription ids": {0x30, props("\x00\x01a", "\x0b\x01", "")},
		"codes":            {0x90, repeat("\x00\x01\x00", "\x00")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := Decode(V5, tt.first, tt.body); err != nil {
				t.Fatal(err)
			}
			checkMemory(t, V5, tt.first, tt.body)
		})
	}
}

// FuzzHeader compares Header with the algorithm of section 1.5.5 as it stands there,
// and with itself on every prefix.
func FuzzHeader(f *testing.F) {
	for _, b := range []string{"", "\x30", "\x30\x80", "\x30\xff\xff\xff\x7f", "\x30\xff\xff\xff\xff", "\xc0\x00", "\x30\x80\x80\x80\x00"} {
		f.Add([]byte(b), 1000)
	}
	f.Fuzz(func(t *testing.T, b []byte, limit int) {
		first, size, n, err := Header(b, limit)
		wantSize, wantN, broken := 0, 0, false
		multiplier := 1
		for i, c := range b[min(1, len(b)):] {
			if multiplier > 128*128*128 {
				broken = true
				break
			}
			wantSize += int(c&127) * multiplier
			multiplier *= 128
			if c&128 == 0 {
				wantN = i + 2
				break
			}
		}
		if wantN == 0 && multiplier > 128*128*128 {
			broken = true // the fourth byte asks for a fifth
		}
		switch {
		case len(b) == 0:
			if n != 0 || err != nil {
				t.Fatalf("empty: %d, %v", n, err)
			}
		case checkFlags(b[0]) != nil || broken:
			if e, ok := err.(*Error); !ok || e.Code != CodeMalformedPacket {
				t.Fatalf("%x: %v", b, err)
			}
		case wantN > 0 && wantSize > limit:
			if e, ok := err.(*Error); !ok || e.Code != CodePacketTooLarge {
				t.Fatalf("%x: %v", b, err)
			}
		case err != nil || n != wantN || n > 0 && (size != wantSize || first != b[0]):
			t.Fatalf("%x: %02x, %d, %d, %v; want %d, %d", b, first, size, n, err, wantSize, wantN)
		}
	})
}
