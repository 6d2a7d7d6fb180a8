//go:build wasip1

// The guest of the benchmark: what a decoder of JSON does.
package main

import (
	"encoding/json"
	"sort"
	"strconv"
	"strings"
)

type reading struct {
	Device  string             `json:"device"`
	Time    string             `json:"time"`
	Values  map[string]float64 `json:"values"`
	History []int              `json:"history"`
}

const payload = `{"device":"sensor-1","time":"2026-01-02T03:04:05Z","values":{"celsius":21.5,"humidity":40.25,"pascal":101325},"history":[3,1,4,1,5,9,2,6,5,3,5,8,9,7,9]}`

//go:wasmexport decode
func decode(n int32) int64 {
	var sum int64
	for range n {
		var r reading
		if err := json.Unmarshal([]byte(payload), &r); err != nil {
			return -1
		}
		keys := make([]string, 0, len(r.Values))
		for k, v := range r.Values {
			keys = append(keys, k+"="+strconv.FormatFloat(v, 'f', 2, 64))
		}
		sort.Strings(keys)
		for _, c := range strings.Join(keys, ",") {
			sum = sum*31 + int64(c)
		}
		sort.Ints(r.History)
		for _, h := range r.History {
			sum = sum*31 + int64(h)
		}
	}
	return sum
}

func main() {}
