package conformance

// errorChecks are about what remains: section 4.13 and WebSocket.
func errorChecks() []check {
	return []check{}
}
