;; Its buffer is outside its memory.
(module
  (memory (export "memory") 1)
  (func (export "tributary_abi_1"))
  (func (export "tributary_buffer") (param i32) (result i32) i32.const 65000)
  (func (export "tributary_handle") (param i32) (result i64) i64.const 0))
