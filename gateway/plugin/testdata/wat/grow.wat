;; It asks for more memory without end, whether it gets it or not.
(module
  (memory (export "memory") 1)
  (func (export "tributary_abi_1"))
  (func (export "tributary_buffer") (param i32) (result i32) i32.const 1024)
  (func (export "tributary_handle") (param i32) (result i64)
    (loop $again
      (drop (memory.grow (i32.const 1)))
      (br $again))
    unreachable))
