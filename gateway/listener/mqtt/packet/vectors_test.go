package packet

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

// A vector is one frame of testdata/valid.txt or testdata/invalid.txt. Both files
// explain their notation.
type vector struct {
	name    string
	version byte
	frame   []byte
	want    []string // the fields behind the frame
	line    int
}

// vectors reads a file of lines "name | version | frame | want…".
func vectors(tb testing.TB, file string) (all []vector) {
	tb.Helper()
	text, err := os.ReadFile("testdata/" + file)
	if err != nil {
		tb.Fatal(err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, "|")
		for i := range f {
			f[i] = strings.TrimSpace(f[i])
		}
		if len(f) < 4 {
			tb.Fatalf("%s:%d: want four fields", file, i+1)
		}
		for _, v := range strings.Fields(f[1]) {
			version := map[string]byte{"3.1.1": V311, "5": V5}[v]
			frame, rest := assemble(tb, strings.Fields(f[2]))
			if version == 0 || len(rest) > 0 {
				tb.Fatalf("%s:%d: bad version or frame", file, i+1)
			}
			all = append(all, vector{f[0] + "/" + v, version, frame, f[3:], i + 1})
		}
	}
	return all
}

// assemble turns the tokens of a frame into bytes, up to a closing bracket.
func assemble(tb testing.TB, tokens []string) (frame []byte, rest []string) {
	for len(tokens) > 0 {
		tok := tokens[0]
		tokens = tokens[1:]
		switch {
		case tok == "]":
			return frame, tokens
		case tok == "[":
			var inner []byte
			inner, tokens = assemble(tb, tokens)
			frame = append(appendVarint(frame, len(inner)), inner...)
		case tok[0] == '"':
			frame = append(frame, strings.Trim(tok, `"`)...)
		case tok[0] == '\'':
			text := strings.Trim(tok, "'")
			frame = append(binary.BigEndian.AppendUint16(frame, uint16(len(text))), text...)
		default:
			b, err := hex.DecodeString(tok)
			if err != nil {
				tb.Fatalf("token %q: %v", tok, err)
			}
			frame = append(frame, b...)
		}
	}
	return frame, nil
}

// decodeFrame decodes one frame that fills b.
func decodeFrame(version byte, b []byte) (Packet, error) {
	first, size, n, err := Header(b, MaxSize)
	if err != nil {
		return nil, err
	}
	if n == 0 || n+size != len(b) {
		return nil, fmt.Errorf("header of %d bytes, body of %d, in a frame of %d", n, size, len(b))
	}
	return Decode(version, first, b[n:])
}

// dump writes what is set in a packet: no zero fields, pointers followed.
func dump(v any) string { return dumpValue(reflect.ValueOf(v)) }

func dumpValue(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Pointer:
		return dumpValue(v.Elem())
	case reflect.String:
		return fmt.Sprintf("%q", v.String())
	case reflect.Slice:
		if b, ok := v.Interface().([]byte); ok {
			return fmt.Sprintf("%x", b) + "h"
		}
		items := make([]string, v.Len())
		for i := range items {
			items[i] = dumpValue(v.Index(i))
		}
		return "[" + strings.Join(items, " ") + "]"
	case reflect.Struct:
		var fields []string
		for i := range v.NumField() {
			if f := v.Field(i); !f.IsZero() {
				fields = append(fields, v.Type().Field(i).Name+":"+dumpValue(f))
			}
		}
		return v.Type().Name() + "{" + strings.Join(fields, " ") + "}"
	case reflect.Uint8:
		if v.Type() == reflect.TypeFor[Type]() {
			return Type(v.Uint()).String()
		}
		return fmt.Sprintf("%d", v.Uint())
	}
	return fmt.Sprint(v.Interface())
}

// TestValid decodes every vector, compares what it says, and encodes it again: to
// the same bytes, unless the vector is marked as another form of the same packet.
func TestValid(t *testing.T) {
	seen := map[string]bool{}
	for _, v := range vectors(t, "valid.txt") {
		t.Run(v.name, func(t *testing.T) {
			p, err := decodeFrame(v.version, v.frame)
			if err != nil {
				t.Fatalf("valid.txt:%d: %x: %v", v.line, v.frame, err)
			}
			if got := dump(p); got != v.want[0] {
				t.Errorf("valid.txt:%d:\n got %s\nwant %s", v.line, got, v.want[0])
			}
			again := p.Append([]byte("before"), v.version)
			if got := again[6:]; string(got) != string(v.frame) && len(v.want) == 1 {
				t.Errorf("valid.txt:%d: encoded again\n got %x\nwant %x", v.line, got, v.frame)
			}
			if q, err := decodeFrame(v.version, again[6:]); err != nil || dump(q) != dump(p) {
				t.Errorf("valid.txt:%d: encoded and decoded again: %v, %v", v.line, q, err)
			}
			var ack Ack
			_, _, n, _ := Header(v.frame, MaxSize)
			if err := DecodeAck(v.version, v.frame[0], v.frame[n:], &ack); reflect.TypeOf(p) == reflect.TypeFor[*Ack]() {
				if err != nil || dump(ack) != dump(p) {
					t.Errorf("valid.txt:%d: DecodeAck: %s, %v", v.line, dump(ack), err)
				}
			} else if err == nil {
				t.Errorf("valid.txt:%d: DecodeAck takes it for %s", v.line, dump(ack))
			}
			seen[fmt.Sprint(v.frame[0]>>4, v.version)] = true
		})
	}
	for typ := CONNECT; typ <= AUTH; typ++ {
		if !seen[fmt.Sprint(byte(typ), V5)] || typ != AUTH && !seen[fmt.Sprint(byte(typ), V311)] {
			t.Errorf("no valid vector of %s in both versions", typ)
		}
	}
}

