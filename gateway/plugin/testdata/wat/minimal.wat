;; The smallest plugin: it answers every event with no effects.
(module
  (memory (export "memory") 1)
  (data (i32.const 16) "\0a\02\0a\00")
  (func (export "tributary_abi_1"))
  (func (export "tributary_buffer") (param i32) (result i32) i32.const 1024)
  (func (export "tributary_handle") (param i32) (result i64)
    i64.const 0x1000000004))
