package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/store"
)

// caller sends an alert until it is acknowledged, through whatever kills the gateway.
func caller(at *atomic.Pointer[endpoint], external, topic, payload string) (tries int) {
	for {
		tries++
		c, err := open(at.Load().mqtt, packet.V5)
		if err != nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		err = c.write(&packet.Connect{Version: packet.V5, CleanStart: true, ClientID: external, Username: "sdk:partner-app:" + external,
			HasUsername: true,
			Password:    []byte(userHash(eixamSecret, external)), HasPassword: true},
			&packet.Publish{Topic: topic, Payload: []byte(payload), QoS: 1, ID: 1})
		for err == nil {
			var p packet.Packet
			if p, err = c.read(); err != nil {
				break
			}
			if ack, ok := p.(*packet.Ack); ok && ack.Code == 0 {
				c.nc.Close()
				return tries
			}
		}
		c.nc.Close()
		time.Sleep(20 * time.Millisecond)
	}
}

// The process is killed again and again amid escalations. Each channel of each contact
// and each delivery is ordered, always with the same key, for incidents that are in the
// log and for no others, and the snapshots of an incident are 1, 2, 3 and so on.
func TestEixamOverKills(t *testing.T) {
	const users = 12
	p := newSMSProvider(t)
	p.answer = func(o *order, n int) (int, string) {
		switch rand.IntN(5) {
		case 0:
			return 503, ""
		case 1:
			time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
		}
		return 201, `{"status":"sent"}`
	}
	g := eixam(t, p.URL, p.settings(), "[outbound]\nbackoff = \"20ms\"\nbackoff_max = \"200ms\"\n")
	ids := make([]string, users)
	for i := range users {
		ids[i] = fmt.Sprintf("11111111-1111-1111-1111-1111111111%02d", 20+i)
		g.asked("POST", "/v1/admin/apps/partner-app/users", fmt.Sprintf(`{"id":"%s","external_user_id":"u%d"}`, ids[i], i), 201, nil)
		for _, phone := range []string{"+34600000001", "+34600000002"} {
			g.asked("POST", "/v1/admin/apps/partner-app/users/"+ids[i]+"/contacts", `{"name":"C","phone":"`+phone+`"}`, 201, nil)
		}
	}
	var at atomic.Pointer[endpoint]
	move := func() { at.Store(&endpoint{g.out.address("mqtt.tcp"), g.out.address("http.rest")}) }
	move()
	var alerts sync.WaitGroup
	var tries atomic.Int64
	for i, id := range ids {
		alerts.Go(func() {
			time.Sleep(time.Duration(i) * 150 * time.Millisecond) // some escalate when others begin
			tries.Add(int64(caller(&at, fmt.Sprint("u", i), "sos/alerts/"+id, `{"timestamp":"2026-04-18T12:00:00Z"}`)))
		})
	}
	begun := make(chan struct{})
	go func() { alerts.Wait(); close(begun) }()
	kills := 0
	done := func() bool {
		select {
		case <-begun:
		default:
			return false
		}
		timers, _ := g.metric("tributary_timers_pending")
		calls, known := g.metric("tributary_outbound_pending")
		return known && timers == 0 && calls == 0
	}
	for end := time.Now().Add(3 * patience); kills < 12 || !done(); kills++ {
		if time.Now().After(end) {
			t.Fatalf("after %d kills it is not over", kills)
		}
		time.Sleep(time.Duration(100+rand.IntN(400)+20*kills) * time.Millisecond) // the random moment
		g.restart()
		move()
	}
	if status := g.stop(); status != 0 {
		t.Errorf("exit status %d\n%s", status, g.out.tail())
	}
	if q := g.stored(store.Quarantine("eixam")); len(q) > 0 {
		t.Errorf("%d events are in quarantine: %s", len(q), q[0].Data)
	}
	incidents := snapshots(t, g.stored(store.Events("eixam")))
	if len(incidents) != users {
		t.Errorf("%d incidents, want %d", len(incidents), users)
	}
	orders := p.perIncident()
	for id, list := range incidents {
		checkSnapshots(t, id, list)
		for _, path := range []string{"/sms", "/voice"} {
			if n := len(orders[id][path]); n != 2 {
				t.Errorf("incident %s: %d orders at %s, want one for each of 2 contacts: %v", id, n, path, orders[id][path])
			}
		}
		if n := len(orders[id]["/slack"]); n != 1 {
			t.Errorf("incident %s: %d deliveries to Slack, want 1", id, n)
		}
		delete(orders, id)
	}
	if len(orders) > 0 {
		t.Errorf("orders for incidents that nobody knows: %v", orders)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t.Logf("%d kills; %d alerts sent for %d incidents; %d requests to the provider", kills, tries.Load(), users, len(p.orders))
}

// perIncident counts what was ordered, by incident, path and key.
func (p *smsProvider) perIncident() map[string]map[string]map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := map[string]map[string]map[string]int{}
	for _, o := range p.orders {
		id, _, _ := strings.Cut(o.key, "/")
		if all[id] == nil {
			all[id] = map[string]map[string]int{}
		}
		if all[id][o.path] == nil {
			all[id][o.path] = map[string]int{}
		}
		all[id][o.path][o.key]++
	}
	return all
}

// checkSnapshots holds the events of one incident against what must follow on what.
func checkSnapshots(t *testing.T, id string, list []snapshot) {
	t.Helper()
	for i, s := range list {
		want := "sos.actuator_update"
		if i == 0 {
			want = "processed"
		}
		if s.Type != want || s.SnapshotVersion != i+1 || s.Actuators.SnapshotVersion != i+1 || s.Status != "active" {
			t.Errorf("incident %s: event %d is %s %s, version %d", id, i, s.Type, s.Status, s.SnapshotVersion)
		}
	}
	last := list[len(list)-1]
	if len(last.Actuators.Items) != 2 {
		t.Fatalf("incident %s: %+v", id, last)
	}
	for _, c := range last.Actuators.Items[0].Contacts {
		for _, ch := range c.Channels {
			if ch.Status != "sent" {
				t.Errorf("incident %s: the %s of %s is %s in the end", id, ch.Channel, c.ContactID, ch.Status)
			}
		}
	}
	if status := last.Actuators.Items[1].Status; status != "sent" {
		t.Errorf("incident %s: Slack is %s in the end", id, status)
	}
}