// TestInvalid checks that each vector is refused with its reason code and, where
// one is named, the CONNACK that answers it.
func TestInvalid(t *testing.T) {
	for _, v := range vectors(t, "invalid.txt") {
		t.Run(v.name, func(t *testing.T) {
			p, err := decodeFrame(v.version, v.frame)
			if err == nil {
				t.Fatalf("invalid.txt:%d: %x: accepted as %s", v.line, v.frame, dump(p))
			}
			e, ok := err.(*Error)
			if !ok {
				t.Fatalf("invalid.txt:%d: %v", v.line, err)
			}
			if got := fmt.Sprintf("%02x", e.Code); got != v.want[0] {
				t.Errorf("invalid.txt:%d: reason code 0x%s (%s), want 0x%s", v.line, got, e.Reason, v.want[0])
			}
			if len(v.want) > 1 {
				answer := fmt.Sprintf("%x", (&Connack{Code: e.Code}).Append(nil, e.Version))
				if want := strings.ReplaceAll(v.want[1], " ", ""); e.Version == 0 || answer != want {
					t.Errorf("invalid.txt:%d: version %d, answered with %q, want %q", v.line, e.Version, answer, want)
				}
			}
		})
	}
}

// TestTruncated cuts every valid vector short, in two ways: as a stream that ends
// too early, and as a shorter packet. The first asks for more bytes; the second is
// refused unless what is left is a whole packet of its own.
func TestTruncated(t *testing.T) {
	for _, v := range vectors(t, "valid.txt") {
		_, size, n, _ := Header(v.frame, MaxSize)
		for cut := range v.frame {
			if _, s, hn, err := Header(v.frame[:cut], MaxSize); err != nil || hn != 0 && hn+s <= cut {
				t.Errorf("%s: header of the first %d bytes: size %d, length %d, %v", v.name, cut, s, hn, err)
			}
		}
		if len(v.want) > 1 || Type(v.frame[0]>>4) == DISCONNECT {
			continue // cutting it can give another form of a whole packet
		}
		for cut := range size {
			body := v.frame[n : n+cut]
			p, err := Decode(v.version, v.frame[0], body)
			if err != nil {
				continue
			}
			frame := append(appendVarint([]byte{v.frame[0]}, cut), body...)
			if again := p.Append(nil, v.version); string(again) != string(frame) {
				t.Errorf("%s: cut to %d bytes it is accepted as %s, which is %x", v.name, cut, dump(p), again)
			}
		}
	}
}

// TestFlags tries all 256 first bytes: 3.1.1 and 5.0 prescribe the same flags.
func TestFlags(t *testing.T) {
	for first := range 256 {
		typ, flags := Type(first>>4), first&0x0F
		want := flags == 0
		switch typ {
		case 0:
			want = false
		case PUBLISH:
			want = flags&0x06 != 0x06 && (flags&0x08 == 0 || flags&0x06 != 0)
		case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
			want = flags == 2
		}
		_, _, _, err := Header([]byte{byte(first)}, MaxSize)
		if (err == nil) != want {
			t.Errorf("first byte %02x: %v", first, err)
		}
		if _, err := Decode(V5, byte(first), nil); !want && err == nil {
			t.Errorf("Decode accepts first byte %02x", first)
		}
	}
}

// TestHeader checks sizes at the borders of the encoding and of the limit.
func TestHeader(t *testing.T) {
	tests := []struct {
		name      string
		in        string
		max       int
		size, n   int
		code      byte
		needsMore bool
	}{
		{"nothing", "", 10, 0, 0, 0, true},
		{"no length", "30", 10, 0, 0, 0, true},
		{"unfinished length", "30ffffff", MaxSize, 0, 0, 0, true},
		{"zero", "c000", 0, 0, 2, 0, false},
		{"127", "307f", 127, 127, 2, 0, false},
		{"128", "308001", 128, 128, 3, 0, false},
		{"16383", "30ff7f", 16383, 16383, 3, 0, false},
		{"16384", "30808001", 16384, 16384, 4, 0, false},
		{"2097152", "3080808001", MaxSize, 2097152, 5, 0, false},
		{"largest", "30ffffff7f", MaxSize, MaxSize, 5, 0, false},
		{"zero in four bytes", "c080808000", 0, 0, 5, 0, false},
		{"five bytes", "30ffffffff01", MaxSize, 0, 0, CodeMalformedPacket, false},
		{"fourth byte continues", "30ffffffff", MaxSize, 0, 0, CodeMalformedPacket, false},
		{"one above the limit", "308101", 128, 0, 0, CodePacketTooLarge, false},
		{"far above the limit", "10ffffff7f", 1 << 20, 0, 0, CodePacketTooLarge, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in, _ := hex.DecodeString(tt.in)
			first, size, n, err := Header(in, tt.max)
			if tt.code != 0 {
				if e, ok := err.(*Error); !ok || e.Code != tt.code {
					t.Fatalf("got %v, want code 0x%02x", err, tt.code)
				}
				return
			}
			if err != nil || (n == 0) != tt.needsMore || !tt.needsMore && (size != tt.size || n != tt.n || first != in[0]) {
				t.Fatalf("got %02x, size %d, length %d, %v", first, size, n, err)
			}
		})
	}
}
