package session

// afterUnlock is what a function that is called under a lock leaves to be done when all
// locks are released, because it may block or takes locks of its own.
type afterUnlock []func()

// run does it. The caller holds no lock.
func (a afterUnlock) run() {
	for _, do := range a {
		do()
	}
}
