;; Asks for nodes beyond its memory.
(module
  (import "tributary" "json_index" (func $index (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 32) "[1,2,3]")
  (func (export "tributary_abi_1"))
  (func (export "tributary_buffer") (param i32) (result i32) i32.const 1024)
  (func (export "tributary_handle") (param i32) (result i64)
    (i64.extend_i32_s (call $index (i32.const 32) (i32.const 7) (i32.const 0xfffe) (i32.const 100)))))
