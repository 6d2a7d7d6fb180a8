package main

import (
	"encoding/json"
	"testing"
	"time"

	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

// FuzzReading hands the plugin any payload as an alert: it is refused with a rule, or it
// opens an incident whose events are JSON, and the reading that the log gets is the
// client's own but for the names that it must not say.
func FuzzReading(f *testing.F) {
	for _, s := range []string{`{"timestamp":"2026-01-01T00:00:00Z","latitude":41.3,"longitude":2.1,"altitude":1e2,"mobileBattery":7,"deviceBattery":{"rawValue":1,"range":"ok"}}`,
		`{"occurredAt":"2026-01-01T00:00:00.1+02:00","userId":"x","mobileCoverage":{"networkType":"4g","isConnected":true,"signalStrength":-7}}`,
		`{"timestamp":"2026-01-01T00:00:00Z","timestamp":"x"}`, `{"timestamp":"\u0032026-01-01T00:00:00Z","deviceId":"hw"}`, `{}`, `[]`, `{"timestamp":""}`, `{"timestamp":"2026"}`, `{`} {
		f.Add([]byte(s))
	}
	const u = "11111111-1111-1111-1111-111111111111"
	state := map[string][]byte{"user/" + u: []byte("a\nu\n{}"),
		"app/a":       []byte("active\n{\"actuators\":[\"slack\"]}"),
		"device/a/hw": []byte(`{"id":"d","owner":"` + u + `"}`)}
	f.Fuzz(func(t *testing.T, payload []byte) {
		in := event.Inbound{Transport: event.Transport{Protocol: "mqtt", Topic: "sos/alerts/" + u},
			Event: event.Event{ID: "1", Source: "/x", Type: event.TypePublish, Application: "eixam", Device: u, Sender: u, Data: payload,
				Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}}
		res := sdk.Run(handle, in, map[string]string{"link_secret": "s"}, state)
		if res.Failure != nil {
			if res.Failure.Message == "" || res.Failure.Retryable {
				t.Errorf("%+v", res.Failure)
			}
			return
		}
		told := 0
		for _, effect := range res.Effects {
			switch e := effect.(type) {
			case *event.Emit:
				var data struct{ Reported map[string]json.RawMessage }
				if err := json.Unmarshal(e.Event.Data, &data); err != nil {
					t.Errorf("%v: %s", err, e.Event.Data)
				}
				for _, name := range []string{"userId", "originalDeviceId", "reportingDeviceId"} {
					if data.Reported[name] != nil {
						t.Errorf("%s is passed on: %s", name, e.Event.Data)
					}
				}
			case *event.Publish:
				told++
				if !json.Valid(e.Payload) {
					t.Errorf("no JSON: %s", e.Payload)
				}
			}
		}
		if told != 1 {
			t.Errorf("%d messages about an alert", told)
		}
	})
}
