package event

import "unicode/utf8"

// ValidString reports whether s is a String of the CloudEvents type system (spec.md 1.0):
// UTF-8 without noncharacters and without the control characters U+0000 to U+001F and U+007F
// to U+009F. The value of an attribute has to be one.
func ValidString(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f {
			return c >= utf8.RuneSelf && isWideString(s[i:])
		}
	}
	return true
}

func isWideString(s string) bool {
	for i, r := range s {
		switch {
		case r < ' ', r >= 0x7f && r <= 0x9f, r >= 0xfdd0 && r <= 0xfdef, r&0xfffe == 0xfffe:
			return false
		case r == utf8.RuneError:
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return false
			}
		}
	}
	return true
}
