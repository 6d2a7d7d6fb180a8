package jsontext

// Skip returns the index behind the JSON value that begins at b[i], or the index of the first
// wrong token. Nesting beyond MaxDepth is wrong, too. It leaves UTF-8 to the caller, allocates
// nothing, and does not recurse.
func Skip(b []byte, i int) (end int, ok bool) {
	var objects [MaxDepth/64 + 1]uint64 // by level: a set bit is an object, an unset one an array
	depth := 0
	for {
		// A value is due.
		if i >= len(b) {
			return i, false
		}
		if c := b[i]; c == '{' || c == '[' {
			if depth == MaxDepth {
				return i, false
			}
			if i = SkipSpace(b, i+1); i < len(b) && b[i] == c+2 { // '{'+2 is '}', '['+2 is ']'
				i++
			} else {
				depth++
				objects[depth/64] &^= 1 << (depth % 64)
				if c == '{' {
					objects[depth/64] |= 1 << (depth % 64)
					if _, i, ok = SkipName(b, i); !ok {
						return i, false
					}
				}
				continue
			}
		} else if end := checkScalar(b, i); end < 0 {
			return i, false
		} else {
			i = end
		}

		// A value has ended: close what it closes, up to the next comma.
		for {
			if depth == 0 {
				return i, true
			}
			if i = SkipSpace(b, i); i == len(b) {
				return i, false
			}
			object := objects[depth/64]>>(depth%64)&1 != 0
			if b[i] == ']' && !object || b[i] == '}' && object {
				i++
				depth--
				continue
			}
			if b[i] != ',' {
				return i, false
			}
			if i = SkipSpace(b, i+1); object {
				if _, i, ok = SkipName(b, i); !ok {
					return i, false
				}
			}
			break
		}
	}
}

// SkipName reads the name of an object's member, and its colon, at b[i]. The name, with
// its quotes, ends at stop; the value is due at next, which is where the mistake is if
// there is one.
func SkipName(b []byte, i int) (stop, next int, ok bool) {
	if i >= len(b) || b[i] != '"' {
		return i, i, false
	}
	if stop = checkString(b, i); stop < 0 {
		return i, i, false
	}
	if i = SkipSpace(b, stop); i >= len(b) || b[i] != ':' {
		return stop, i, false
	}
	return stop, SkipSpace(b, i+1), true
}

// checkScalar checks a value that is neither an array nor an object.
func checkScalar(b []byte, i int) int {
	switch c := b[i]; {
	case c == '"':
		return checkString(b, i)
	case c == '-' || c >= '0' && c <= '9':
		return checkNumber(b, i)
	case c == 't':
		return checkWord(b, i, "true")
	case c == 'f':
		return checkWord(b, i, "false")
	case c == 'n':
		return checkWord(b, i, "null")
	}
	return -1
}
