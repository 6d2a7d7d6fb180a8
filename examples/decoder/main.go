// Command decoder is a plugin that turns the shadow reports of EMQX Fleets
// devices into readings.
package main

import (
	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

var _ = sdk.Handle(decode)

func main() {}

func decode(r *sdk.Request) error {
	reported := r.JSON("state", "reported")
	celsius, ok := reported.Get("temperature").Float()
	if !ok {
		return sdk.Permanent("state.reported.temperature is not a number")
	}
	data := r.Writer().Object().Key("celsius").Float(celsius).
		Field("target", reported.Get("targetTemperature")).
		Field("humidity", reported.Get("humidity")).End().Bytes()
	r.Emit(event.Event{Type: "io.tributary.example.reading.v1", Subject: "temperature", DataContentType: "application/json", Data: data})
	return nil
}
