// Package conformance tests from outside that an MQTT server keeps the normative statements of MQTT
// 3.1.1 and 5.0 (Appendix B of each). It holds only tests, and a codec of its own: the gateway's
// codec cannot hide its own mistakes.
//
// testdata/statements-*.tsv lists every statement: its number, which side can violate it, a few
// words, and the checks that look at it, or why nothing can be observed.
//
// The tests run against a gateway in their own process. With TRIBUTARY_CONFORMANCE_ADDRESS=host:port
// they run against any other server, and leave out the tests that need this gateway's settings
// (serve_test.go shows those).
package conformance
