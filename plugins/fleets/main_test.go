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
