;; It copies 16 MiB of overlapping memory over and over.
(module
  (memory (export "memory") 520)
  (func (export "tributary_abi_1"))
  (func (export "tributary_buffer") (param i32) (result i32) i32.const 1024)
  (func (export "tributary_handle") (param i32) (result i64)
    (loop $again
      (memory.copy (i32.const 65537) (i32.const 65536) (i32.const 16777216))
      (br $again))
    unreachable))
