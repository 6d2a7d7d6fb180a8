package sdk

import (
	"encoding/binary"
	"maps"
	"slices"
	"strings"

	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// Run calls a handler once as the gateway does, encoding and decoding included,
// on any platform. config is what gateway.toml would set; state holds the
// values that the handler may read, as many as the gateway allows for one event;
// nil refuses reading. Log lines go to standard error. The gateway's checks of
// capabilities and of the emitted events are not made. See package vector for
// tests as data files.
func Run(h Handler, in event.Inbound, config map[string]string, state map[string][]byte) event.Result {
	var settings Writer
	settings.Object()
	for name, value := range config {
		settings.Key(name).String(value)
	}
	request := codec.AppendRequest(nil, &in, in.Event.Time, settings.End().Bytes())
	r := Request{host: newFake(state)}
	response, err := r.serve(h, request)
	clear(request) // a string that the handler kept is now seen to be wrong
	if err != nil {
		return event.Result{Failure: failure(err)}
	}
	result, err := codec.ParseResponse(response)
	if err != nil {
		return event.Result{Failure: failure(err)}
	}
	return result
}

// fake is the host of a test. It allows one event to read as much as the gateway does.
type fake struct {
	state          map[string][]byte
	read           map[string]bool // keys by stateGet
	bytes          int             // of their values, and of what stateScan found
	scans, scanned int             // calls of stateScan and their keys
}

func newFake(state map[string][]byte) *fake { return &fake{state: state, read: map[string]bool{}} }

const (
	maxReads, maxReadBytes = 4096, 16 << 20
	maxScans, maxScanned   = 64, 4096
)

func (f *fake) stateGet(key string, buf []byte) int64 {
	value, ok := f.state[key]
	if !f.read[key] {
		f.read[key] = true
		f.bytes += len(value)
	}
	if f.state == nil || len(f.read) > maxReads || f.bytes > maxReadBytes {
		return stateRefused
	}
	if !ok {
		return stateAbsent
	}
	if len(value) <= len(buf) {
		copy(buf, value)
	}
	return int64(len(value))
}

func (f *fake) stateScan(prefix, after string, limit int32, buf []byte) int64 {
	if f.state == nil || f.scans == maxScans || f.scanned == maxScanned || f.bytes > maxReadBytes {
		return stateRefused
	}
	f.scans++
	limit = min(limit, int32(maxScanned-f.scanned))
	n := 0
	for _, key := range slices.Sorted(maps.Keys(f.state)) {
		if !strings.HasPrefix(key, prefix) || after != "" && key <= after {
			continue
		}
		size := entryHeader + len(key) + len(f.state[key])
		if limit == 0 || size > len(buf)-n {
			if n == 0 {
				return int64(size)
			}
			break
		}
		entry := binary.LittleEndian.AppendUint32(buf[n:n], uint32(len(key)))
		entry = binary.LittleEndian.AppendUint32(entry, uint32(len(f.state[key])))
		_ = append(append(entry, key...), f.state[key]...)
		n += size
		f.bytes += size
		limit--
		f.scanned++
	}
	return int64(n)
}

func (*fake) log(level Level, message string) { println("plugin log, level", level, message) }
