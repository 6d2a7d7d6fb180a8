// A guest that misbehaves on request, written against plugin ABI 1 without the
// SDK. The event's data is a mode and an argument; most modes answer with an
// event whose data shows what happened.
package main

import (
	"encoding/binary"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

var (
	buffer []byte
	output []byte
	mark   = "clean"
	config string
	count  int
	sink   any
	keep   [][]byte
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

//go:wasmimport tributary state_scan
func stateScan(prefix, after string, limit int32, buf unsafe.Pointer, size int32) int64

//go:wasmimport tributary log
func hostLog(level int32, text string)

//go:wasmimport wasi_snapshot_preview1 random_get
func random(buf unsafe.Pointer, n int32) int32

//go:wasmexport tributary_handle
func handle(n int32) int64 {
	text := string(field(field(field(buffer[:n], 1), 1), 6))
	config = string(field(buffer[:n], 3))
	mode, arg, _ := strings.Cut(text, " ")
	switch mode {
	case "pointer":
		return 0x7fff0000<<32 | 100
	case "zero":
		return 0
	case "garbage":
		return answer([]byte("this is no protobuf message"))
	case "output":
		n, _ := strconv.Atoi(arg)
		return answer(make([]byte, n))
	}
	return answer(respond(mode, arg))
}

func answer(b []byte) int64 {
	output = b
	return int64(uintptr(unsafe.Pointer(unsafe.SliceData(output))))<<32 | int64(len(output))
}

func respond(mode, arg string) []byte {
	switch mode {
	case "echo":
		return emit("test.echo", arg+" "+mark)
	case "count":
		count++
		return emit("test.count", strconv.Itoa(count))
	case "third":
		if count++; count == 3 {
			panic("third event")
		}
		return emit("test.count", strconv.Itoa(count))
	case "mark":
		mark = "stained"
		panic("after the stain")
	case "spin":
		for {
		}
	case "recurse":
		return emit("test.depth", strconv.Itoa(recurse(1)))
	case "memory":
		for {
			keep = append(keep, make([]byte, 1<<20))
			keep[len(keep)-1][7] = 1
		}
	case "grow":
		keep = append(keep, make([]byte, 16<<20))
		for i := 0; i < len(keep[0]); i += 1 << 10 {
			keep[0][i] = 0xaa
		}
		panic("grown")
	case "clear":
		big := make([]byte, 8<<20)
		for {
			clear(big)
			sink = big
		}
	case "panic":
		panic(arg)
	case "nil":
		var p *[4]int
		return emit("test.nil", strconv.Itoa(p[len(arg)]))
	case "exit":
		os.Exit(3)
	case "log":
		for {
			hostLog(2, strings.Repeat("flood ", 100))
		}
	case "print":
		for {
			os.Stderr.WriteString(strings.Repeat("flood ", 100))
		}
	case "logonce":
		hostLog(1, arg)
		return emit("test.log", arg)
	case "deadlock":
		<-make(chan int)
	case "sleep":
		at := time.Now()
		time.Sleep(2 * time.Hour)
		return emit("test.sleep", time.Since(at).String())
	case "time":
		return emit("test.time", time.Now().UTC().Format(time.RFC3339Nano))
	case "random":
		var b [8]byte
		random(unsafe.Pointer(&b), 8)
		return emit("test.random", strconv.FormatUint(binary.LittleEndian.Uint64(b[:]), 16))
	case "state":
		return emit("test.state", readState(arg))
	case "states": // more keys than allowed
		for i := range 10_000 {
			if v := readState("k" + strconv.Itoa(i)); v == "-2" {
				return emit("test.state", strconv.Itoa(i))
			}
		}
	case "scan": // prefix, after, limit, size of the buffer
		words := strings.Split(arg, " ")
		limit, _ := strconv.Atoi(words[2])
		size, _ := strconv.Atoi(words[3])
		buf := make([]byte, size)
		return emit("test.scan", scanState(words[0], words[1], limit, buf))
	case "scans": // prefix, limit; until it is refused
		buf := make([]byte, 1<<20)
		prefix, number, _ := strings.Cut(arg, " ")
		limit, _ := strconv.Atoi(number)
		for i := 0; ; i++ {
			if got := scanState(prefix, "", limit, buf); got == "-2" {
				return emit("test.scan", strconv.Itoa(i))
			}
		}
	case "raw": // an effect as it is encoded
		return appendField(nil, 1, appendField(nil, 1, []byte(arg)))
	case "config":
		return emit("test.config", config)
	case "emit":
		return emit(arg, "x")
	case "publish":
		return effect(2, appendField(nil, 1, []byte(arg)))
	case "put":
		key, value, _ := strings.Cut(arg, "=")
		return effect(3, appendField(appendField(nil, 1, []byte(key)), 2, []byte(value)))
	case "delete":
		return effect(4, appendField(nil, 1, []byte(arg)))
	case "timer":
		return effect(6, appendField(nil, 1, []byte(arg)))
	case "pass":
		return effect(11, appendField(nil, 1, cloudEvent("test.pass", arg)))
	case "fail":
		return appendField(nil, 1, appendField(nil, 2, appendField(nil, 3, []byte(arg))))
	case "large":
		n, _ := strconv.Atoi(arg)
		return emit("test.large", strings.Repeat("x", n))
	}
	return emit("test.unknown", mode)
}

// readState returns a value, growing its buffer once, or the code as text.
func readState(key string) string {
	buf := make([]byte, 4)
	n := stateGet(key, unsafe.Pointer(&buf[0]), int32(len(buf)))
	if n > int64(len(buf)) {
		buf = make([]byte, n)
		n = stateGet(key, unsafe.Pointer(&buf[0]), int32(len(buf)))
	}
	if n < 0 {
		return strconv.Itoa(int(n))
	}
	return "value " + string(buf[:n])
}

// scanState returns what one scan finds, or the result as text.
func scanState(prefix, after string, limit int, buf []byte) string {
	n := stateScan(prefix, after, int32(limit), unsafe.Pointer(unsafe.SliceData(buf)), int32(len(buf)))
	if n < 0 || int(n) > len(buf) {
		return strconv.Itoa(int(n))
	}
	var list []string
	for page := buf[:n]; len(page) > 0; {
		key, value := binary.LittleEndian.Uint32(page), binary.LittleEndian.Uint32(page[4:])
		list = append(list, string(page[8:8+key])+"="+string(page[8+key:8+key+value]))
		page = page[8+key+value:]
	}
	return strings.Join(list, " ")
}

//go:noinline
func recurse(n int) int {
	var pad [16]int
	pad[n%16] = n
	return recurse(n+1) + pad[(n+1)%16]
}

// emit returns a HandleResponse with one emit effect.
func emit(typ, data string) []byte { return effect(1, appendField(nil, 1, cloudEvent(typ, data))) }

func cloudEvent(typ, data string) []byte {
	e := appendField(nil, 3, []byte("1.0"))
	e = appendField(e, 4, []byte(typ))
	return appendField(e, 6, []byte(data))
}

// effect returns a HandleResponse with one effect of the kind.
func effect(kind int, body []byte) []byte {
	return appendField(nil, 1, appendField(nil, 1, appendField(nil, 1, appendField(nil, kind, body))))
}

func appendField(dst []byte, n int, b []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(n)<<3|2)
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

// field returns the last bytes field n of a message.
func field(b []byte, n uint64) (found []byte) {
	for len(b) > 0 {
		tag, k := binary.Uvarint(b)
		b = b[k:]
		v, k := binary.Uvarint(b)
		b = b[k:]
		switch tag & 7 {
		case 2:
			if tag>>3 == n {
				found = b[:v]
			}
			b = b[v:]
		case 1:
			b = b[8-k:]
		}
	}
	return found
}
