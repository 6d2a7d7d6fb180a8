package stage

import (
	"strings"
	"unicode/utf8"

	"tributary.io/sdk-plugin/event"
)

// Plain returns a text that attributes of events and strings of MQTT can carry. It writes
// control characters, noncharacters and bytes that are no UTF-8 as \uXXXX, \UXXXXXXXX and \xXX.
// If the text is longer than most bytes after that, it returns the beginning with an ellipsis
// behind it.
func Plain(text string, most int) string {
	if len(text) <= most && event.ValidString(text) {
		return text
	}
	const ellipsis = "…"
	var b strings.Builder
	end := 0 // of what leaves room for the ellipsis
	for i := 0; i < len(text) && b.Len() <= most; {
		_, n := utf8.DecodeRuneInString(text[i:])
		if c := text[i : i+n]; event.ValidString(c) {
			b.WriteString(c)
		} else {
			escape(&b, c)
		}
		if b.Len() <= most-len(ellipsis) {
			end = b.Len()
		}
		i += n
	}
	if b.Len() <= most {
		return b.String()
	}
	return b.String()[:end] + ellipsis
}

// escape writes one character, or byte, that may not stand for itself.
func escape(b *strings.Builder, c string) {
	const hex = "0123456789abcdef"
	r, _ := utf8.DecodeRuneInString(c)
	letter, v, digits := byte('u'), uint32(r), 4
	switch {
	case r == utf8.RuneError:
		letter, v, digits = 'x', uint32(c[0]), 2
	case r > 0xffff:
		letter, digits = 'U', 8
	}
	b.WriteByte('\\')
	b.WriteByte(letter)
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		b.WriteByte(hex[v>>shift&15])
	}
}
