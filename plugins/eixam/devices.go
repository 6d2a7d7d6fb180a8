package main

import (
	"time"

	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

// device is a beacon or tracker that a user paired with its phone.
type device struct {
	id, app, hardware, owner string
	firmware, model          string
	paired                   string // RFC 3339, as the client said it
	created, updated         int64
}

// maxDevices bounds the devices of a user.
const maxDevices = 32

func loadDevice(r *call, app, hardware string) (d device, ok bool) {
	if !validHardware(hardware) {
		return d, false
	}
	text, ok := r.State(deviceKey(app, hardware))
	if !ok {
		return d, false
	}
	v := r.Parse(text)
	d.app, d.hardware = app, hardware
	d.id, _ = v.Get("id").String()
	d.owner, _ = v.Get("owner").String()
	d.firmware, _ = v.Get("firmware").String()
	d.model, _ = v.Get("model").String()
	d.paired, _ = v.Get("paired").String()
	d.created, _ = v.Get("created").Int()
	d.updated, _ = v.Get("updated").Int()
	return d, true
}

func (d *device) store(r *call) {
	w := r.Writer()
	w.Object().Key("id").String(d.id).Key("owner").String(d.owner).Key("firmware").String(d.firmware).Key("model").String(d.model)
	w.Key("paired").String(d.paired).Key("created").Int(d.created).Key("updated").Int(d.updated).End()
	r.Put(deviceKey(d.app, d.hardware), w.Bytes(), 0)
}

func (d *device) write(w *sdk.Writer) {
	w.Object().Key("id").String(d.id).Key("hardware_id").String(d.hardware).Key("firmware_version").String(d.firmware)
	w.Key("hardware_model").String(d.model).Key("paired_at")
	if d.paired == "" {
		w.Null()
	} else {
		w.String(d.paired)
	}
	writeStamp(w, "created_at", d.created)
	writeStamp(w, "updated_at", d.updated)
	w.End()
}

// devicesPath answers /v1/sdk/devices….
func devicesPath(r *call, u *user, parts []string) error {
	method := r.Transport.Method
	switch {
	case len(parts) == 0 && method == "GET":
		return listDevices(r, u)
	case len(parts) == 0 && method == "POST":
		return pairDevice(r, u)
	case len(parts) == 0:
		return wrongMethod(r, "GET, POST")
	case len(parts) > 1:
		return nothingHere(r)
	case method == "DELETE":
		return unpairDevice(r, u, parts[0])
	}
	return wrongMethod(r, "DELETE")
}

func listDevices(r *call, u *user) error {
	w := r.Writer()
	w.Object().Key("devices").Array()
	for _, hardware := range r.Scan(devicesKey(u.id, ""), "") {
		if d, ok := loadDevice(r, u.app, string(hardware)); ok {
			d.write(w)
		}
	}
	return answer(r, 200, w.End().End().Bytes())
}

// pairDevice stores a device under its hardware id. One that somebody else paired stays
// that one's: else a hardware id that is read off a beacon would be enough to take its
// alerts away.
func pairDevice(r *call, u *user) error {
	v, ok := body(r)
	if !ok {
		return nil
	}
	hardware, _ := v.Get("hardware_id").String()
	if !validHardware(hardware) {
		return fail(r, 400, codeBadPayload, "hardware_id must be a text of 1 to 128 bytes")
	}
	d, found := loadDevice(r, u.app, hardware)
	switch {
	case found && d.owner != u.id:
		return fail(r, 409, codeConflict, "another user paired this device; that one has to remove it first")
	case !found && countKeys(r, devicesKey(u.id, "")) >= maxDevices:
		return fail(r, 409, codeConflict, "a user may pair 32 devices; remove one first")
	case !found:
		d = device{id: newUUID(r, "device"), app: u.app, hardware: hardware, owner: u.id, created: r.Now.UnixMilli()}
	}
	for _, f := range [...]struct {
		name string
		to   *string
	}{{"firmware_version", &d.firmware}, {"hardware_model", &d.model}, {"paired_at", &d.paired}} {
		m := given(v, f.name)
		if !m.Exists() {
			continue
		}
		text, ok := m.String()
		if !ok || len(text) > 128 || !printable(text) {
			return fail(r, 400, codeBadPayload, f.name+" must be a text of at most 128 bytes")
		}
		*f.to = text
	}
	if at := new(time.Time); d.paired != "" && at.UnmarshalText([]byte(d.paired)) != nil {
		return fail(r, 400, codeBadPayload, "paired_at must be a time in RFC 3339")
	}
	u.ensure(r)
	d.updated = r.Now.UnixMilli()
	d.store(r)
	r.Put(devicesKey(u.id, d.id), []byte(hardware), 0)
	w := r.Writer()
	d.write(w.Object().Key("device"))
	return answer(r, 200, w.End().Bytes())
}

func unpairDevice(r *call, u *user, id string) error {
	hardware, ok := r.State(devicesKey(u.id, id))
	if !ok {
		return fail(r, 404, codeNotFound, "the user has no such device")
	}
	r.Delete(devicesKey(u.id, id))
	r.Delete(deviceKey(u.app, string(hardware)))
	r.Do(&event.Reply{Code: 204})
	return nil
}

// countKeys counts keys with a prefix.
func countKeys(r *call, prefix string) (n int) {
	for range r.Scan(prefix, "") {
		n++
	}
	return n
}
