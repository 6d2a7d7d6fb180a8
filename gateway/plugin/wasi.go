package plugin

import (
	"crypto/sha256"
	"encoding/binary"
)

// This file is the part of wasi_snapshot_preview1 that a pure function may
// have: a clock that stands at the event's time, random numbers that follow
// from the event's id, and captured output. Every other function exists, so
// that language runtimes start, and answers that there is no such file. Unlike
// wazero's own implementation it bounds the work of each call, proc_exit leaves
// the instance restorable, and nothing in it can block.

// WASI error numbers.
const (
	wasiOK     = 0
	wasiBadFD  = 8
	wasiFault  = 21
	wasiInval  = 28
	wasiNotSup = 58
)

const (
	maxVectors       = 1024 // of one fd_write or poll_oneoff
	randomChunk      = 64 << 10
	subscriptionSize = 48
	eventSize        = 32
)

// wasiFunctions is the whole of wasi_snapshot_preview1.
func wasiFunctions() []hostFunc {
	none, badFD, notSup := answer(wasiOK), answer(wasiBadFD), answer(wasiNotSup)
	return []hostFunc{
		{"args_get", "ii", "i", none},
		{"args_sizes_get", "ii", "i", zeroSizes},
		{"environ_get", "ii", "i", none},
		{"environ_sizes_get", "ii", "i", zeroSizes},
		{"clock_res_get", "ii", "i", clockRes},
		{"clock_time_get", "iIi", "i", clockTime},
		{"fd_advise", "iIIi", "i", badFD},
		{"fd_allocate", "iII", "i", badFD},
		{"fd_close", "i", "i", badFD},
		{"fd_datasync", "i", "i", badFD},
		{"fd_fdstat_get", "ii", "i", fdStat},
		{"fd_fdstat_set_flags", "ii", "i", notSup},
		{"fd_fdstat_set_rights", "iII", "i", badFD},
		{"fd_filestat_get", "ii", "i", fdFileStat},
		{"fd_filestat_set_size", "iI", "i", badFD},
		{"fd_filestat_set_times", "iIIi", "i", badFD},
		{"fd_pread", "iiiIi", "i", badFD},
		{"fd_prestat_dir_name", "iii", "i", badFD},
		{"fd_prestat_get", "ii", "i", badFD},
		{"fd_pwrite", "iiiIi", "i", badFD},
		{"fd_read", "iiii", "i", fdRead},
		{"fd_readdir", "iiiIi", "i", badFD},
		{"fd_renumber", "ii", "i", badFD},
		{"fd_seek", "iIii", "i", badFD},
		{"fd_sync", "i", "i", badFD},
		{"fd_tell", "ii", "i", badFD},
		{"fd_write", "iiii", "i", fdWrite},
		{"path_create_directory", "iii", "i", badFD},
		{"path_filestat_get", "iiiii", "i", badFD},
		{"path_filestat_set_times", "iiiiIIi", "i", badFD},
		{"path_link", "iiiiiii", "i", badFD},
		{"path_open", "iiiiiIIii", "i", badFD},
		{"path_readlink", "iiiiii", "i", badFD},
		{"path_remove_directory", "iii", "i", badFD},
		{"path_rename", "iiiiii", "i", badFD},
		{"path_symlink", "iiiii", "i", badFD},
		{"path_unlink_file", "iii", "i", badFD},
		{"poll_oneoff", "iiii", "i", pollOneoff},
		{"proc_exit", "i", "", func(_ *instance, stack []uint64) { panic(exitError(stack[0])) }},
		{"proc_raise", "i", "i", notSup},
		{"random_get", "ii", "i", randomGet},
		{"sched_yield", "", "i", none},
		{"sock_accept", "iii", "i", badFD},
		{"sock_recv", "iiiiii", "i", badFD},
		{"sock_send", "iiiii", "i", badFD},
		{"sock_shutdown", "ii", "i", badFD},
	}
}

func answer(errno uint64) func(*instance, []uint64) {
	return func(_ *instance, stack []uint64) { stack[0] = errno }
}

// put writes a result to the guest and answers OK or that the pointer is bad.
func put[T uint32 | uint64](in *instance, stack []uint64, ptr uint64, v T) {
	var ok bool
	switch v := any(v).(type) {
	case uint32:
		ok = in.mem.WriteUint32Le(uint32(ptr), v)
	case uint64:
		ok = in.mem.WriteUint64Le(uint32(ptr), v)
	}
	stack[0] = wasiOK
	if !ok {
		stack[0] = wasiFault
	}
}

func zeroSizes(in *instance, stack []uint64) {
	if !in.mem.WriteUint32Le(uint32(stack[0]), 0) {
		stack[0] = wasiFault
		return
	}
	put(in, stack, stack[1], uint32(0))
}

// The clocks that the guest has.
const clockRealtime, clockMonotonic = 0, 1

func clockRes(in *instance, stack []uint64) {
	if uint32(stack[0]) > clockMonotonic {
		stack[0] = wasiNotSup
		return
	}
	put(in, stack, stack[1], uint64(1000))
}

// clockTime is clock_time_get(id, precision, result). The wall clock stands at
// the event's time, moved only by the guest's own sleeping. The monotonic clock
// also moves by a microsecond with every look at it, so that a loop which waits
// for it ends; it never goes back.
func clockTime(in *instance, stack []uint64) {
	switch uint32(stack[0]) {
	case clockRealtime:
		put(in, stack, stack[2], uint64(in.call.wall))
	case clockMonotonic:
		in.monotonic += 1000
		put(in, stack, stack[2], uint64(in.monotonic))
	default:
		stack[0] = wasiNotSup
	}
}

