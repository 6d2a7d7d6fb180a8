;; Draws a megabyte of random bytes for ever, and counts how often.
(module
  (import "wasi_snapshot_preview1" "random_get" (func $f (param i32 i32) (result i32)))
  (memory (export "memory") 32)
  (data (i32.const 1024) "a")
  (func (export "tributary_abi_1"))
  (func (export "tributary_buffer") (param i32) (result i32) i32.const 0x180000)
  (func (export "tributary_handle") (param i32) (result i64)
    (loop $again
      (drop (call $f (i32.const 2048) (i32.const 0x100000)))
      (i32.store (i32.const 1028) (i32.add (i32.load (i32.const 1028)) (i32.const 1)))
      (br $again))
    i64.const 0))
