package sdk

import (
	"unsafe"

	"tributary.io/sdk-plugin/jsontext"
)

// Handle makes h the plugin's handler. Call it while the program initialises,
// because main never runs in a plugin:
//
//	var _ = sdk.Handle(decode)
func Handle(h Handler) struct{} {
	guest.handler = h
	return struct{}{}
}

// guest is the state of this instance. It is the one global of the package: the
// exports of a module have no receiver.
var guest struct {
	handler Handler
	request Request
	in      []byte
}

//go:wasmexport tributary_abi_1
func abi1() {}

//go:wasmexport tributary_buffer
func buffer(n int32) unsafe.Pointer {
	guest.in = make([]byte, n)
	return unsafe.Pointer(unsafe.SliceData(guest.in))
}

//go:wasmexport tributary_handle
func handle(n int32) int64 {
	if guest.handler == nil {
		gateway{}.log(Error, "the plugin has no handler: call sdk.Handle in a package-level variable or in init")
		return 0
	}
	if n < 0 || int(n) > len(guest.in) {
		gateway{}.log(Error, "the request is longer than the buffer")
		return 0
	}
	guest.request.host = gateway{}
	out, err := guest.request.serve(guest.handler, guest.in[:n])
	if err != nil {
		gateway{}.log(Error, err.Error())
		return 0
	}
	return int64(uintptr(unsafe.Pointer(unsafe.SliceData(out))))<<32 | int64(len(out))
}

// gateway calls the real host.
type gateway struct{}

func (gateway) stateGet(key string, buf []byte) int64 {
	return stateGet(key, unsafe.Pointer(unsafe.SliceData(buf)), int32(len(buf)))
}

func (gateway) stateScan(prefix, after string, limit int32, buf []byte) int64 {
	return stateScan(prefix, after, limit, unsafe.Pointer(unsafe.SliceData(buf)), int32(len(buf)))
}

func (gateway) log(level Level, message string) { log(int32(level), message) }

//go:wasmimport tributary state_get
func stateGet(key string, buf unsafe.Pointer, size int32) int64

//go:wasmimport tributary state_scan
func stateScan(prefix, after string, limit int32, buf unsafe.Pointer, size int32) int64

//go:wasmimport tributary log
func log(level int32, message string)

//go:wasmimport tributary json_index
func jsonIndex(text unsafe.Pointer, size int32, nodes unsafe.Pointer, room int32) int32

// tooLong is the answer of json_index for a text that the guest has to index itself.
const tooLong = -2

// index has the gateway check a text and write its nodes, which are laid out in
// memory as they are in Go.
func index(nodes []jsontext.Node, text []byte) ([]jsontext.Node, bool) {
	for {
		n := int(jsonIndex(unsafe.Pointer(unsafe.SliceData(text)), int32(len(text)), unsafe.Pointer(unsafe.SliceData(nodes)), int32(cap(nodes))))
		switch {
		case n == tooLong:
			return jsontext.Append(nodes, text)
		case n < 0:
			return nodes, false
		case n <= cap(nodes):
			return nodes[:n], true
		}
		nodes = make([]jsontext.Node, 0, n+n/4)
	}
}
