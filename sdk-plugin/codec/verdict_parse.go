package codec

import (
	"math"

	"tributary.io/sdk-plugin/event"
	"tributary.io/sdk-plugin/wire"
)

func parseAllow(b []byte) (*event.Allow, error) {
	a := new(event.Allow)
	r := wire.Read(b, fields(7, 4, 5))
	for r.Next() {
		switch r.Field() {
		case 1:
			a.Identity = r.Text()
		case 2:
			a.Application = r.Text()
		case 3:
			a.Device = r.Text()
		case 4:
			a.Publish = append(a.Publish, r.Text())
		case 5:
			a.Subscribe = append(a.Subscribe, r.Text())
		case 6:
			a.Expires = r.Time()
		case 7:
			a.Once = r.Bool()
		default:
			r.Fail(errUnknown)
		}
	}
	return a, r.Err()
}

func parseDeny(b []byte) (*event.Deny, error) {
	d := new(event.Deny)
	r := wire.Read(b, fields(3))
	for r.Next() {
		switch r.Field() {
		case 1:
			d.Reason = r.Text()
		case 2:
			d.Code = event.Code(r.Uint(math.MaxUint32))
		case 3:
			d.Name = r.Text()
		default:
			r.Fail(errUnknown)
		}
	}
	return d, r.Err()
}
