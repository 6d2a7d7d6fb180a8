// Package meter rewrites a WebAssembly module so that a guest can be bounded, interrupted and
// restored without the guest's help, and at little cost: 1.1× the time of a Go guest that decodes
// JSON, 1.0 to 1.35× for tight loops (wazero's WithCloseOnContextDone costs 3 to 11×). It is a pure function
// over bytes, knows no WebAssembly runtime and may be
// imported by gateway/plugin only.
//
// # What is injected
//
// The guest counts down its fuel by the number of instructions ahead of it: at each function entry,
// loop and longer branch (see plan.go), so one unit of fuel is at most one instruction. At function
// entries and loops it calls the checkpoint if the fuel, which is in the global [FuelGlobal], is
// below zero. The checkpoint leaves to Go (memory.grow 0 does, and needs no import), so that the scheduler and the
// garbage collector get their turn; then it traps if an interrupt was raised or the budget is
// spent, and otherwise moves at most [Options.Interval] units from [ReserveGlobal] to [FuelGlobal].
// memory.fill, memory.copy, memory.init and the table instructions pay for their length too; the
// first two run in pieces of 1 MiB with a check at each.
//
// Indices of the module do not shift, and no index of it may reach what is injected.
//
// # Protocol for the host
//
// Before a call: set [InterruptGlobal] and [StopGlobal] to 0 and the two fuel globals to
// [Module.Split] of the call's budget. Whatever ran the last call's watchdog must have ended.
//
// During a call: any goroutine may set [InterruptGlobal] to 1. The guest traps at its next
// checkpoint, at most Interval instructions later. Host functions called by the guest leave to Go by
// themselves but are charged a flat [HostCallUnits]: one that may take long has to take more from [FuelGlobal],
// which may go below zero, and to watch the deadline itself.
//
// After a call: the remaining fuel is FuelGlobal + ReserveGlobal (after a trap of the guest's own it
// may be up to one interval too high, since loops hold the fuel in a local). If the call failed, [StopGlobal]
// tells why: [StopNone] means that the guest trapped by itself (its own unreachable, a bad memory
// access, a full stack), [StopFuel] that the budget was spent, [StopInterrupt] that it was
// interrupted. A stopped guest stays stopped: each further call traps until the globals are set
// anew, and its memory is in the middle of something, so restore it first.
//
// To snapshot, copy the memory and the value of each global in [Module.Globals]; to restore, set
// these globals, copy the memory back and zero what the memory has grown since. Memory cannot
// shrink, therefore memory.size and memory.grow work on [PagesGlobal], which is one of these globals:
// after a restore the guest sees the size it had and may grow again into what is already there. The
// host may grow the memory itself only to make room for a snapshot. If [Module.Unrestorable] is not empty the guest can change
// state that the host cannot reach or another instance cannot take over (tables, dropped segments,
// globals that hold vectors or references): instantiate it anew.
//
// The start section runs during instantiation, on [Options.StartFuel].
package meter

// Names of the injected exports. A module that uses one of them, or an export that starts with
// [GlobalPrefix], is refused.
const (
	FuelGlobal      = "tributary_fuel"      // mutable i64: units until the next checkpoint
	ReserveGlobal   = "tributary_reserve"   // mutable i64: units left for the call beyond those
	InterruptGlobal = "tributary_interrupt" // mutable i32: not 0 asks the guest to stop
	StopGlobal      = "tributary_stop"      // mutable i32: why the meter trapped, a Stop constant
	PagesGlobal     = "tributary_pages"     // mutable i32: memory size as the guest sees it; absent without memory
	GlobalPrefix    = "tributary_global_"   // + index: mutable globals that the module did not export
)

// Values of [StopGlobal].
const (
	StopNone      = 0 // the meter did not stop the guest
	StopFuel      = 1 // the fuel of the call is spent
	StopInterrupt = 2 // InterruptGlobal was seen
)

// Limits and charges, in units of fuel unless stated.
const (
	MaxInterval          = 100_000     // keeps the longest time without a checkpoint at a few ms
	DefaultStartFuel     = 100_000_000 // for the start section
	DefaultTableElements = 1 << 20     // per table; a table element costs 8 bytes of host memory
	HostCallUnits        = 200         // a direct call of an imported function
	growUnits            = 1000        // memory.grow and table.grow
	maxModule            = 32 << 20    // bytes; one of 14 MB is all of go vet
	maxArity             = 1000        // parameters, and results, of a function or block, as in browsers
	maxLocals            = 50_000      // per function, with parameters
	maxAllLocals         = 1 << 24     // of the module: a runtime keeps a byte for each, and they are declared in a few
	allPages             = 65536       // 4 GiB of memory, the most that 32-bit addresses reach
	chunkBytes           = 1 << 20     // memory.fill and memory.copy run in pieces of this size
	bytesPerUnitShift    = 6           // bulk memory: 64 bytes are one unit
	elementsPerUnitShift = 3           // bulk table: 8 elements are one unit
)

// Options are the limits that are compiled into the module. The zero value is usable.
type Options struct {
	// Interval is the most units between two checkpoints, at most MaxInterval; 0 means MaxInterval.
	Interval uint32
	// StartFuel is the budget of the start section; 0 means DefaultStartFuel.
	StartFuel uint64
	// MaxMemoryPages (64 KiB each) caps the memory's declared maximum, so that memory.grow fails
	// beyond it; 0 leaves the module's own. A module that starts with more is refused.
	MaxMemoryPages uint32
	// MaxTableElements caps each table likewise; 0 means DefaultTableElements.
	MaxTableElements uint32
	// ReportCheckpoints makes each checkpoint ask for all of 4 GiB of memory instead of for no page,
	// so that the host's memory allocator hears of it on the guest's own goroutine: it may look at
	// the clock, give its turn to others, and end the call by a panic; it must not give the memory.
	// The declared maximum is lifted for it and enforced by the injected memory.grow instead.
	ReportCheckpoints bool

	onlyGlobal bool // for tests: never keep the fuel in a local
	anyCost    bool // for tests: of compiling, which they do not
}

// Module is a rewritten module. Its slices may alias the input.
type Module struct {
	// Bytes is the rewritten binary; equal input and options give equal bytes.
	Bytes []byte
	// Globals are the exported names of all mutable globals a snapshot must hold (the guest's own
	// in index order, then PagesGlobal). The meter's other globals are not among them.
	Globals []string
	// Unrestorable names each construct by which the guest can change state that a host cannot
	// snapshot, e.g. "table.set at function 3 offset 0x1c4". Empty for what the Go, C, Rust, TinyGo and
	// AssemblyScript compilers emit by default.
	Unrestorable []string
	// Interface is what the module itself imports and exports.
	Interface *Interface
	// Custom are the custom sections in order.
	Custom []CustomSection
	// Cost is what compiling the module takes, in nanoseconds as charge estimates them.
	Cost uint64
	// Checkpoints is the number of places that count down fuel.
	Checkpoints int

	interval int64
}

// CustomSection is one custom section of the module.
type CustomSection struct {
	Name string
	Data []byte
}

// Split divides the budget of a call into the values of FuelGlobal and ReserveGlobal.
// Budgets beyond 2^63-1 are cut to that.
func (m *Module) Split(budget uint64) (fuel, reserve uint64) {
	budget = min(budget, 1<<63-1)
	fuel = min(budget, uint64(m.interval))
	return fuel, budget - fuel
}
