package sdk

import "strconv"

// Most numbers that devices send are short decimals, and package strconv, made
// for all numbers, costs a microsecond for each in WebAssembly. A float64 holds
// every integer up to 2^53 and the powers of ten up to 10^22, and a division is
// rounded correctly; so short decimals need one division, and the result is the
// same to the last bit.

const maxExact = 1 << 53

// parseDecimal reads a checked JSON number without an exponent, whose digits make
// an integer up to 2^53.
func parseDecimal(b []byte) (f float64, ok bool) {
	negative := b[0] == '-'
	if negative {
		b = b[1:]
	}
	if len(b) > 16 {
		return 0, false
	}
	var digits uint64
	scale, point := 1.0, false
	for _, c := range b {
		switch {
		case c == '.':
			point = true
		case c > '9': // e or E
			return 0, false
		default:
			digits = digits*10 + uint64(c-'0')
			if point {
				scale *= 10
			}
		}
	}
	if digits > maxExact {
		return 0, false
	}
	f = float64(digits) / scale
	if negative {
		f = -f
	}
	return f, true
}

// appendDecimal writes a number that has at most four decimals and fifteen
// digits. Two such decimals are never the same float64, so what reads back as f is
// also the shortest that does.
func appendDecimal(b []byte, f float64) (_ []byte, ok bool) {
	const scale, most = 1e4, 1e15
	n := f * scale
	if n <= -most || n >= most || n == 0 {
		return b, false
	}
	rounded := int64(n)
	if n-float64(rounded) >= 0.5 {
		rounded++
	} else if float64(rounded)-n >= 0.5 {
		rounded--
	}
	if float64(rounded)/scale != f {
		return b, false
	}
	if rounded < 0 {
		b = append(b, '-')
		rounded = -rounded
	}
	b = strconv.AppendInt(b, rounded/scale, 10)
	rest := rounded % scale
	if rest == 0 {
		return b, true
	}
	b = append(b, '.', byte('0'+rest/1000), byte('0'+rest/100%10), byte('0'+rest/10%10), byte('0'+rest%10))
	for b[len(b)-1] == '0' {
		b = b[:len(b)-1]
	}
	return b, true
}
