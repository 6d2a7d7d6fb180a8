// Package sdk is what the author of a plugin imports: a view on the event to
// handle, effects to answer with, and JSON in and out, all without allocation.
// It builds for GOOS=wasip1, where it speaks ABI.md with the gateway, and for
// every other platform, where Run calls a handler in a test. Plugins and
// examples import it; the gateway does not.
package sdk
