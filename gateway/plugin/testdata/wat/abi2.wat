;; A plugin of a later ABI.
(module
  (memory (export "memory") 1)
  (func (export "tributary_abi_2"))
  (func (export "tributary_handle") (param i32) (result i64) i64.const 0))
