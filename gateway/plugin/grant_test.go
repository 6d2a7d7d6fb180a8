package plugin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

func TestScanState(t *testing.T) {
	p := load(t, testHost(t, testConfig()), goGuest(t, "modes"), everything())
	st := fakeState{"a": "0", "j/1": "one", "j/2": "", "j/3": strings.Repeat("x", 100), "k": "9"}
	for i := range 3000 {
		st[fmt.Sprintf("many/%05d", i)] = "v"
	}
	for i := range 3 {
		st[fmt.Sprint("large/", i)] = strings.Repeat("v", 250_000)
	}
	for _, c := range []struct{ scan, want string }{
		{"j/  0 4096", "j/1=one j/2= j/3=" + st["j/3"]},
		{"j/  2 4096", "j/1=one j/2="},
		{"j/ j/1 1 4096", "j/2="},
		{"j/ j/3 0 4096", ""},
		{"none  0 4096", ""},
		{"j/  0 30", "j/1=one j/2="}, // whole entries only
		{"j/ j/2 0 30", "111"},       // what the next one needs
		{"j/  0 0", "14"},
		{strings.Repeat("p", maxKeyBytes+1) + "  0 10", "-2"},
		{"j " + strings.Repeat("p", maxKeyBytes+1) + " 0 10", "-2"},
	} {
		res, err := p.Handle(context.Background(), 0, inbound("scan "+c.scan), testTime, st)
		if err != nil {
			t.Fatalf("%.30q: %v", c.scan, err)
		}
		if got := emitted(t, res); got != c.want {
			t.Errorf("%.30q: got %.40q, want %.40q", c.scan, got, c.want)
		}
	}
	for limit, scans := range map[string]string{
		"many/ 1": fmt.Sprint(maxScans), "many/ 2000": "3", // 2000 and 2000 and the 96 that are left
		"large/ 3": "23", // until they brought more than 16 MiB
	} {
		res, err := p.Handle(context.Background(), 0, inbound("scans "+limit), testTime, st)
		if err != nil || emitted(t, res) != scans {
			t.Errorf("limit %s: %+v, %v, want %s scans", limit, res, err, scans)
		}
	}
	var f *Fault
	if _, err := p.Handle(context.Background(), 0, inbound("scan broken  0 100"), testTime, st); !errors.Is(err, errStore) ||
		errors.As(err, &f) {
		t.Errorf("error of the store became %v", err)
	}
	none := load(t, testHost(t, testConfig()), goGuest(t, "modes"), Grant{Emit: []string{"*"}})
	for _, st := range []StateReader{st, nil} {
		if res, err := none.Handle(context.Background(), 0, inbound("scan j  0 100"), testTime, st); err != nil || emitted(t, res) != "-2" {
			t.Errorf("without a grant: %+v %v", res, err)
		}
	}
}

// What a plugin prints, logs or dies of while it judges credentials is kept nowhere.
func TestCredentialsStaySecret(t *testing.T) {
	var log logBuffer
	g := everything()
	g.Judge = Judge{Applications: []string{"a"}}
	p := load(t, logHost(t, testConfig(), &log), goGuest(t, "modes"), g)
	for _, mode := range []string{"logonce hunter2", "panic hunter2", "third hunter2", "fail hunter2"} {
		in := inbound(mode)
		in.Event.Type = event.TypeConnect
		in.Transport.Username = "hunter2"
		_, err := p.Handle(context.Background(), 0, in, testTime, nil)
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", mode, err)
		}
		if strings.HasPrefix(mode, "panic") != (err != nil) {
			t.Errorf("%s: %v", mode, err)
		}
	}
	if strings.Contains(log.String(), "hunter2") {
		t.Errorf("the log holds a secret:\n%s", log.String())
	}
	if got := ask(t, p, 0, "logonce back"); got != "back" || !strings.Contains(log.String(), "back") {
		t.Errorf("later lines are lost: %s", got)
	}
	raw := codec.AppendEffect(nil, &event.Allow{Application: "a", Device: "d"})
	in := inbound("raw " + string(raw))
	in.Event.Type = event.TypeConnect
	if res, err := p.Handle(context.Background(), 0, in, testTime, nil); err != nil || res.Failure != nil || len(res.Effects) != 1 {
		t.Errorf("a verdict: %+v, %v", res, err)
	}
}

