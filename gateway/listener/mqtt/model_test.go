package mqtt

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/topic"
)

// Two clients do random things, and a model that knows only sets of filters says
// what each of them must have received after every step.
func TestTwoClientsAgainstModel(t *testing.T) {
	runs := 30
	if testing.Short() {
		runs = 5
	}
	for seed := range uint64(runs) {
		f := start(t, nil, nil)
		m := &model{r: rand.New(rand.NewPCG(seed, 9)), f: f, retained: map[string]string{}}
		for i := range m.peers {
			m.peers[i].name = fmt.Sprint("peer", i)
			m.connect(&m.peers[i], true)
		}
		for step := range 60 {
			m.step(step)
			for i := range m.peers {
				m.compare(&m.peers[i], fmt.Sprintf("seed %d step %d", seed, step))
			}
			if t.Failed() {
				return
			}
		}
	}
}

type model struct {
	r        *rand.Rand
	f        *fixture
	peers    [2]peer
	retained map[string]string
}

type peer struct {
	name   string
	client *client // nil while away
	subs   map[string]packet.Filter
	want   []string // in order, but for retained ones
}

func describe(topic, payload string, qos byte, retain bool) string {
	return fmt.Sprintf("%s %s q%d r%v", topic, payload, qos, retain)
}

func (m *model) connect(p *peer, clean bool) {
	if clean {
		p.subs, p.want = map[string]packet.Filter{}, nil
	}
	c, ack := m.f.kept(p.name, func(c *packet.Connect) { c.CleanStart = clean })
	if ack.SessionPresent == clean {
		m.f.t.Errorf("session present is %v", ack.SessionPresent)
	}
	p.client = c
}

func (m *model) step(step int) {
	p := &m.peers[m.r.IntN(2)]
	if p.client == nil {
		m.connect(p, m.r.IntN(4) == 0)
		return
	}
	switch m.r.IntN(10) {
	case 0:
		p.client.send(&packet.Disconnect{})
		p.client.ended(0)
		p.client = nil
	case 1, 2, 3:
		m.subscribe(p)
	case 4:
		filter := m.filter()
		p.client.send(&packet.Unsubscribe{ID: 1, Topics: []string{filter}})
		_, had := p.subs[filter]
		if got := expect[*packet.Unsuback](p.client); (got.Codes[0] == 0) != had {
			m.f.t.Errorf("UNSUBACK %#x for %s", got.Codes[0], filter)
		}
		delete(p.subs, filter)
	default:
		m.publish(p, step)
	}
}

func (m *model) filter() string {
	for {
		if f := randomFilter(m.r); f != "" && !strings.Contains(f, "$") {
			return f
		}
	}
}

func (m *model) subscribe(p *peer) {
	f := packet.Filter{Topic: m.filter(), QoS: byte(m.r.IntN(3)), NoLocal: m.r.IntN(4) == 0, RetainAsPublished: m.r.IntN(2) == 0,
		RetainHandling: byte(m.r.IntN(3))}
	_, had := p.subs[f.Topic]
	p.subs[f.Topic] = f
	p.client.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{f}})
	if got := expect[*packet.Suback](p.client); got.Codes[0] != f.QoS {
		m.f.t.Errorf("SUBACK %#x", got.Codes[0])
	}
	if f.RetainHandling == 2 || f.RetainHandling == 1 && had {
		return
	}
	for name, payload := range m.retained {
		if topic.Match(f.Topic, name) {
			p.want = append(p.want, describe(name, payload, min(1, f.QoS), true))
		}
	}
}

func (m *model) publish(p *peer, step int) {
	name := ""
	for name == "" || name[0] == '$' {
		name = randomTopic(m.r)
	}
	x := packet.Publish{Topic: name, Payload: fmt.Append(nil, step), QoS: 1, ID: 1, Retain: m.r.IntN(3) == 0}
	if x.Retain {
		if m.r.IntN(3) == 0 {
			x.Payload = nil
			delete(m.retained, name)
		} else {
			m.retained[name] = string(x.Payload)
		}
	}
	for i := range m.peers {
		q := &m.peers[i]
		wanted, qos, retain := false, byte(0), false
		for _, f := range q.subs {
			if topic.Match(f.Topic, name) && !(f.NoLocal && q == p) {
				wanted, qos, retain = true, max(qos, min(1, f.QoS)), retain || f.RetainAsPublished && x.Retain
			}
		}
		if wanted && (q.client != nil || qos > 0) {
			q.want = append(q.want, describe(name, string(x.Payload), qos, retain))
		}
	}
	p.client.send(&x)
	for { // its own copy may come before
		switch got := p.client.recv().(type) {
		case *packet.Ack:
			return
		case *packet.Publish:
			m.got(p, got)
		}
	}
}

func (m *model) got(p *peer, x *packet.Publish) {
	if x.ID > 0 {
		p.client.send(&packet.Ack{Type: packet.PUBACK, ID: x.ID})
	}
	text := describe(x.Topic, string(x.Payload), x.QoS, x.Retain)
	i := slices.Index(p.want, text)
	if i < 0 {
		m.f.t.Errorf("%s got %s; expected %q", p.name, text, p.want)
		return
	}
	p.want = slices.Delete(p.want, i, i+1)
}

// compare takes what is under way to a peer, and misses nothing after it.
func (m *model) compare(p *peer, when string) {
	if p.client == nil {
		return
	}
	for range 3 { // a SUBACK is sent when it is durable, a little before what follows it
		p.client.send(&packet.Pingreq{})
		for waiting := true; waiting; {
			switch got := p.client.recv().(type) {
			case *packet.Publish:
				m.got(p, got)
			case *packet.Pingresp:
				waiting = false
			default:
				m.f.t.Errorf("%s: got %T", when, got)
			}
		}
		if len(p.want) == 0 {
			break
		}
	}
	if len(p.want) > 0 {
		m.f.t.Errorf("%s: %s did not get %q", when, p.name, p.want)
	}
}

var levels = []string{"a", "b", "", "$x"}

func randomTopic(r *rand.Rand) string {
	list := make([]string, 1+r.IntN(4))
	for i := range list {
		list[i] = levels[r.IntN(len(levels))]
	}
	return strings.Join(list, "/")
}

func randomFilter(r *rand.Rand) string {
	list := strings.Split(randomTopic(r), "/")
	for i := range list {
		if r.IntN(3) == 0 {
			list[i] = "+"
		}
	}
	if r.IntN(3) == 0 {
		list[len(list)-1] = "#"
	}
	return strings.Join(list, "/")
}
