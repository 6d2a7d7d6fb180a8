;; Has the gateway index a megabyte for ever.
(module
  (import "tributary" "json_index" (func $index (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 32)
  (func (export "tributary_abi_1"))
  (func (export "tributary_buffer") (param i32) (result i32) i32.const 1024)
  (func (export "tributary_handle") (param i32) (result i64)
    (memory.fill (i32.const 2048) (i32.const 0x20) (i32.const 0x100000))
    (loop $again
      (drop (call $index (i32.const 2048) (i32.const 0x100000) (i32.const 0) (i32.const 0)))
      (br $again))
    i64.const 0))
