;; A mutable vector global, which a snapshot cannot hold: faults cost a new instance.
(module
  (memory (export "memory") 1)
  (global $v (mut v128) (v128.const i64x2 7 9))
  (data (i32.const 16) "\0a\02\0a\00")
  (func (export "tributary_abi_1"))
  (func (export "tributary_buffer") (param i32) (result i32) i32.const 1024)
  ;; The first event answers, the second traps, and so on after a restore.
  (func (export "tributary_handle") (param i32) (result i64)
    (if (i64.ne (i64x2.extract_lane 1 (global.get $v)) (i64.const 9)) (then unreachable))
    (global.set $v (v128.const i64x2 1 2))
    i64.const 0x1000000004))
