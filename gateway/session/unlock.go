package session

// afterUnlock is work that a function leaves to its caller, to be done after unlocking, because it
// may block or takes locks of its own.
type afterUnlock []func()

// run does the work. The caller holds no lock.
func (a afterUnlock) run() {
	for _, do := range a {
		do()
	}
}
