package mqtt

import (
	"encoding/binary"

	"tributary.io/gateway/resource"
	"tributary.io/gateway/store"
	proto "tributary.io/sdk-plugin/wire"
)

// storedField reads a number out of a record of the store: a version byte, then protobuf
// fields. A field that is written twice has its last value.
func storedField(record []byte, field int) (value uint64) {
	for r := proto.Read(record[1:], 0); r.Next(); {
		if r.Field() == field {
			value = r.Uint64()
		}
	}
	return value
}

// Fields of the records of a session and of a will.
const (
	storedClientID = 2 // of a session
	storedLeft     = 7 // of a session: when its connection ended
	storedDue      = 4 // of a will
)

// number is that of a client's stored session; 0 if there is none.
func (f *fixture) number(client string) (number uint64) {
	f.mem().Scan(store.Sess, "s", func(name string, value []byte, _ store.Revision) bool {
		for r := proto.Read(value[1:], 0); r.Next(); {
			if r.Field() == storedClientID && r.Text() == client {
				number = binary.BigEndian.Uint64([]byte(name[1:]))
			}
		}
		return true
	})
	return number
}

// queuePrefix begins the names of the entries of a session's queue.
func queuePrefix(number uint64) string {
	return string(binary.BigEndian.AppendUint64([]byte{'e'}, number))
}

// connections are all sessions, as an operator sees them.
func (f *fixture) connections() []resource.Connection {
	return f.server.sessions.Connections(func(*resource.Connection) bool { return true }, "", "", 1<<20)
}
