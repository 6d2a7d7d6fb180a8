package main

import (
	"strconv"
	"strings"
	"time"

	"tributary.io/sdk-plugin/event"
)

// What actuators do are HTTP calls to the operator's providers. The id of a call names
// the part of the incident that it is for: <incident>/sms/<contact>,
// <incident>/voice/<contact>, <incident>/slack/<attempt>, <incident>/webhook/<attempt>.
// It is the Idempotency-Key, too, so that a provider that hears it twice, after a crash
// of the gateway, does it once.

// nextChannel tries the next channel of the contacts: of each in the order of priority
// the text message, then the voice call. What cannot be tried does not hold up the rest.
func (inc *incident) nextChannel(r *call) {
	it := inc.item(contactsActuator)
	if it == nil {
		return
	}
	for {
		at := inc.step / 2
		if at >= len(it.contacts) {
			return
		}
		c, ch := &it.contacts[at], &it.contacts[at].channels[inc.step%2]
		inc.step++
		if ch.status != scheduled || ch.asked {
			continue
		}
		if setting(r, ch.name+"_url") == "" {
			inc.set(r, it, &ch.status, failed)
			continue
		}
		ch.asked = true
		inc.orderCall(r, ch.name, c)
		wait := time.Duration(number(r, "escalate_seconds", 60, 1, 86400)) * time.Second
		r.SetTimer(stepTimer(inc.id), r.Now.Add(wait), nil)
		return
	}
}

// orderCall orders a text message or a voice call to a contact, with the public link that
// is its own.
func (inc *incident) orderCall(r *call, channel string, c *contact) {
	id := inc.id + "/" + channel + "/" + c.id
	base := strings.TrimSuffix(setting(r, "public_url"), "/")
	token := derived(r, "link/"+inc.id+"/"+c.id)
	r.Put(linkKey(token), []byte(inc.id+"/"+c.id), inc.kept(r))
	link := base + "/v1/public/sos/" + token
	who := "Somebody"
	if u, ok := loadUser(r, inc.user); ok {
		if u.unfold(); u.name != "" {
			who = u.name
		}
	}
	w := r.Writer()
	w.Object().Key("channel").String(channel).Key("to").String(c.phone).Key("name").String(c.name)
	w.Key("text").String(who + " needs help. See where and say that you take care: " + link)
	w.Key("link").String(link).Key("incidentId").String(inc.id).Key("contactId").String(c.id)
	w.Key("statusCallback").String(base + "/v1/public/actuations/" + escape(id) + "/" + derived(r, "actuation/"+id))
	inc.order(r, id, setting(r, channel+"_url"), setting(r, channel+"_authorization"), w.End().Bytes())
}

// deliver tells Slack or the webhook; the last of the item's deliveries is the attempt.
func (inc *incident) deliver(r *call, it *item) {
	d := &it.deliveries[len(it.deliveries)-1]
	if d.status != scheduled || d.asked {
		return
	}
	url := setting(r, it.kind+"_url")
	if url == "" {
		d.problem, d.failed = "no address is set for it", r.Now.UnixMilli()
		inc.set(r, it, &d.status, failed)
		return
	}
	d.asked = true
	w := r.Writer()
	authorization := ""
	if it.kind == slackActuator {
		w.Object().Key("text").String("SOS of user " + inc.external + " of app " + inc.app + ", " + stamp(inc.occurred) + inc.where()).End()
	} else {
		authorization = setting(r, "webhook_authorization")
		inc.write(w.Object().Key("incident"))
		w.End()
	}
	inc.order(r, inc.id+"/"+it.kind+"/"+strconv.FormatInt(d.attempt, 10), url, authorization, w.Bytes())
}

func (inc *incident) where() string {
	if inc.position == nil {
		return ", position unknown"
	}
	return ", at " + inc.position.latitude + "," + inc.position.longitude
}

func (inc *incident) order(r *call, id, url, authorization string, body []byte) {
	headers := []event.Property{{Name: "Content-Type", Value: "application/json"}, {Name: "Idempotency-Key", Value: id}}
	if authorization != "" {
		headers = append(headers, event.Property{Name: "Authorization", Value: authorization})
	}
	r.Call(event.Call{ID: id, Method: "POST", URL: url, Headers: headers, Body: body})
}

// response takes what became of a call.
func response(r *call) error {
	status, problem := r.Status()
	switch {
	case status >= 200 && status < 300:
		word, given := r.JSON("status").String()
		if word = alias(word); !given || word == unknown {
			word = ""
		}
		return progress(r, r.Event.Subject, word, "")
	case status != 0:
		return progress(r, r.Event.Subject, failed, "the provider answered "+strconv.Itoa(status))
	}
	return progress(r, r.Event.Subject, failed, "no answer: "+problem)
}

// progress notes how far a call has come; an empty status is that of an order that was
// taken.
func progress(r *call, id, status, problem string) error {
	incidentID, rest, _ := strings.Cut(id, "/")
	kind, part, _ := strings.Cut(rest, "/")
	inc, ok := loadIncident(r, incidentID)
	if !ok {
		return nil
	}
	if kind == "sms" || kind == "voice" {
		inc.contactProgress(r, kind, part, status)
	} else {
		inc.deliveryProgress(r, kind, part, status, problem)
	}
	if inc.changed {
		inc.finish(r)
	}
	return nil
}

// contactProgress notes how far a message or call to a contact has come. Once it failed
// the next channel is tried at once.
func (inc *incident) contactProgress(r *call, kind, contact, status string) {
	it := inc.item(contactsActuator)
	if it == nil {
		return
	}
	if status == "" {
		status = sent
	}
	for i := range it.contacts {
		for j := range it.contacts[i].channels {
			ch := &it.contacts[i].channels[j]
			if it.contacts[i].id != contact || ch.name != kind || !inc.set(r, it, &ch.status, status) {
				continue
			}
			if status == failed && inc.status == active && inc.step == 2*i+j+1 {
				inc.nextChannel(r)
			}
		}
	}
}

// deliveryProgress notes how far a delivery to Slack or the webhook has come. One that
// failed is tried again later, while the incident lasts.
func (inc *incident) deliveryProgress(r *call, kind, attempt, status, problem string) {
	it := inc.item(kind)
	n, err := strconv.Atoi(attempt)
	if it == nil || err != nil || n < 1 || n > len(it.deliveries) {
		return
	}
	if status == "" {
		status = delivered
	}
	d := &it.deliveries[n-1]
	if !inc.set(r, it, &d.status, status) {
		return
	}
	switch status {
	case delivered:
		d.delivered = r.Now.UnixMilli()
	case failed:
		d.failed, d.problem = r.Now.UnixMilli(), problem
		if most := int(number(r, "delivery_attempts", 3, 1, 10)); n == len(it.deliveries) && n < most && inc.open() {
			it.deliveries = append(it.deliveries, delivery{attempt: int64(n + 1), status: scheduled})
			r.SetTimer(retryTimer(inc.id, kind), r.Now.Add(30*time.Second<<(n-1)), nil)
		}
	}
}
