package plugin

// Kinds of Fault.
const (
	FaultTrap     = "trap"     // a WebAssembly trap or a panic of the guest
	FaultExit     = "exit"     // the guest ended itself
	FaultDeadline = "deadline" // it took longer than granted
	FaultFuel     = "fuel"     // it took more steps than granted
	FaultMemory   = "memory"   // it needed more memory than granted
	FaultStack    = "stack"    // its calls nested too deep
	FaultOutput   = "output"   // its result is larger than allowed
	FaultGarbage  = "garbage"  // its result is no HandleResponse
	FaultFailed   = "failed"   // it returned 0: it could not make a result
	FaultTrial    = "trial"    // Try took more steps than a trial has; Handle may still succeed
)

// Fault says that a plugin broke while it handled an event. If its Kind is FaultTrial, the
// event takes longer than a trial and nothing is wrong. The instance has been restored; the
// same event may be tried once more or quarantined.
type Fault struct {
	Plugin string
	Kind   string // one of the Fault constants
	Detail string // what happened, with the plugin's captured standard error
}

func (f *Fault) Error() string {
	return "plugin " + f.Plugin + ": " + f.Kind + ": " + f.Detail
}
