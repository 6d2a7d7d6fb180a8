// Command chaos is a plugin for tests that behaves as badly as the payload asks
// for. It speaks plugin ABI 1 without the SDK, so that it can answer garbage.
package main

import (
	"strconv"
	"unsafe"

	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

var (
	buffer []byte
	output []byte
	hoard  [][]byte
	hole   [4096]byte
)

func main() {}

//go:wasmexport tributary_abi_1
func abi() {}

//go:wasmexport tributary_buffer
func grow(n int32) unsafe.Pointer {
	buffer = make([]byte, n)
	return unsafe.Pointer(&buffer[0])
}

//go:wasmimport tributary state_get
func stateGet(key string, buf unsafe.Pointer, size int32) int64

//go:wasmimport wasi_snapshot_preview1 random_get
func randomGet(buf unsafe.Pointer, size int32) uint32

//go:wasmexport tributary_handle
func handle(n int32) int64 {
	var in event.Inbound
	if _, _, err := codec.ParseRequest(buffer[:n], &in); err != nil {
		panic(err)
	}
	if in.Event.Type != event.TypePublish {
		return answer(codec.AppendResponse(nil, &event.Result{}))
	}
	switch string(in.Event.Data) {
	case "spin":
		for {
		}
	case "random": // a loop whose time the gateway spends
		for {
			randomGet(unsafe.Pointer(&hole[0]), int32(len(hole)))
		}
	case "recurse":
		recurse(1)
	case "memory":
		for {
			hoard = append(hoard, make([]byte, 1<<20))
			hoard[len(hoard)-1][1] = 1
		}
	case "panic":
		panic("as you wished")
	case "garbage":
		return answer([]byte("this is no protobuf message"))
	case "outside":
		return 0x7fff0000<<32 | 100
	case "count":
		return answer(count())
	}
	return answer(codec.AppendResponse(nil, &event.Result{Effects: []event.Effect{
		&event.Emit{Event: event.Event{Type: "test.chaos.echo", DataContentType: "text/plain", Data: in.Event.Data, Text: true}},
	}}))
}

// count emits how many events it has counted, this one included.
func count() []byte {
	var buf [20]byte
	n := 0
	if size := stateGet("n", unsafe.Pointer(&buf[0]), int32(len(buf))); size > 0 {
		n, _ = strconv.Atoi(string(buf[:size]))
	}
	value := []byte(strconv.Itoa(n + 1))
	return codec.AppendResponse(nil, &event.Result{Effects: []event.Effect{
		&event.Put{Key: "n", Value: value},
		&event.Emit{Event: event.Event{Type: "test.chaos.count", DataContentType: "text/plain", Data: value, Text: true}},
	}})
}

//go:noinline
func recurse(n int) int {
	var pad [16]int
	pad[n%16] = n
	return recurse(n+1) + pad[(n+1)%16]
}

func answer(b []byte) int64 {
	output = b
	return int64(uintptr(unsafe.Pointer(unsafe.SliceData(output))))<<32 | int64(len(output))
}
