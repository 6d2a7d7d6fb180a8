;; It changes a table and then traps: the next event must find the table as it was.
(module
  (memory (export "memory") 1)
  (table $t 1 funcref)
  (elem declare func $clean)
  (func $clean)
  (func (export "tributary_abi_1"))
  (func (export "tributary_buffer") (param i32) (result i32) i32.const 1024)
  (func (export "tributary_handle") (param i32) (result i64)
    (if (i32.eqz (ref.is_null (table.get $t (i32.const 0))))
      (then (return (i64.const 0)))) ;; it is not
    (table.set $t (i32.const 0) (ref.func $clean))
    unreachable))
