package main

import (
	"strings"
	"testing"
)

// A snapshot that is no newer than the last one of its incident is dropped (EX19 of the
// contract); other events carry none and are shown as they come.
func TestApply(t *testing.T) {
	p := &phone{seen: map[string]int{}}
	for _, tt := range []struct{ payload, want string }{
		{`{"type":"processed","incidentId":"a","status":"active","snapshotVersion":1,"actuators":{"items":[{"id":"slack","status":"scheduled"}]}}`,
			"processed: active, version 1, slack scheduled"},
		{`{"type":"sos.actuator_update","incidentId":"a","status":"active","snapshotVersion":4}`, "sos.actuator_update: active, version 4"},
		{`{"type":"sos.actuator_update","incidentId":"a","status":"active","snapshotVersion":4}`, ""},
		{`{"type":"sos.actuator_update","incidentId":"a","status":"active","snapshotVersion":3}`, ""},
		{`{"type":"cancelled","incidentId":"a","status":"cancelled"}`, "cancelled: cancelled"},
		{`{"type":"processed","incidentId":"b","status":"active","snapshotVersion":1}`, "processed: active, version 1"},
	} {
		if got, ok := p.apply([]byte(tt.payload)); got != tt.want || ok != (tt.want != "") {
			t.Errorf("%s is shown as %q, want %q", tt.payload, got, tt.want)
		}
	}
	if got, _ := p.apply([]byte("{")); !strings.HasPrefix(got, "no event: ") {
		t.Error(got)
	}
}

func TestClientID(t *testing.T) {
	if got := clientID("partner-app", "a:b/c é"); got != "eixam_partner-app_a_b_c__" {
		t.Error(got)
	}
	if got := clientID("a", strings.Repeat("x", 100)); len(got) != 64 {
		t.Error(got)
	}
}
