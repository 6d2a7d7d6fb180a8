package main

import (
	"testing"

	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
	"tributary.io/sdk-plugin/vector"
)

func TestVectors(t *testing.T) {
	vector.Test(t, "testdata/*.json", func(c *vector.Case) event.Result {
		return sdk.Run(handle, c.Inbound, c.Config, c.State)
	})
}

// The gateway refuses settings that the manifest does not have. Where something else
// runs the plugin, no event is read in another way than was meant.
func TestImpossibleSettings(t *testing.T) {
	for setting, typ := range map[string]string{"dialect": event.TypePublish, "connection_events": event.TypeConnection} {
		in := event.Inbound{Event: event.Event{Type: typ, Application: "a", Device: "d", Data: []byte(`{"connected":true}`)},
			Transport: event.Transport{Topic: "t"}}
		res := sdk.Run(handle, in, map[string]string{setting: "azure"}, nil)
		if res.Failure == nil || res.Failure.Retryable || res.Failure.Code != event.ImplementationSpecificError {
			t.Errorf("%s: %+v", setting, res)
		}
	}
}
