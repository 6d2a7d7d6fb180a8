;; It imports what no plugin may have, and log with a wrong signature.
(module
  (import "env" "abort" (func (param i32)))
  (import "env" "flag" (global i32))
  (import "tributary" "log" (func (param i32 i32)))
  (import "tributary" "http_call" (func (param i32 i32) (result i64)))
  (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "tributary_abi_1"))
  (func (export "tributary_buffer") (param i32) (result i32) i32.const 1024)
  (func (export "tributary_handle") (param i32) (result i64) i64.const 0))
