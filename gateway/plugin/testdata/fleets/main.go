// The guest of the benchmarks: it decodes the shadow report of an EMQX Fleets
// device and emits a reading, with the SDK as a plugin author would.
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
	target, _ := reported.Get("targetTemperature").Float()
	version, _ := r.JSON("version").Int()
	data := r.Writer().Object().Key("celsius").Float(celsius).Key("target").Float(target).Key("version").Int(version).End().Bytes()
	r.Emit(event.Event{Type: "test.reading", Subject: "temperature", DataContentType: "application/json", Data: data})
	return nil
}
