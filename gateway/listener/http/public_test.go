package http

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// What a listener declares public is served without credentials, and nothing beside it.
func TestPublicPaths(t *testing.T) {
	auth := users()
	_, addr := start(t, auth, fakeRouter(func(in *event.Inbound) stage.Outcome {
		who := fmt.Sprintf("%s|%s|%s|%s", in.Event.Application, in.Event.Device, in.Event.Sender, in.Transport.Username)
		for _, p := range in.Transport.Properties {
			if p.Name == "authorization" {
				who += "|" + p.Value
			}
		}
		return stage.Outcome{Reply: &event.Reply{Payload: []byte(who)}}
	}), func(c *Config) { c.Application, c.Public = "fleet", []string{"/v1/public/", "/hook"} })
	for _, tt := range []struct {
		path, authorization string
		status              int
	}{
		{"/v1/public/a", "", 200},
		{"/v1/public/a/acknowledge", "", 200},
		{"/v1/public/", "", 200},
		{"/v1/public/a", "Bearer wrong", 200}, // nobody looks at it
		{"/hook", "", 200},
		{"/hook/a", "", 200},
		{"/hooks", "", 401},
		{"/v1/public", "", 401},
		{"/v1/publications", "", 401},
		{"/v1/private", "", 401},
		{"/v1/public/../private", "", 401},
		{"/v1/public/%2e%2E/private", "", 401},
		{"/v1/public/.%2e/private", "", 401},
		{"/v1/public//private", "", 401},
		{"//v1/public/a", "", 401},
		{"/v1/%70ublic/a", "", 401},
	} {
		header := ""
		if tt.authorization != "" {
			header = "Authorization: " + tt.authorization + "\r\n"
		}
		before := auth.asked.Load()
		resp, body := raw(t, addr, "POST "+tt.path+" HTTP/1.1\r\nHost: x\r\n"+header+"Content-Length: 0\r\nConnection: close\r\n\r\n")
		if resp.StatusCode != tt.status {
			t.Errorf("%s: %d %s, want %d", tt.path, resp.StatusCode, body, tt.status)
		}
		if tt.status == http.StatusOK && (body != "fleet|||" || auth.asked.Load() != before) {
			t.Errorf("%s: the plugin saw %s, credentials were judged %d times", tt.path, body, auth.asked.Load()-before)
		}
	}
	lost := Default()
	lost.Public = []string{"/v1/public/"}
	if err := lost.Validate(); err == nil || !strings.Contains(err.Error(), "set application") {
		t.Errorf("public paths of no application: %v", err)
	}
	lost.Application, lost.Public = "fleet", []string{"v1", "/a/../b"}
	if err := lost.Validate(); err == nil || strings.Count(err.Error(), "beginning of a path") != 2 {
		t.Errorf("public paths that are none: %v", err)
	}
}
