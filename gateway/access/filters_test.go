package access

import (
	"slices"
	"testing"
)

func TestFill(t *testing.T) {
	p := Placeholders{Application: "demo", Device: "d1", ClientID: "#", Username: "a/b"}
	for _, c := range []struct {
		filters []string
		want    []string
	}{
		{[]string{"#", "a/+"}, []string{"#", "a/+"}},
		{[]string{"{application}/{device}/#"}, []string{"demo/d1/#"}},
		{[]string{"x/{clientid}", "y/{device}"}, []string{"y/d1"}}, // a client id "#" widens nothing
		{[]string{"{username}/#"}, nil},
		{[]string{"{other}/{device}", "{", "a}{device"}, []string{"{other}/d1", "{", "a}{device"}},
		{[]string{"{device}{device}"}, []string{"d1d1"}},
		{nil, nil},
	} {
		if got := p.Fill(c.filters); !slices.Equal(got, c.want) {
			t.Errorf("Fill(%q) = %q, want %q", c.filters, got, c.want)
		}
	}
	var nobody Placeholders
	if got := nobody.Fill([]string{"{device}/#"}); len(got) != 0 {
		t.Errorf("an empty value leaves %q", got)
	}
	plain := []string{"a", "b"}
	if got := p.Fill(plain); &got[0] != &plain[0] {
		t.Error("filters without placeholders were copied")
	}
}

func TestChangeTouches(t *testing.T) {
	g := &Grant{Application: "demo", Device: "d1", Principal: "device:demo/d1", Method: "apikey", Credential: "k1"}
	for _, c := range []struct {
		change Change
		want   bool
	}{
		{Change{}, true},
		{Change{Application: "demo"}, true},
		{Change{Application: "demo", Device: "d2"}, false},
		{Change{Principal: "device:demo/d1", Credential: "k1"}, true},
		{Change{Credential: "k2"}, false},
		{Change{Method: "apikey"}, true},
		{Change{Method: "password"}, false},
	} {
		if got := c.change.Touches(g); got != c.want {
			t.Errorf("%+v touches: %v", c.change, got)
		}
	}
}
