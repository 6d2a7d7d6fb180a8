package stage

// Source returns the CloudEvents source of a device, unless its dialect has one of its own:
// /applications/<application>/devices/<device>. Without a device it is the application's.
func Source(application, device string) string {
	s := "/applications/" + escapeSegment(application)
	if device == "" {
		return s
	}
	return s + "/devices/" + escapeSegment(device)
}

// escapeSegment percent-encodes what may not stand in a URI path segment
// (RFC 3986 section 3.3).
func escapeSegment(s string) string {
	const hex = "0123456789ABCDEF"
	plain := func(c byte) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' || c == '~'
	}
	i := 0
	for i < len(s) && plain(s[i]) {
		i++
	}
	if i == len(s) {
		return s
	}
	out := append(make([]byte, 0, len(s)+8), s[:i]...)
	for ; i < len(s); i++ {
		if c := s[i]; plain(c) {
			out = append(out, c)
		} else {
			out = append(out, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(out)
}
