package conformance

import "github.com/xdg-go/scram"

// authChecks are about enhanced authentication, section 4.12 of MQTT 5.0.
func authChecks() []check {
	return []check{
		{"enhanced authentication", "", "3.15.2-1 4.12.0-2 4.12.0-5 3.2.0-1", enhanced},
		{"enhanced authentication that fails", "", "4.12.0-4 3.14.0-1 4.13.2-1", enhancedFails},
		{"re-authentication", "", "4.12.1-1 4.12.1-2 3.15.2-1", reauthentication},
		{"AUTH fits the Maximum Packet Size", "", "3.15.2-2 3.15.2-3", authFits},
	}
}

const method = "SCRAM-SHA-256"

// prover talks SCRAM for prover@provers.
func (r *run) prover(password string) *scram.ClientConversation {
	r.own()
	c, err := scram.SHA256.NewClient("prover@provers", password, "")
	if err != nil {
		r.Fatal(err)
	}
	return c.NewConversation()
}

func (r *run) step(talk *scram.ClientConversation, heard string) string {
	r.Helper()
	say, err := talk.Step(heard)
	if err != nil {
		r.Fatal(err)
	}
	return say
}

func authFrame(code byte, name, data string) []byte {
	return frame(AUTH<<4, code, props{{authMethod, name}, {authData, blob(data)}})
}

// begin sends CONNECT and answers the question that comes.
func (r *run) begin(talk *scram.ClientConversation, more ...prop) *peer {
	r.Helper()
	p := r.dial()
	for _, x := range more {
		if x.id == maximumPacketSize {
			p.limit = int(x.value.(uint32))
		}
	}
	list := append(props{{authMethod, method}, {authData, blob(r.step(talk, ""))}}, more...)
	p.send(r.frame(login{id: r.id("a"), props: list}))
	question := p.expect(AUTH)
	if question.code != 0x18 || question.get(authMethod) != method {
		r.Fatalf("%v", question)
	}
	p.send(authFrame(0x18, method, r.step(talk, question.get(authData).(string))))
	return p
}

func enhanced(r *run) {
	talk := r.prover(password)
	p := r.begin(talk)
	a := p.expect(CONNACK)
	if a.code != 0 || a.get(authMethod) != method {
		r.Fatalf("%v", a)
	}
	if r.step(talk, a.get(authData).(string)); !talk.Valid() {
		r.Fatal("the server did not prove itself")
	}
	p.quiet()
}

func enhancedFails(r *run) {
	p := r.begin(r.prover("wrong"))
	if a, err := p.next(); err == nil && (a.typ != CONNACK || a.code < 0x80) || err != nil && err != errEnd {
		r.Fatalf("%v, %v", a, err)
	}
	p.closed(0)
	// Anything but AUTH and DISCONNECT in between ends it, too.
	talk := r.prover(password)
	p = r.dial()
	p.send(r.frame(login{id: r.id("a"), props: props{{authMethod, method}, {authData, blob(r.step(talk, ""))}}}))
	p.expect(AUTH)
	p.send(r.publish(message{topic: r.topic("t"), payload: "x"}))
	p.closed(0)
}

func reauthentication(r *run) {
	p := r.begin(r.prover(password))
	p.expect(CONNACK)
	again := func(password string) *answer {
		talk := r.prover(password)
		p.send(authFrame(0x19, method, r.step(talk, "")))
		question := p.expect(AUTH)
		if question.code != 0x18 || question.get(authMethod) != method {
			r.Fatalf("%v", question)
		}
		p.send(authFrame(0x18, method, r.step(talk, question.get(authData).(string))))
		return p.mustNext()
	}
	if a := again(password); a.typ != AUTH || a.code != 0 || a.get(authMethod) != method {
		r.Fatalf("%v", a)
	}
	p.quiet()
	if a := again("wrong"); a.typ != DISCONNECT || a.code < 0x80 {
		r.Fatalf("%v", a)
	}
	p.closed(0)
	p = r.begin(r.prover(password))
	p.expect(CONNACK)
	p.send(authFrame(0x19, "another method", ""))
	p.closed(0)
}

// What is too large fails in check.
func authFits(r *run) {
	p := r.begin(r.prover(password), prop{maximumPacketSize, uint32(150)})
	if a := p.expect(CONNACK); a.code != 0 {
		r.Fatalf("%v", a)
	}
}