func TestGrantOfLaterEffects(t *testing.T) {
	g := Grant{
		Timers: 1, Hosts: []string{"https://api.example", "https://*.sub.example", "http://10.0.0.1:8080"},
		Judge: Judge{Applications: []string{"a", "b"}, Publish: []string{"up/{device}/#", "shared"},
			Subscribe: []string{"down/+/{clientid}", "{username}"}},
	}
	if err := g.Validate(); err != nil {
		t.Fatal(err)
	}
	get := func(url string) *event.Call { return &event.Call{ID: "1", Method: "GET", URL: url} }
	head := func(name, value string) *event.Call {
		c := get("https://api.example/")
		c.Headers = []event.Property{{Name: name, Value: value}}
		return c
	}
	big := get("https://api.example/")
	big.Body = make([]byte, maxCallBody+1)
	slow := get("https://api.example/")
	slow.Timeout = maxCallTimeout + 1
	allow := func(app, device string, publish, subscribe []string) *event.Allow {
		return &event.Allow{Application: app, Device: device, Publish: publish, Subscribe: subscribe}
	}
	at := time.Unix(1000, 0)
	for i, c := range []struct {
		effect  event.Effect
		refused string // part of what is said; "": nothing
	}{
		{&event.SetTimer{Key: "k", At: at}, ""},
		{&event.SetTimer{At: at}, "timer key of 0 bytes"},
		{&event.SetTimer{Key: "a\x00b", At: at}, "control characters"},
		{&event.SetTimer{Key: "a\uFDD0b", At: at}, "noncharacters"},
		{&event.SetTimer{Key: "k"}, "out of range"},
		{&event.SetTimer{Key: "k", At: time.Unix(maxTimerTime, 0)}, "out of range"},
		{&event.SetTimer{Key: "k", At: time.Unix(maxTimerTime-1, 0)}, ""},
		{&event.SetTimer{Key: "k", At: at, Data: make([]byte, maxTimerData+1)}, "bytes of data"},
		{&event.CancelTimer{Key: "k"}, ""},
		{&event.CancelTimer{}, "timer key of 0 bytes"},

		{get("https://api.example/a?b"), ""},
		{get("https://x.sub.example/"), ""},
		{get("http://10.0.0.1:8080"), ""},
		{get("http://api.example/"), "grant.hosts"},
		{get("https://other.example/secret"), "to https://other.example, which"},
		{get("https://api.example@evil.example/"), "its URL"},
		{get("file:///etc/passwd"), "https://"},
		{get("https://evil.example\\@api.example/"), "its URL"},
		{get("https://api.example/" + strings.Repeat("x", 9000)), "its URL has"},
		{&event.Call{Method: "GET", URL: "https://api.example"}, "its id"},
		{&event.Call{ID: "\U0001FFFE", Method: "GET", URL: "https://api.example"}, "its id"},
		{&event.Call{ID: "1", Method: "GET /", URL: "https://api.example"}, "its method"},
		{&event.Call{ID: "1", Method: "CONNECT", URL: "https://api.example"}, "its method"},
		{big, "its body"}, {slow, "its timeout"},
		{head("X-Api-Key", "secret"), ""},
		{head("Idempotency-Key", "mine"), ""},
		{head("Host", "other.example"), "gateway's own"},
		{head("transfer-encoding", "chunked"), "gateway's own"},
		{head("X", "a\r\nHost: b"), `header "X"`},
		{head("X Y", "a"), `header "X Y"`},
		{head("X", strings.Repeat("x", maxHeaderBytes)), "more than"},

		{allow("a", "d1", nil, nil), ""},
		{allow("", "d1", nil, nil), ""}, // the event's
		{allow("b", "d1", []string{"up/d1/x", "up/d1/#", "up/d1/+/y", "shared"}, []string{"down/x/client", "down/+/client", "user"}), ""},
		{allow("c", "d1", nil, nil), "grant.judge.applications"},
		{allow("*", "d1", nil, nil), "grant.judge.applications"},
		{allow("a", "", nil, nil), "without a name"},
		{allow("a", "a\nb", nil, nil), "without a name"},
		{allow("a", "a\uFFFF", nil, nil), "without a name"},
		{&event.Allow{Identity: "somebody"}, ""},
		{&event.Allow{Identity: "somebody", Publish: []string{"shared"}}, "no device"},
		{allow("a", "d1", []string{"#"}, nil), "grant.judge.publish"},
		{allow("a", "d1", []string{"up/d2/x"}, nil), "grant.judge.publish"},
		{allow("a", "d1", []string{"up/+/x"}, nil), "grant.judge.publish"},
		{allow("a", "+", []string{"up/x/y"}, nil), "grant.judge.publish"},
		{allow("a", "d/#", []string{"up/d/x"}, nil), "grant.judge.publish"},
		{allow("a", "d1", nil, []string{"down/x/other"}), "grant.judge.subscribe"},
		{allow("a", "d1", nil, []string{"down/#"}), "grant.judge.subscribe"},
		{allow("a", "d1", nil, []string{"a#"}), "no topic filter"},
		{&event.Deny{Reason: "no"}, ""},
		{&event.Deny{Code: event.BadUserNameOrPassword, Name: "E_SDK-1"}, ""},
		{&event.Deny{Code: event.QuotaExceeded}, ""},
		{&event.Deny{Code: event.TopicNameInvalid}, "plugin p refused credentials with the code 0x90, which is none for that"},
		{&event.Deny{Code: 1}, "plugin p refused credentials with the code 0x1, which is none for that"},
		{&event.Deny{Name: "wrong password"}, "plugin p named a refusal with something else than 1 to 64 of A-Z, a-z, 0-9, _ and -"},
	} {
		in := &event.Inbound{Event: event.Event{Type: event.TypeConnect, Application: "a"}, Transport: event.Transport{ClientID: "client",
			Username: "user"}}
		v := g.check(in, []event.Effect{c.effect})
		text := ""
		if v != nil {
			text = v.failure("p", false).Message
		}
		if (v == nil) != (c.refused == "") || !strings.Contains(text, c.refused) || strings.Contains(text, "secret") || len(text) > 500 {
			t.Errorf("%d: %T: %q, want %q", i, c.effect, text, c.refused)
		}
		if _, verdict := c.effect.(*event.Allow); verdict {
			if v := g.check(inbound("x"), []event.Effect{c.effect}); v == nil {
				t.Errorf("%d: a verdict on a message", i)
			}
		}
		var none Grant
		if v := none.check(in, []event.Effect{c.effect}); v == nil || v.key == "" && c.refused == "" {
			t.Errorf("%d: %T without a grant: %+v", i, c.effect, v)
		}
	}
}

