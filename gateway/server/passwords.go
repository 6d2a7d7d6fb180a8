package server

import (
	"context"

	"tributary.io/gateway/registry"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// passwords lets the registry judge CONNECT packets. It knows no enhanced
// authentication, and its grants change with a restart only.
type passwords struct{ *registry.Registry }

func (passwords) Begin(context.Context, string, *stage.Credentials) (stage.Exchange, error) {
	return nil, &stage.Error{Code: 0x8C, Reason: "no authentication method is supported"}
}

func (passwords) Message(_ context.Context, g *stage.Grant, _ []event.Property) (*stage.Grant, error) {
	return g, nil
}

func (passwords) Authorize(context.Context, *stage.Grant, stage.Action, string, byte, bool) error {
	return nil
}

func (passwords) Renew(g *stage.Grant) (*stage.Grant, error) { return g, nil }
