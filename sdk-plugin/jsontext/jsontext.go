// Package jsontext holds the rules of JSON text (RFC 8259) once, for the SDK and for
// events: it checks texts, finds the values in them, and reads and writes strings.
//
// Append makes nodes of a whole text. A plugin's documents are made of them: the
// gateway indexes them on a plugin's behalf (ABI.md, json_index), many times faster than
// WebAssembly could, and the SDK does it by itself everywhere else. Skip walks over one
// value and keeps nothing.
package jsontext

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// MaxDepth bounds the nesting of a JSON text. Devices nest a handful of levels;
// readers downstream (System.Text.Json: 64, serde_json: 128) stop early too.
const MaxDepth = 256

// MaxBytes is the length of text that Append takes at most.
const MaxBytes = none - 1

// Node is a value, or the name before a member's value. Nodes stand in the order
// of the text, a value's before those within it.
type Node struct {
	Start, End uint32 // in the text; quotes and brackets included
	// Next is the node behind the value and all within it; for a name 1 if it has
	// escapes, else 0.
	Next uint32
}

// none is no node. While an array or object is open its Next is the one that
// holds it.
const none = 1<<32 - 1

// Append adds the nodes of a text to nodes, which must be empty but may have
// room, and returns false when it is not one JSON text (RFC 8259: UTF-8, no
// trailing bytes) of at most MaxDepth levels and MaxBytes bytes. It allocates
// nothing when there is room.
func Append(nodes []Node, text []byte) ([]Node, bool) {
	if uint64(len(text)) > MaxBytes {
		return nodes, false
	}
	d := document{nodes}
	ok := d.check(text) && utf8.Valid(text)
	return d.nodes, ok
}

type document struct{ nodes []Node }

// check reads one whole JSON text. It has a loop instead of recursing: a call is
// dear in WebAssembly.
func (d *document) check(b []byte) bool {
	open, depth := uint32(none), 0 // the innermost array or object, and how many there are
	i := SkipSpace(b, 0)
	for {
		// A value is due.
		if i >= len(b) {
			return false
		}
		at := uint32(len(d.nodes))
		d.nodes = append(d.nodes, Node{Start: uint32(i), Next: at + 1})
		switch c := b[i]; {
		case c == '"':
			i = checkString(b, i)
		case c == '{' || c == '[':
			if depth == MaxDepth {
				return false
			}
			i = SkipSpace(b, i+1)
			if i < len(b) && b[i] == c+2 { // '{'+2 is '}', '['+2 is ']'
				i++
				break
			}
			d.nodes[at].Next = open
			open = at
			depth++
			if c == '{' {
				if i = d.checkKey(b, i); i < 0 {
					return false
				}
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
			return false
		}
		if i < 0 {
			return false
		}
		d.nodes[at].End = uint32(i)

		// A value has ended: close what it closes, up to the next comma.
		for {
			if i = SkipSpace(b, i); open == none {
				return i == len(b)
			}
			if i == len(b) {
				return false
			}
			holder := &d.nodes[open]
			kind := b[holder.Start]
			if b[i] == kind+2 {
				i++
				open, holder.End, holder.Next = holder.Next, uint32(i), uint32(len(d.nodes))
				depth--
				continue
			}
			if b[i] != ',' {
				return false
			}
			if i = SkipSpace(b, i+1); kind == '{' {
				if i = d.checkKey(b, i); i < 0 {
					return false
				}
			}
			break
		}
	}
}

// The check functions return the index behind what they check at b[i], or -1.

// checkKey checks a member name with its colon, notes it, and returns where its
// value is due.
func (d *document) checkKey(b []byte, i int) int {
	if i >= len(b) || b[i] != '"' {
		return -1
	}
	start, escaped := i, uint32(0)
	if i = stringStop(b, i+1); i < len(b) && b[i] == '"' {
		i++
	} else if i, escaped = checkString(b, start), 1; i < 0 {
		return -1
	}
	d.nodes = append(d.nodes, Node{uint32(start), uint32(i), escaped})
	if i = SkipSpace(b, i); i >= len(b) || b[i] != ':' {
		return -1
	}
	return SkipSpace(b, i+1)
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
	digits := i
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	if i == digits || i > digits+1 && b[digits] == '0' {
		return -1
	}
	if i < len(b) && b[i] == '.' {
		i++
		digits = i
		for i < len(b) && b[i]-'0' <= 9 {
			i++
		}
		if i == digits {
			return -1
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		digits = i
		for i < len(b) && b[i]-'0' <= 9 {
			i++
		}
		if i == digits {
			return -1
		}
	}
	return i
}

func checkWord(b []byte, i int, word string) int {
	if len(b)-i < len(word) || string(b[i:i+len(word)]) != word {
		return -1
	}
	return i + len(word)
}

// SkipSpace returns the index of the first byte from i on that is none of the four
// characters that JSON calls space.
func SkipSpace(b []byte, i int) int {
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
