package auth

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/xdg-go/scram"

	"tributary.io/gateway/access"
	"tributary.io/sdk-plugin/event"
)

// prove runs an exchange with a client of the library and returns what the
// client saw.
func prove(t *testing.T, chain *Chain, user, password string) (g *access.Grant, first string, err error) {
	t.Helper()
	c, err := scram.SHA256.NewClient(user, password, "")
	if err != nil {
		t.Fatal(err)
	}
	talk := c.NewConversation()
	e, err := chain.Begin(t.Context(), "SCRAM-SHA-256", client("", ""))
	if err != nil {
		t.Fatal(err)
	}
	said, answer := "", []byte(nil)
	for step := 0; g == nil; step++ {
		if said, err = talk.Step(string(answer)); err != nil {
			t.Fatal(err)
		}
		if answer, g, err = e.Next([]byte(said)); err != nil {
			return nil, first, err
		}
		if step == 0 {
			first = string(answer)
		}
	}
	if _, err := talk.Step(string(answer)); err != nil || !talk.Valid() {
		t.Errorf("the client does not believe the server: %v", err)
	}
	return g, first, nil
}

func TestScram(t *testing.T) {
	w := newWorld(t, Default(), nil)
	chain := w.chain("scram")
	g, _, err := prove(t, chain, "d1@demo", "right")
	if err != nil || g.Device != "d1" || g.Method != "scram" || g.Names.Username != "d1@demo" {
		t.Fatalf("%+v, %v", g, err)
	}
	_, wrong, err1 := prove(t, chain, "d1@demo", "wrong")
	_, unknown, err2 := prove(t, chain, "nobody@demo", "wrong")
	if code(err1) != event.BadUserNameOrPassword || err1.Error() != err2.Error() {
		t.Errorf("wrong: %v, unknown: %v", err1, err2)
	}
	if !alike(wrong, unknown) {
		t.Errorf("a wrong password gets %q, an unknown user %q", wrong, unknown)
	}
	_, again, _ := prove(t, chain, "nobody@demo", "wrong")
	if saltOf(unknown) != saltOf(again) {
		t.Error("an unknown user has another salt each time")
	}
	if _, _, err := prove(t, chain, "off@demo", "right"); code(err) != event.NotAuthorized {
		t.Errorf("disabled: %v", err)
	}
	if _, _, err := prove(t, chain, "off@demo", "wrong"); code(err) != event.BadUserNameOrPassword {
		t.Errorf("disabled, wrong password: %v", err)
	}
	w.dir.down = errDown
	if _, _, err := prove(t, chain, "d1@demo", "right"); code(err) != event.ServerUnavailable {
		t.Errorf("when nobody can tell: %v", err)
	}
	if _, err := chain.Connect(t.Context(), client("d1@demo", "right")); code(err) != event.BadUserNameOrPassword {
		t.Errorf("a plain password: %v", err)
	}
	if _, err := chain.Begin(t.Context(), "SCRAM-SHA-1", client("", "")); code(err) != event.BadAuthenticationMethod {
		t.Errorf("another mechanism: %v", err)
	}
}

func saltOf(first string) string { return strings.Split(first, ",")[1] }

// alike reports whether two server-first messages look the same to a stranger.
func alike(a, b string) bool {
	return len(a) == len(b) && a[strings.LastIndex(a, ",i="):] == b[strings.LastIndex(b, ",i="):]
}

