//go:build wasip1

// The Go guest of the meter's tests: some work, and what no plugin should do.
package main

import "strings"

const payload = `{"device":"sensor-1","time":"2026-01-02T03:04:05Z","values":{"celsius":21.5,"humidity":40.25,"pascal":101325},"history":[3,1,4,1,5,9,2,6,5,3,5,8,9,7,9]}`

var calls int64 // state that a restore must undo

// scan picks a number by hand, as an allocation-free view does.
//
//go:wasmexport scan
func scan(n int32) int64 {
	var sum int64
	for range n {
		at := strings.Index(payload, `"pascal":`) + 9
		v := int64(0)
		for payload[at] >= '0' && payload[at] <= '9' {
			v = v*10 + int64(payload[at]-'0')
			at++
		}
		sum += v
	}
	return sum
}

//go:wasmexport sieve
func sieve(n int32) int64 {
	composite := make([]bool, n+1)
	count := int64(0)
	for i := 2; i <= int(n); i++ {
		if composite[i] {
			continue
		}
		count++
		for j := 2 * i; j <= int(n); j += i {
			composite[j] = true
		}
	}
	return count
}

//go:wasmexport count
func count() int64 {
	calls++
	return calls
}

//go:wasmexport spin
func spin() {
	for {
	}
}

//go:wasmexport recurse
func recurse(n int64) int64 {
	if n == 0 {
		return 0
	}
	return recurse(n-1) + n
}

//go:wasmexport hoard
func hoard(mib int32) int32 {
	var kept [][]byte
	for range mib {
		b := make([]byte, 1<<20)
		b[len(b)-1] = 1
		kept = append(kept, b)
	}
	return int32(len(kept))
}

//go:wasmexport fail
func fail() { panic("as asked") }

func main() {}
