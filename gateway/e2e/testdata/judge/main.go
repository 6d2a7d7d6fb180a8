// Command judge is a plugin for tests that judges connections by their password:
// "open sesame" is right, for the device that the user name names.
package main

import (
	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

var _ = sdk.Handle(handle)

func main() {}

func handle(r *sdk.Request) error {
	if r.Event.Type != event.TypeConnect {
		return nil
	}
	password, _ := r.JSON("password").String()
	switch password {
	case "open sesame":
		r.Allow(event.Allow{Identity: "judged", Device: r.Transport.Username, Publish: []string{"from-" + r.Transport.Username}})
	case "trouble":
		return sdk.Permanent("this is no verdict")
	default:
		r.Deny("no")
	}
	return nil
}
