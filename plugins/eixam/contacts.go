package main

import (
	"slices"
	"strconv"
	"unicode/utf8"

	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

// person is an emergency contact of a user.
type person struct {
	id, name, phone, email string
	priority               int64
}

// maxContacts bounds the contacts of a user.
const maxContacts = 16

// loadContacts returns the contacts of a user in the order in which they are notified.
func loadContacts(r *call, user string) (list []person) {
	text, ok := r.State(contactsKey(user))
	if !ok {
		return nil
	}
	for v := range r.Parse(text).Elements() {
		var p person
		p.id, _ = v.Get("id").String()
		p.name, _ = v.Get("name").String()
		p.phone, _ = v.Get("phone").String()
		p.email, _ = v.Get("email").String()
		p.priority, _ = v.Get("priority").Int()
		list = append(list, p)
	}
	return list
}

func storeContacts(r *call, user string, list []person) {
	slices.SortStableFunc(list, func(a, b person) int { return int(a.priority - b.priority) })
	w := r.Writer()
	w.Array()
	for _, p := range list {
		p.write(w)
	}
	r.Put(contactsKey(user), w.End().Bytes(), 0)
}

func (p *person) write(w *sdk.Writer) {
	w.Object().Key("id").String(p.id).Key("name").String(p.name).Key("phone").String(p.phone).Key("email").String(p.email)
	w.Key("priority").Int(p.priority).End()
}

// contactsPath answers /v1/sdk/contacts….
func contactsPath(r *call, u *user, parts []string) error {
	method := r.Transport.Method
	if len(parts) > 1 {
		return nothingHere(r)
	}
	list := loadContacts(r, u.id)
	if len(parts) == 0 {
		switch method {
		case "GET":
			w := r.Writer()
			w.Object().Key("contacts").Array()
			for i := range list {
				list[i].write(w)
			}
			return answer(r, 200, w.End().End().Bytes())
		case "POST":
			return addContact(r, u, list)
		}
		return wrongMethod(r, "GET, POST")
	}
	at := slices.IndexFunc(list, func(p person) bool { return p.id == parts[0] })
	switch {
	case method != "PUT" && method != "DELETE":
		return wrongMethod(r, "PUT, DELETE")
	case at < 0:
		return fail(r, 404, codeNotFound, "the user has no such contact")
	case method == "DELETE":
		storeContacts(r, u.id, slices.Delete(list, at, at+1))
		r.Do(&event.Reply{Code: 204})
		return nil
	}
	p := list[at]
	if !p.read(r) {
		return nil
	}
	list[at] = p
	storeContacts(r, u.id, list)
	return answerContact(r, 200, &p)
}

func addContact(r *call, u *user, list []person) error {
	p := person{id: newUUID(r, "contact"), priority: 1}
	for _, other := range list {
		p.priority = max(p.priority, other.priority+1)
	}
	p.priority = min(p.priority, maxPriority)
	switch {
	case !p.read(r):
		return nil
	case len(list) >= maxContacts:
		return fail(r, 409, codeConflict, "a user may have "+strconv.Itoa(maxContacts)+" contacts; remove one first")
	}
	u.ensure(r)
	storeContacts(r, u.id, append(list, p))
	return answerContact(r, 201, &p)
}

const maxPriority = 1000

// read takes what the request says of a contact; what it leaves out stays. It answers
// itself where that cannot be.
func (p *person) read(r *call) bool {
	v, ok := body(r)
	if !ok {
		return false
	}
	for _, f := range []field{{"name", &p.name, 120, printable}, {"phone", &p.phone, 16, validPhone}, {"email", &p.email, 254, validEmail}} {
		if !readField(r, v, f) {
			return false
		}
	}
	if m := given(v, "priority"); m.Exists() {
		if p.priority, ok = m.Int(); !ok || p.priority < 1 || p.priority > maxPriority {
			fail(r, 400, codeBadPayload, "priority must be a whole number from 1 to 1000")
			return false
		}
	}
	if p.name == "" || p.phone == "" {
		fail(r, 400, codeBadPayload, "a contact needs a name and a phone number, such as +34600000000")
		return false
	}
	return true
}

// readField sets a field from a member of an object, if it is there; "" clears it. It
// answers itself where the value cannot be.
func readField(r *call, v sdk.Value, f field) bool {
	m := v.Get(f.name)
	if !m.Exists() {
		return true
	}
	text, ok := m.String()
	if !ok || utf8.RuneCountInString(text) > f.most || text != "" && !f.valid(text) {
		fail(r, 400, codeBadPayload, f.name+" is no text that it can be, of at most "+strconv.Itoa(f.most)+" characters")
		return false
	}
	*f.value = text
	return true
}

func answerContact(r *call, status int, p *person) error {
	w := r.Writer()
	p.write(w.Object().Key("contact"))
	return answer(r, status, w.End().Bytes())
}
