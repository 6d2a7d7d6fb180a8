package registry

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"testing"

	"tributary.io/gateway/resource"
	"tributary.io/sdk-plugin/event"
)

// The exchange of RFC 7677 section 3 comes out with our keys.
func TestScramVector(t *testing.T) {
	decode := func(s string) []byte {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	s, err := newScram([]byte("pencil"), decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
	if err != nil {
		t.Fatal(err)
	}
	const message = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	mac := func(key []byte) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(message))
		return h.Sum(nil)
	}
	proof := decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
	for i, b := range mac(s.storedKey) {
		proof[i] ^= b // what is left is the client key
	}
	if sum := sha256.Sum256(proof); !bytes.Equal(sum[:], s.storedKey) {
		t.Error("the client's proof does not fit the stored key")
	}
	if !bytes.Equal(mac(s.serverKey), decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")) {
		t.Error("the server's signature is another one")
	}
	if again, ok := parseScram(s.String()); !ok || again.String() != s.String() {
		t.Errorf("%s is read as %s", s, again)
	}
}

// Who asks cannot tell whether there is such a device, not even over a restart.
func TestScramTellsNothing(t *testing.T) {
	st := &memory{}
	r := open(t, Config{}, st)
	mustPut(t, r, r.NewDevice("plant", "d"))
	if _, _, err := r.AddCredential(resource.Owner{Application: "plant", Name: "d"},
		resource.NewCredential{Kind: resource.ScramCredential, Password: "p"}); err != nil {
		t.Fatal(err)
	}
	realSalt, _, _, realIterations, g, err := r.Scram("d@plant")
	if err != nil || g == nil || g.Device != "d" {
		t.Fatalf("%+v, %v", g, err)
	}
	seen := map[string]bool{}
	for _, name := range []string{"nobody@plant", "d@nowhere", "alice", "", "@", "d@plant@plant"} {
		salt, stored, server, iterations, g, err := r.Scram(name)
		if err != nil || g != nil || iterations != realIterations || len(salt) != len(realSalt) || len(stored) != sha256.Size ||
			len(server) != sha256.Size || seen[string(salt)] {
			t.Errorf("%q: %q %d %+v %v", name, salt, iterations, g, err)
		}
		seen[string(salt)] = true
		again, _, _, _, _, _ := open(t, Config{}, st).Scram(name)
		if !bytes.Equal(salt, again) {
			t.Errorf("%q has another salt after a restart", name)
		}
	}
	setDisabled(t, r, resource.Owner{Application: "plant", Name: "d"}, true)
	if salt, _, _, _, g, err := r.Scram("d@plant"); !bytes.Equal(salt, realSalt) || g != nil || codeOf(err) != event.NotAuthorized {
		t.Errorf("disabled: %q, %+v, %v", salt, g, err)
	}
}
