package sdk

import "tributary.io/sdk-plugin/event"

// Run calls a handler once as the gateway does, encoding and decoding included,
// on any platform. config is what gateway.toml would set; state holds the
// values that the handler may read, nil refuses reading. Log lines go to standard
// error. The gateway's checks of capabilities and of the emitted events are not
// made. See package vector for tests as data files.
func Run(h Handler, in event.Inbound, config map[string]string, state map[string][]byte) event.Result {
	var settings Writer
	settings.Object()
	for name, value := range config {
		settings.Key(name).String(value)
	}
	request := event.AppendRequest(nil, &in, in.Event.Time, settings.End().Bytes())
	r := Request{host: fake{state}}
	response, err := r.serve(h, request)
	clear(request) // a string that the handler kept is now seen to be wrong
	if err != nil {
		return event.Result{Failure: failure(err)}
	}
	result, err := event.ParseResponse(response)
	if err != nil {
		return event.Result{Failure: failure(err)}
	}
	return result
}

// fake is the host of a test.
type fake struct{ state map[string][]byte }

func (f fake) stateGet(key string, buf []byte) int64 {
	if f.state == nil {
		return stateRefused
	}
	value, ok := f.state[key]
	if !ok {
		return stateAbsent
	}
	if len(value) <= len(buf) {
		copy(buf, value)
	}
	return int64(len(value))
}

func (fake) log(level Level, message string) { println("plugin log, level", level, message) }
