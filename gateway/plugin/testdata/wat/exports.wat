;; Its exports are wrong in every way.
(module
  (memory 1)
  (func (export "tributary_abi_1") (param i32))
  (func (export "tributary_handle") (param i32) (result i32) i32.const 0)
  (func (export "_initialize") (result i32) i32.const 0))
