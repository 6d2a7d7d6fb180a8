package e2e

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// The whole way of an SOS with clients that others wrote: a phone that is mosquitto, a
// contact that is curl, a provider that is an HTTP server.
func TestEixamMosquitto(t *testing.T) {
	sub, pub, curl := program(t, "mosquitto_sub"), program(t, "mosquitto_pub"), program(t, "curl")
	for _, version := range []string{"5", "311"} {
		t.Run(version, func(t *testing.T) {
			p := newSMSProvider(t)
			g := eixam(t, p.URL, strings.Replace(p.settings(), `escalate_seconds = "1"`, `escalate_seconds = "600"`, 1), "")
			login := []string{"-V", version, "-u", "sdk:partner-app:partner-user-123", "-P", userHash(eixamSecret, "partner-user-123"), "-q", "1"}
			events := background(t, g, sub, append(login, "-i", "eixam_partner-app_partner-user-123", "-t", "sos/events/"+eixamUser)...)
			eventually(t, "the phone is subscribed", func() bool {
				n, _ := g.metric("tributary_mqtt_subscriptions")
				return n == 1
			})
			alert := append(login, "-i", "beside", "-t", "sos/alerts/"+eixamUser, "-m",
				`{"timestamp":"2026-04-18T12:00:00Z","latitude":41.3851,"longitude":2.1734}`)
			foreground(t, g, pub, alert...)
			foreground(t, g, pub, alert...) // a repeat
			first := eixamEvent(t, events, "processed")
			if first.Status != "active" || first.SnapshotVersion != 1 || len(first.Actuators.Items) != 2 {
				t.Errorf("%+v", first)
			}
			message := p.ordered(t, "/sms")
			link, ok := strings.CutPrefix(message.body.Link, "https://sos.example")
			if !ok || message.body.To != "+34600000001" || !strings.HasPrefix(message.body.Text, "Ana needs help.") {
				t.Fatalf("%+v", message)
			}
			p.ordered(t, "/slack")
			at := "http://" + g.out.address("http.rest")
			shown := foregroundPlain(t, curl, "-sS", "-D", "-", at+link)
			if !strings.Contains(shown, `"latitude":41.3851`) || strings.Contains(shown, first.IncidentID) || !strings.Contains(shown, "ETag: ") &&
				!strings.Contains(shown, "Etag: ") {
				t.Errorf("the link shows %s", shown)
			}
			callback, _ := strings.CutPrefix(message.body.StatusCallback, "https://sos.example")
			if got := foregroundPlain(t, curl, "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-d", "MessageStatus=delivered",
				at+callback); got != "204" {
				t.Errorf("the provider's word is answered with %s", got)
			}
			if got := foregroundPlain(t, curl, "-sS", "-X", "POST", at+link+"/acknowledge"); !strings.Contains(got, `"acknowledged"`) {
				t.Errorf("the acknowledgement is answered with %s", got)
			}
			eixamEvent(t, events, "acknowledged")
			if got := foregroundPlain(t, curl, "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", at+link+"/acknowledge"); got != "200" {
				t.Errorf("the same contact once more: %s", got)
			}
			g.own("POST", "/v1/sdk/sos/cancel", "", http.StatusOK, nil)
			if last := eixamEvent(t, events, "cancelled"); last.IncidentID != first.IncidentID {
				t.Errorf("%+v", last)
			}
			if got := foregroundPlain(t, curl, "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", at+link+"/acknowledge"); got != "409" {
				t.Errorf("after the end: %s", got)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			for _, o := range p.orders {
				if o.path == "/voice" || o.body.To == "+34600000002" {
					t.Errorf("%s was ordered after the acknowledgement", o.key)
				}
			}
		})
	}
}

// eixamEvent is the next event of a type that the phone hears.
func eixamEvent(t *testing.T, lines <-chan string, typ string) (s snapshot) {
	t.Helper()
	if err := json.Unmarshal([]byte(nextLine(t, lines, `{"type":"`+typ+`"`)), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// foregroundPlain runs a program that is told all in its arguments.
func foregroundPlain(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("%s %q: %v", name, args, err)
	}
	return string(out)
}
