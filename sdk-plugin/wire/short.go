package wire

import "unsafe"

// AppendShort is append(dst, s...) for text that is usually short. It copies eight
// bytes at a time where there is room: WebAssembly pays more for a call of the
// runtime's memory copy than for a few words.
func AppendShort(dst []byte, s string) []byte {
	n := len(s)
	if n < 4 || n > 64 || cap(dst)-len(dst) < n {
		return append(dst, s...)
	}
	to, from := unsafe.Add(unsafe.Pointer(unsafe.SliceData(dst)), len(dst)), unsafe.Pointer(unsafe.StringData(s))
	if n < 8 {
		*(*uint32)(to) = *(*uint32)(from)
		*(*uint32)(unsafe.Add(to, n-4)) = *(*uint32)(unsafe.Add(from, n-4))
		return dst[:len(dst)+n]
	}
	for i := 0; i < n-8; i += 8 {
		*(*uint64)(unsafe.Add(to, i)) = *(*uint64)(unsafe.Add(from, i))
	}
	*(*uint64)(unsafe.Add(to, n-8)) = *(*uint64)(unsafe.Add(from, n-8))
	return dst[:len(dst)+n]
}

// EqualShort compares n bytes at two places, eight at a time for the same reason.
func EqualShort(p, q unsafe.Pointer, n int) bool {
	if n < 4 {
		for i := range n {
			if *(*byte)(unsafe.Add(p, i)) != *(*byte)(unsafe.Add(q, i)) {
				return false
			}
		}
		return true
	}
	if n < 8 {
		return *(*uint32)(p) == *(*uint32)(q) && *(*uint32)(unsafe.Add(p, n-4)) == *(*uint32)(unsafe.Add(q, n-4))
	}
	for i := 0; i < n-8; i += 8 {
		if *(*uint64)(unsafe.Add(p, i)) != *(*uint64)(unsafe.Add(q, i)) {
			return false
		}
	}
	return *(*uint64)(unsafe.Add(p, n-8)) == *(*uint64)(unsafe.Add(q, n-8))
}

// PlainShort says whether a text is ASCII without control characters, quotes and backslashes.
// JSON can hold such a text as it is.
func PlainShort(s string) bool {
	n, p := len(s), unsafe.Pointer(unsafe.StringData(s))
	if n >= 8 {
		for i := 0; i < n-8; i += 8 {
			if special(*(*uint64)(unsafe.Add(p, i))) {
				return false
			}
		}
		return !special(*(*uint64)(unsafe.Add(p, n-8)))
	}
	if n >= 4 {
		return !special(uint64(*(*uint32)(p))<<32 | uint64(*(*uint32)(unsafe.Add(p, n-4))))
	}
	for i := range n {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x80 {
			return false
		}
	}
	return true
}

// special says whether any of eight bytes is not plain.
func special(x uint64) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	quote, slash := x^ones*'"', x^ones*'\\'
	return ((quote-ones)&^quote|(slash-ones)&^slash|(x-ones*' ')&^x|x)&tops != 0
}
