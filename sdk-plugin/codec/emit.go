package codec

import (
	"slices"

	"tributary.io/sdk-plugin/event"
	"tributary.io/sdk-plugin/wire"
)

// Most events that plugins emit have a type, a subject, a media type and data,
// each short. Their size is known before they are written, so that no length has
// to be put in afterwards; WebAssembly pays for each step that takes.

const (
	shortText  = 80        // longest text of such an event: lengths are one byte each
	shortData  = 16 << 10  // its data is shorter than this
	shortFixed = 5 + 2     // specversion, and tag and length of the type
	entryFixed = 2 + 2 + 4 // tags and lengths of an attribute
)

// shortSize is how long a short event is on the wire; 0 for any other.
func shortSize(e *event.Event) int {
	if len(e.Type) > shortText || len(e.Subject) > shortText || len(e.DataContentType) > shortText || len(e.Data) >= shortData ||
		e.Type == "" || e.ID != "" || e.Source != "" || len(e.DataSchema) > shortText || len(e.Device) > shortText || e.Application != "" ||
		e.Sender != "" ||
		e.Extensions != nil || e.Text || e.Data == nil || e.HasTime() {
		return 0
	}
	n := shortFixed + len(e.Type) + 1 + lengthSize(len(e.Data)) + len(e.Data)
	if e.Subject != "" {
		n += entryFixed + len("subject") + len(e.Subject)
	}
	if e.DataContentType != "" {
		n += entryFixed + len("datacontenttype") + len(e.DataContentType)
	}
	if e.DataSchema != "" {
		n += entryFixed + len("dataschema") + len(e.DataSchema)
	}
	if e.Device != "" {
		n += entryFixed + len("device") + len(e.Device)
	}
	return n
}

// appendShort writes the effect that emits a short event of n bytes.
func appendShort(dst []byte, e *event.Event, n int) []byte {
	field := 1 + lengthSize(n) + n
	emit := 1 + lengthSize(field) + field
	dst = slices.Grow(dst, emit+4)
	dst = appendLength(append(dst, tag1), emit)
	dst = appendLength(append(dst, effectEmit<<3|2), field)
	dst = appendLength(append(dst, tag1), n)
	dst = append(dst, ceSpecVersion<<3|2, 3, '1', '.', '0', ceType<<3|2, byte(len(e.Type)))
	dst = wire.AppendShort(dst, e.Type)
	dst = appendEntry(appendEntry(dst, "subject", ceString, e.Subject), "datacontenttype", ceString, e.DataContentType)
	dst = appendEntry(appendEntry(dst, "dataschema", ceURI, e.DataSchema), "device", ceString, e.Device)
	dst = appendLength(append(dst, ceBinary<<3|2), len(e.Data))
	return append(dst, e.Data...)
}

// appendEntry writes a short attribute.
func appendEntry(dst []byte, name string, kind byte, s string) []byte {
	if s == "" {
		return dst
	}
	dst = append(dst, ceAttributes<<3|2, byte(len(name)+len(s)+6), tag1, byte(len(name)))
	dst = wire.AppendShort(dst, name)
	return wire.AppendShort(append(dst, tag2, byte(len(s)+2), kind<<3|2, byte(len(s))), s)
}

// lengthSize is how many bytes a length of less than 2^21 takes.
func lengthSize(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	}
	return 3
}

func appendLength(dst []byte, n int) []byte {
	switch {
	case n < 1<<7:
		return append(dst, byte(n))
	case n < 1<<14:
		return append(dst, byte(n)|0x80, byte(n>>7))
	}
	return append(dst, byte(n)|0x80, byte(n>>7)|0x80, byte(n>>14))
}
