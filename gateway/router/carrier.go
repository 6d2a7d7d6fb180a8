package router

import (
	"sync"

	"tributary.io/gateway/stage"
)

// maxCarriers bounds how many devices behind gateways are remembered.
const maxCarriers = 1 << 17

// carriers remembers which gateway last spoke for a device. It is a hint for
// commands: after a restart the registry's list of gateways serves instead.
type carriers struct {
	mu  sync.Mutex
	via map[deviceKey]string
}

func (c *carriers) note(device deviceKey, gateway string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.via[device] == gateway {
		return
	}
	if c.via == nil {
		c.via = map[deviceKey]string{}
	}
	if len(c.via) >= maxCarriers {
		for k := range c.via {
			delete(c.via, k)
			break
		}
	}
	c.via[device] = gateway
}

func (c *carriers) last(device deviceKey) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.via[device]
}

// carrier names the connected device that a command for device goes to: the
// device itself, the gateway that last spoke for it, or any gateway of it; when
// none is connected, the first of these that has a persistent session.
func (r *Router) carrier(application, device string) string {
	last := r.carriers.last(deviceKey{application, device})
	candidates := []string{device}
	if last != "" && r.registry.Trusts(application, last, device) {
		candidates = append(candidates, last)
	}
	candidates = append(candidates, r.registry.Gateways(application, device)...)
	best, reach := device, stage.NoDevice
	for _, c := range candidates {
		if d := r.down.Reach(application, c); d > reach {
			best, reach = c, d
		}
	}
	return best
}
