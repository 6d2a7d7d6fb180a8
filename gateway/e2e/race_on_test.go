//go:build race

package e2e

// raceDetector says whether the tests run with the race detector; the gateway
// is then built with it, too.
const raceDetector = true