// A publish effect holds only what a packet can carry.
func TestGrantOfPublish(t *testing.T) {
	g := Grant{Publish: []string{"#"}}
	long := strings.Repeat("x", 65_536)
	property := func(name, value string) []event.Property {
		return []event.Property{{Name: "a", Value: "b"}, {Name: name, Value: value}}
	}
	for i, c := range []struct {
		effect  event.Publish
		refused string
	}{
		{event.Publish{ContentType: long[:65_535], ResponseTopic: long[:65_535], Correlation: []byte(long[:65_535]),
			Properties: property(long[:65_535], "\t")}, ""},
		{event.Publish{ContentType: long}, "a content type of 65536 bytes"},
		{event.Publish{ContentType: "a\x00"}, "a content type"},
		{event.Publish{ResponseTopic: long}, "response topic"},
		{event.Publish{ResponseTopic: "a/#"}, "response topic"},
		{event.Publish{Correlation: []byte(long)}, "correlation data of 65536 bytes"},
		{event.Publish{Properties: property(long, "")}, "a user property's name of 65536 bytes"},
		{event.Publish{Properties: property("n", long)}, "a user property of 65536 bytes"},
		{event.Publish{Properties: property("n", "\x00")}, "a user property of 1 bytes"},
	} {
		c.effect.Topics = []string{"t"}
		text := ""
		if v := g.check(inbound("x"), []event.Effect{&c.effect}); v != nil {
			text = v.failure("p", false).Message
		}
		if (text == "") != (c.refused == "") || !strings.Contains(text, c.refused) || len(text) > 500 {
			t.Errorf("%d: %q, want %q", i, text, c.refused)
		}
	}
}

func TestGrantValidate(t *testing.T) {
	for want, g := range map[string]Grant{
		"timers":             {Timers: -1},
		"hosts":              {Hosts: []string{"example.com"}},
		"private_networks":   {PrivateNetworks: []string{"10.0.0.1/8"}},
		"judge.applications": {Judge: Judge{Applications: []string{"A"}}},
		"judge.publish":      {Judge: Judge{Publish: []string{"a#"}}},
		"judge.subscribe":    {Judge: Judge{Subscribe: []string{""}}},
	} {
		if err := g.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// A plugin that wants more than it has is told the lines to add.
func TestMissingLater(t *testing.T) {
	w := Wants{Timers: 5, Hosts: []string{"https://a.example", "https://*.b.example"}, Judge: Judge{Applications: []string{"demo"},
		Publish: []string{"{device}/#"}}}
	g := Grant{Hosts: []string{"https://*.example"}}
	got := strings.Join(g.missing(w.Grant()), "\n")
	if want := "timers = 5\njudge.applications = [\"demo\"]\njudge.publish = [\"{device}/#\"]"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	g = Grant{Timers: 5, Hosts: []string{"https://*"}, Judge: Judge{Applications: []string{"*"}, Publish: []string{"#"}}}
	if got := g.missing(w.Grant()); got != nil {
		t.Errorf("all is granted, but: %q", got)
	}
}
