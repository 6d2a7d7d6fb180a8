;; A mutable global that it does not export: the first event answers, the second
;; traps, and after the restore the next answers again.
(module
  (memory (export "memory") 1)
  (global $calls (mut i64) (i64.const 0))
  (data (i32.const 16) "\0a\02\0a\00")
  (func (export "tributary_abi_1"))
  (func (export "tributary_buffer") (param i32) (result i32) i32.const 1024)
  (func (export "tributary_handle") (param i32) (result i64)
    (global.set $calls (i64.add (global.get $calls) (i64.const 1)))
    (if (i64.eq (global.get $calls) (i64.const 2)) (then unreachable))
    i64.const 0x1000000004))
