;; It calls itself without end, using little but the stack that its code runs on.
(module
  (memory (export "memory") 1)
  (func $f (param i64 i64 i64 i64) (result i64)
    (i64.add (local.get 0)
      (call $f (i64.add (local.get 0) (i64.const 1)) (local.get 0) (local.get 1) (local.get 2))))
  (func (export "tributary_abi_1"))
  (func (export "tributary_buffer") (param i32) (result i32) i32.const 1024)
  (func (export "tributary_handle") (param i32) (result i64)
    (call $f (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4))))
