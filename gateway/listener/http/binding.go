package http

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// The media types of the JSON event format. sdk-go takes the one of a batch only as it stands
// here, without parameters.
const (
	mediaEvent = "application/cloudevents+json"
	mediaBatch = "application/cloudevents-batch+json"
)

// sentEvent is one CloudEvent as it was sent.
type sentEvent struct {
	event.Event
	contentType string
	payload     []byte
}

// bindingError says why a request is no CloudEvent.
type bindingError struct {
	status int
	index  int // of a batch
	batch  bool
	why    string
}

func (e *bindingError) Error() string { return e.why }

// readEvents reads the events of a request by the CloudEvents HTTP binding: structured, binary
// or batch mode.
func readEvents(h http.Header, body []byte, most int) ([]sentEvent, *bindingError) {
	contentType := h.Get("Content-Type")
	media, params, err := mime.ParseMediaType(contentType)
	media = strings.ToLower(media)
	if encoding := h.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return nil, &bindingError{status: http.StatusUnsupportedMediaType, why: "the body must not be compressed"}
	}
	switch {
	case strings.HasPrefix(media, "application/cloudevents"):
		charset, ok := params["charset"]
		if err != nil || ok && !strings.EqualFold(charset, "utf-8") || media != mediaEvent && media != mediaBatch {
			return nil, &bindingError{status: http.StatusUnsupportedMediaType,
				why: "the event format is none that is read here: send " + mediaEvent + " or " + mediaBatch + ", in UTF-8"}
		}
		if media == mediaBatch {
			return readBatch(body, most)
		}
		e := sentEvent{contentType: contentType, payload: body}
		if err := codec.ParseJSON(body, &e.Event); err != nil {
			return nil, &bindingError{status: http.StatusBadRequest, why: "the body is no CloudEvent: " + err.Error()}
		}
		return []sentEvent{e}, nil
	case h.Get("Ce-Specversion") == "" && h.Get("Ce-Type") == "" && h.Get("Ce-Id") == "":
		return nil, &bindingError{status: http.StatusUnsupportedMediaType, why: "this is no CloudEvent: send Content-Type " + mediaEvent +
			" or " + mediaBatch + ", or the headers ce-specversion, ce-id, ce-source and ce-type"}
	}
	return readBinary(h, contentType, body)
}

// readBinary reads an event in binary mode: attributes are headers with ce- before the name
// and a percent-encoded value, and datacontenttype is Content-Type.
func readBinary(h http.Header, contentType string, body []byte) ([]sentEvent, *bindingError) {
	bad := func(format string, args ...any) ([]sentEvent, *bindingError) {
		return nil, &bindingError{status: http.StatusBadRequest, why: fmt.Sprintf(format, args...)}
	}
	var attributes []event.Property
	for name, values := range h {
		name, is := strings.CutPrefix(strings.ToLower(name), "ce-")
		if !is {
			continue
		}
		if len(values) > 1 {
			return bad("the header ce-%s is there more than once", name)
		}
		if name == "datacontenttype" {
			return bad("the header ce-datacontenttype has no meaning: Content-Type says it")
		}
		value, err := url.PathUnescape(strings.Trim(values[0], " \t"))
		if err != nil || !utf8.ValidString(value) {
			return bad("the header ce-%s is no percent-encoded UTF-8", name)
		}
		attributes = append(attributes, event.Property{Name: name, Value: value})
	}
	if len(body) == 0 {
		body = nil
	}
	e := sentEvent{contentType: contentType, payload: body}
	is, err := codec.FromAttributes(attributes, contentType, body, &e.Event)
	if err != nil {
		return bad("the headers are no CloudEvent: %v", err)
	}
	if !is {
		return bad("an attribute is missing: send ce-specversion, ce-id, ce-source and ce-type")
	}
	return []sentEvent{e}, nil
}

// readBatch reads a JSON array of events.
func readBatch(body []byte, most int) ([]sentEvent, *bindingError) {
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return nil, &bindingError{status: http.StatusBadRequest, why: "a batch must be a JSON array of CloudEvents"}
	}
	var all []sentEvent
	for d.More() {
		if len(all) == most {
			return nil, &bindingError{status: http.StatusRequestEntityTooLarge,
				why: fmt.Sprintf("the batch has more than %d events; send several (max_batch_events)", most)}
		}
		var raw json.RawMessage
		err := d.Decode(&raw)
		e := sentEvent{contentType: mediaEvent, payload: raw}
		if err == nil {
			err = codec.ParseJSON(raw, &e.Event)
		}
		if err != nil {
			return nil, &bindingError{status: http.StatusBadRequest, index: len(all), batch: true,
				why: fmt.Sprintf("event %d is no CloudEvent: %v", len(all), err)}
		}
		all = append(all, e)
	}
	if _, err := d.Token(); err != nil || d.More() || len(bytes.TrimSpace(body[d.InputOffset():])) > 0 {
		return nil, &bindingError{status: http.StatusBadRequest, why: "the JSON of the batch is cut off, or something follows it"}
	}
	return all, nil
}
