package stage

import (
	"strings"
	"testing"

	"tributary.io/sdk-plugin/event"
)

func TestPlain(t *testing.T) {
	for _, c := range []struct {
		text string
		most int
		want string
	}{
		{"", 10, ""},
		{"plain, ünïcode \U0001F600", 100, "plain, ünïcode \U0001F600"},
		{"a\x01b\tc\nd\x7fe\u0085f", 100, `a\u0001b\u0009c\u000ad\u007fe\u0085f`},
		{"\uFFFE \uFDD0 \U0001FFFF", 100, `\ufffe \ufdd0 \U0001ffff`},
		{"a\xffb\xc3", 100, `a\xffb\xc3`},
		{"\uFFFD is a character", 100, "\uFFFD is a character"},
		{"0123456789", 10, "0123456789"},
		{"0123456789a", 10, "0123456…"},
		{"ééééééé", 9, "ééé…"},
		{"\x00\x00\x00", 12, `\u0000…`},
		{strings.Repeat("\x00", 2), 12, `\u0000\u0000`},
	} {
		got := Plain(c.text, c.most)
		if got != c.want {
			t.Errorf("%q in %d bytes: %q, want %q", c.text, c.most, got, c.want)
		}
		if !event.ValidString(got) || len(got) > c.most {
			t.Errorf("%q in %d bytes: %q is no String of that length", c.text, c.most, got)
		}
	}
}
