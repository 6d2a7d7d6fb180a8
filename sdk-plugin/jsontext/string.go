package jsontext

import (
	"bytes"
	"unicode/utf8"

	"tributary.io/sdk-plugin/wire"
)

// Unquote decodes a JSON string that Append or SkipName found, without its quotes. The
// text shares memory with b unless there are escapes. Half a surrogate pair becomes
// U+FFFD, as in encoding/json, and then the text is not what was meant: whole is false.
func Unquote(b []byte) (text []byte, whole bool) {
	if bytes.IndexByte(b, '\\') < 0 {
		return b, true
	}
	text, whole = make([]byte, 0, len(b)), true
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			text = append(text, b[i])
			continue
		}
		i++
		switch c := b[i]; c {
		case 'b':
			text = append(text, '\b')
		case 'f':
			text = append(text, '\f')
		case 'n':
			text = append(text, '\n')
		case 'r':
			text = append(text, '\r')
		case 't':
			text = append(text, '\t')
		case 'u':
			r, n := unescape(b[i+1:])
			i += n
			if r >= 0xD800 && r < 0xE000 {
				whole = false
			}
			text = utf8.AppendRune(text, r) // a surrogate is written as U+FFFD
		default:
			text = append(text, c)
		}
	}
	return text, whole
}

// unescape reads the digits behind \u, and a second escape if both are the halves of
// one character. It returns how many bytes it took.
func unescape(b []byte) (r rune, n int) {
	if r = hex4(b); r < 0xD800 || r >= 0xDC00 || len(b) < 10 || b[4] != '\\' || b[5] != 'u' {
		return r, 4
	}
	low := hex4(b[6:])
	if low < 0xDC00 || low >= 0xE000 {
		return r, 4
	}
	return (r-0xD800)<<10 + (low - 0xDC00) + 0x10000, 10
}

func hex4(b []byte) (r rune) {
	for _, c := range b[:4] {
		r <<= 4
		switch {
		case c <= '9':
			r |= rune(c - '0')
		default:
			r |= rune(c|0x20-'a') + 10
		}
	}
	return r
}

// AppendString appends s to b as a JSON string. What is not UTF-8 becomes U+FFFD.
func AppendString(b []byte, s string) []byte {
	if wire.PlainShort(s) {
		return append(wire.AppendShort(append(b, '"'), s), '"')
	}
	const hex = "0123456789abcdef"
	b = append(b, '"')
	done := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			if r, size = utf8.DecodeRuneInString(s[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		}
		b = append(b, s[done:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			if c < ' ' {
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			} else {
				b = append(b, "\ufffd"...)
			}
		}
		i += size
		done = i
	}
	return append(append(b, s[done:]...), '"')
}
