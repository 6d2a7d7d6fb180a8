package sdk

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a JSON text. Devices nest a handful of levels;
// readers downstream (System.Text.Json: 64, serde_json: 128) stop early too.
const maxDepth = 256

// checkJSON checks one whole JSON text and returns where its value stands. It
// keeps one bit per level instead of recursing: a call is dear in WebAssembly.
func checkJSON(b []byte) (start, end int, ok bool) {
	var inObject [maxDepth / 64]uint64
	depth := 0
	start = skipSpace(b, 0)
	i := start
	for {
		// A value is due.
		if i >= len(b) {
			return 0, 0, false
		}
		switch c := b[i]; {
		case c == '"':
			i = checkString(b, i)
		case c == '{' || c == '[':
			if depth == maxDepth {
				return 0, 0, false
			}
			i = skipSpace(b, i+1)
			if i < len(b) && b[i] == c+2 { // '{'+2 is '}', '['+2 is ']'
				i++
				break
			}
			bit := uint64(1) << (depth % 64)
			if c == '{' {
				inObject[depth/64] |= bit
				i = checkKey(b, i)
			} else {
				inObject[depth/64] &^= bit
			}
			depth++
			if i < 0 {
				return 0, 0, false
			}
			continue
		case c == '-' || c >= '0' && c <= '9':
			i = checkNumber(b, i)
		case c == 't':
			i = checkWord(b, i, "true")
		case c == 'f':
			i = checkWord(b, i, "false")
		case c == 'n':
			i = checkWord(b, i, "null")
		default:
			return 0, 0, false
		}
		if i < 0 {
			return 0, 0, false
		}

		// A value has ended: close what it closes, up to the next comma.
		for {
			if depth == 0 {
				return start, i, skipSpace(b, i) == len(b) && utf8.Valid(b)
			}
			if i = skipSpace(b, i); i == len(b) {
				return 0, 0, false
			}
			object := inObject[(depth-1)/64]>>((depth-1)%64)&1 != 0
			c := b[i]
			if c == '}' && object || c == ']' && !object {
				depth--
				i++
				continue
			}
			if c != ',' {
				return 0, 0, false
			}
			if i = skipSpace(b, i+1); object {
				i = checkKey(b, i)
			}
			break
		}
		if i < 0 {
			return 0, 0, false
		}
	}
}

// The check functions return the index behind what they check at b[i], or -1.

// checkKey checks a member name with its colon and returns where its value is due.
func checkKey(b []byte, i int) int {
	if i >= len(b) || b[i] != '"' {
		return -1
	}
	if i = checkString(b, i); i < 0 {
		return -1
	}
	if i = skipSpace(b, i); i >= len(b) || b[i] != ':' {
		return -1
	}
	return skipSpace(b, i+1)
}

func checkString(b []byte, i int) int {
	for i = stringStop(b, i+1); i < len(b); i = stringStop(b, i) {
		if b[i] == '"' {
			return i + 1
		}
		if b[i] != '\\' || i+1 == len(b) {
			return -1
		}
		switch b[i+1] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			i += 2
		case 'u':
			if len(b)-i < 6 {
				return -1
			}
			for _, h := range b[i+2 : i+6] {
				if (h < '0' || h > '9') && (h|0x20 < 'a' || h|0x20 > 'f') {
					return -1
				}
			}
			i += 6
		default:
			return -1
		}
	}
	return -1
}

// stringStop returns the index of the first byte at or after i that is no plain
// character of a JSON string: a quote, a backslash, a control character; len(b) if
// there is none. It looks at eight bytes at once: a round of a loop is dear in
// WebAssembly too.
func stringStop(b []byte, i int) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		quote, slash := x^ones*'"', x^ones*'\\'
		// The top bit of each byte that is zero, or below a bound. A carry makes
		// wrong ones only above a right one, and the lowest is what counts.
		stop := ((quote-ones)&^quote | (slash-ones)&^slash | (x-ones*' ')&^x) & tops
		if stop != 0 {
			return i + bits.TrailingZeros64(stop)/8
		}
	}
	for i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= ' ' {
		i++
	}
	return i
}

func checkNumber(b []byte, i int) int {
	if b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if i = checkDigits(b, i); i < 0 {
		return -1
	}
	if i < len(b) && b[i] == '.' {
		if i = checkDigits(b, i+1); i < 0 {
			return -1
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		return checkDigits(b, i)
	}
	return i
}

// checkDigits wants at least one digit.
func checkDigits(b []byte, i int) int {
	start := i
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	if i == start {
		return -1
	}
	return i
}

func checkWord(b []byte, i int, word string) int {
	if len(b)-i < len(word) || view(b[i:i+len(word)]) != word {
		return -1
	}
	return i + len(word)
}

// skipSpace skips the four characters that JSON calls space.
func skipSpace(b []byte, i int) int {
	if i < len(b) && b[i] > ' ' {
		return i
	}
	return skipSpaces(b, i)
}

func skipSpaces(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}