// isStdio says whether fd is standard input, output or error.
func isStdio(fd uint64) bool { return uint32(fd) <= 2 }

const fileTypeCharacter, rightRead, rightWrite = 2, 1 << 1, 1 << 6

func fdStat(in *instance, stack []uint64) {
	if !isStdio(stack[0]) {
		stack[0] = wasiBadFD
		return
	}
	var stat [24]byte
	stat[0] = fileTypeCharacter
	stat[8] = rightWrite
	if uint32(stack[0]) == 0 {
		stat[8] = rightRead
	}
	writeBytes(in, stack, stack[1], stat[:])
}

func fdFileStat(in *instance, stack []uint64) {
	if !isStdio(stack[0]) {
		stack[0] = wasiBadFD
		return
	}
	var stat [64]byte
	stat[16] = fileTypeCharacter
	writeBytes(in, stack, stack[1], stat[:])
}

func writeBytes(in *instance, stack []uint64, ptr uint64, b []byte) {
	stack[0] = wasiOK
	if !in.mem.Write(uint32(ptr), b) {
		stack[0] = wasiFault
	}
}

// fdRead is fd_read(fd, iovs, iovs_len, nread): standard input is empty.
func fdRead(in *instance, stack []uint64) {
	if uint32(stack[0]) != 0 {
		stack[0] = wasiBadFD
		return
	}
	put(in, stack, stack[3], uint32(0))
}

// fdWrite is fd_write(fd, iovs, iovs_len, nwritten). Output beyond the cap of
// the event is dropped and reported as written: a guest that fails because its
// error message was too long would hide the message.
func fdWrite(in *instance, stack []uint64) {
	fd, vectors, count := uint32(stack[0]), uint32(stack[1]), uint32(stack[2])
	if fd != 1 && fd != 2 {
		stack[0] = wasiBadFD
		return
	}
	if count > maxVectors {
		stack[0] = wasiInval
		return
	}
	in.pay(int(count) * vectorFuel)
	var total uint32
	for i := range count {
		at, ok1 := in.mem.ReadUint32Le(vectors + 8*i)
		n, ok2 := in.mem.ReadUint32Le(vectors + 8*i + 4)
		text, ok3 := in.mem.Read(at, n)
		if !ok1 || !ok2 || !ok3 {
			stack[0] = wasiFault
			return
		}
		room := in.p.host.cfg.LogBytes - len(in.call.output)
		in.call.output = append(in.call.output, text[:min(len(text), room)]...)
		total += n
	}
	put(in, stack, stack[3], total)
}

// randomGet is random_get(buf, len).
func randomGet(in *instance, stack []uint64) {
	b, ok := in.mem.Read(uint32(stack[0]), uint32(stack[1]))
	if !ok {
		stack[0] = wasiFault
		return
	}
	if !in.call.seeded {
		in.call.seeded = true
		in.random.Seed(sha256.Sum256([]byte(in.call.seed)))
	}
	for len(b) > 0 {
		chunk := b[:min(len(b), randomChunk)]
		in.pay(len(chunk) * randomFuel)
		_, _ = in.random.Read(chunk) // never fails
		b = b[len(chunk):]
	}
	stack[0] = wasiOK
}

// pollOneoff is poll_oneoff(in, out, count, nevents). Standard streams are
// always ready. When only clocks are asked for, the clocks jump to the earliest
// and it fires at once: sleeping costs no time.
func pollOneoff(in *instance, stack []uint64) {
	subs, out, count := uint32(stack[0]), uint32(stack[1]), uint32(stack[2])
	if count == 0 || count > maxVectors {
		stack[0] = wasiInval
		return
	}
	in.pay(int(count) * vectorFuel)
	from, ok1 := in.mem.Read(subs, count*subscriptionSize)
	to, ok2 := in.mem.Read(out, count*eventSize)
	if !ok1 || !ok2 {
		stack[0] = wasiFault
		return
	}
	var events uint32
	wait, sleeper := int64(-1), -1
	fire := func(sub []byte, errno byte) {
		ev := to[events*eventSize:][:eventSize]
		clear(ev)
		copy(ev, sub[:8]) // user data
		ev[8], ev[10] = errno, sub[8]
		events++
	}
	// If the guest gave overlapping buffers, events may be written over subscriptions that were
	// not read yet. That harms only the guest.
	for i := range int(count) {
		sub := from[i*subscriptionSize:][:subscriptionSize]
		switch {
		case sub[8] != 0 && isStdio(uint64(binary.LittleEndian.Uint32(sub[16:]))):
			fire(sub, wasiOK)
		case sub[8] != 0:
			fire(sub, wasiBadFD)
		default:
			if d := in.sleepTime(sub); sleeper < 0 || d < wait {
				wait, sleeper = d, i
			}
		}
	}
	if events == 0 {
		in.call.wall += wait
		in.monotonic += wait
		fire(from[sleeper*subscriptionSize:][:subscriptionSize], wasiOK)
	}
	put(in, stack, stack[3], events)
}

// sleepTime returns how long a clock subscription waits, in nanoseconds.
func (in *instance) sleepTime(sub []byte) int64 {
	const absolute, longest = 1, 1 << 50 // 13 days: no guest sleeps longer in one go
	d := min(binary.LittleEndian.Uint64(sub[24:]), 1<<63-1)
	if sub[40]&absolute == 0 {
		return int64(min(d, longest))
	}
	now := in.monotonic
	if binary.LittleEndian.Uint32(sub[16:]) == clockRealtime {
		now = in.call.wall
	}
	return min(max(int64(d)-now, 0), longest)
}
