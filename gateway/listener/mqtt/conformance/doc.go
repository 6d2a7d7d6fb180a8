// Package conformance proves from outside that an MQTT server keeps the normative
// statements of MQTT 3.1.1 and 5.0 (Appendix B of each). It holds tests only, and a
// codec of its own that knows nothing of the gateway's, so that the two cannot be
// wrong together.
//
// testdata/statements-*.tsv lists every statement: its number, who can violate it,
// a few words, and the checks that look at it, or why nothing can be seen.
//
// The tests run against a gateway in their own process. With
// TRIBUTARY_CONFORMANCE_ADDRESS=host:port they run against any other server, and
// leave out what needs this gateway's settings (serve_test.go shows those).
package conformance
