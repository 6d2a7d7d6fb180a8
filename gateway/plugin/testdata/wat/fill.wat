;; It fills 32 MiB of memory over and over.
(module
  (memory (export "memory") 520)
  (func (export "tributary_abi_1"))
  (func (export "tributary_buffer") (param i32) (result i32) i32.const 1024)
  (func (export "tributary_handle") (param i32) (result i64)
    (loop $again
      (memory.fill (i32.const 65536) (i32.const 170) (i32.const 33554432))
      (br $again))
    unreachable))