// The exchange of RFC 7677 section 3, as far as the server's nonce allows: the
// test's client computes the proof as the RFC does, over what the server said.
func TestScramVector(t *testing.T) {
	w := newWorld(t, Default(), nil)
	e, err := w.chain("scram").Begin(t.Context(), "SCRAM-SHA-256", client("", ""))
	if err != nil {
		t.Fatal(err)
	}
	const nonce = "rOprNGfwEbeRWgbNEkqO"
	first, _, err := e.Next([]byte("n,,n=user,r=" + nonce))
	if err != nil || !strings.HasPrefix(string(first), "r="+nonce) || !strings.HasSuffix(string(first), ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096") {
		t.Fatalf("%q, %v", first, err)
	}
	c, err := scram.SHA256.NewClient("user", "pencil", "")
	if err != nil {
		t.Fatal(err)
	}
	talk := c.WithNonceGenerator(func() string { return nonce }).NewConversation()
	if said, err := talk.Step(""); err != nil || said != "n,,n=user,r="+nonce {
		t.Fatalf("%q, %v", said, err)
	}
	final, err := talk.Step(string(first))
	if err != nil {
		t.Fatal(err)
	}
	answer, g, err := e.Next([]byte(final))
	if err != nil || g == nil {
		t.Fatal(err)
	}
	if _, err := talk.Step(string(answer)); err != nil || !talk.Valid() {
		t.Errorf("%q: %v", answer, err)
	}
	// What was heard is worth nothing, neither here nor in another exchange.
	if _, _, err := e.Next([]byte(final)); code(err) != event.BadUserNameOrPassword {
		t.Errorf("the same exchange again: %v", err)
	}
	replay, _ := w.chain("scram").Begin(t.Context(), "SCRAM-SHA-256", client("", ""))
	if _, _, err := replay.Next([]byte("n,,n=user,r=" + nonce)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := replay.Next([]byte(final)); code(err) != event.BadUserNameOrPassword {
		t.Errorf("replayed: %v", err)
	}
}

func TestScramRefusesWhatItMust(t *testing.T) {
	w := newWorld(t, Default(), nil)
	chain := w.chain("scram")
	for name, message := range map[string]string{
		"channel binding":         "p=tls-unique,,n=d1@demo,r=abc",
		"for somebody else":       "n,a=alice,n=d1@demo,r=abc",
		"extension":               "n,,m=x,n=d1@demo,r=abc",
		"bad encoding of a name":  "n,,n=d1=2Xdemo,r=abc",
		"no nonce":                "n,,n=d1@demo",
		"longer than it may be":   "n,,n=d1@demo,r=" + strings.Repeat("a", maxScram),
		"the final message first": "c=biws,r=abc,p=" + base64.StdEncoding.EncodeToString(make([]byte, 32)),
		"empty":                   "",
	} {
		e, _ := chain.Begin(t.Context(), "SCRAM-SHA-256", client("", ""))
		if answer, g, err := e.Next([]byte(message)); code(err) != event.BadUserNameOrPassword || g != nil || answer != nil {
			t.Errorf("%s: %q, %+v, %v", name, answer, g, err)
		}
	}
	// If the CONNECT has a user name, the exchange has to prove that one.
	e, _ := chain.Begin(t.Context(), "SCRAM-SHA-256", client("alice", ""))
	if _, _, err := e.Next([]byte("n,,n=d1@demo,r=abc")); code(err) != event.BadUserNameOrPassword {
		t.Errorf("another user name: %v", err)
	}
}

// No message, whole or cut, gets in or breaks the exchange.
func FuzzScram(f *testing.F) {
	f.Add("n,,n=d1@demo,r=abc", "c=biws,r=abc,p=AAAA")
	f.Add("y,,n=,r=", "")
	f.Fuzz(func(t *testing.T, first, final string) {
		w := newWorld(t, Default(), nil)
		chain := w.chain("scram")
		for cut := 0; cut <= len(first); cut += max(1, len(first)/8) {
			e, _ := chain.Begin(t.Context(), "SCRAM-SHA-256", client("", ""))
			for _, message := range []string{first[:cut], final} {
				if _, g, err := e.Next([]byte(message)); g != nil || err != nil && code(err) != event.BadUserNameOrPassword {
					t.Fatalf("%q: %+v, %v", message, g, err)
				}
			}
		}
	})
}
