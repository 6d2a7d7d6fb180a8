;; It changes a mutable reference and then traps: the next event must find it null.
(module
  (memory (export "memory") 1)
  (global $g (mut funcref) (ref.null func))
  (elem declare func $f)
  (func $f)
  (func (export "tributary_abi_1"))
  (func (export "tributary_buffer") (param i32) (result i32) i32.const 1024)
  (func (export "tributary_handle") (param i32) (result i64)
    (if (i32.eqz (ref.is_null (global.get $g)))
      (then (return (i64.const 0)))) ;; it is not
    (global.set $g (ref.func $f))
    unreachable))
