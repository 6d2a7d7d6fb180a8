// A plugin that keeps files under the paths of their requests: POST keeps the body or
// replaces the file, PATCH appends to it, GET sends it, DELETE drops it. An upload to
// a path that ends in /never is not kept. It writes an event for each upload.
package main

import (
	"strings"
	"time"

	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

var _ = sdk.Handle(handle)

func main() {}

func handle(r *sdk.Request) error {
	path := r.Transport.Path
	up := r.Transport.Upload
	switch r.Transport.Method {
	case "GET":
		r.Do(&event.Reply{File: path, Headers: []event.Property{{Name: "Content-Type", Value: "text/x-test"}}})
		return nil
	case "DELETE":
		r.DropFile(path)
	case "POST", "PATCH":
		if up == nil {
			r.Reply(411, "there is no body")
			return nil
		}
		if !strings.HasSuffix(path, "/never") {
			r.Do(&event.KeepFile{Name: path, Upload: up.ID, Append: r.Transport.Method == "PATCH", TTL: ttl(r.Transport.Query)})
		}
		r.Emit(event.Event{Type: "test.cabinet", Subject: path, DataContentType: "text/plain",
			Data: []byte(up.SHA256 + " " + up.Name + " " + up.ContentType + " " + string(r.Event.Data))})
	}
	r.Reply(201, "")
	return nil
}

func ttl(query string) time.Duration {
	d, _ := time.ParseDuration(strings.TrimPrefix(query, "ttl="))
	return d
}
