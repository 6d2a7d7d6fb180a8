;; Has the gateway index texts and traps unless each answer is as ABI.md says.
;; The event is answered with no effects.
(module
  (import "tributary" "json_index" (func $index (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 32)
  (data (i32.const 16) "\0a\02\0a\00")
  (data (i32.const 32) "{\"a\":[1]}")
  (func (export "tributary_abi_1"))
  (func (export "tributary_buffer") (param i32) (result i32) i32.const 1024)
  (func $want (param i32 i32)
    (if (i32.ne (local.get 0) (local.get 1)) (then unreachable)))
  (func $word (param i32) (result i32) (i32.load (i32.add (i32.const 256) (i32.mul (local.get 0) (i32.const 4)))))
  (func (export "tributary_handle") (param i32) (result i64)
    ;; too little room: the count, and nothing is written
    (call $want (call $index (i32.const 32) (i32.const 9) (i32.const 256) (i32.const 3)) (i32.const 4))
    (call $want (call $word (i32.const 1)) (i32.const 0))
    ;; the nodes: the object, the name, the array, the number
    (call $want (call $index (i32.const 32) (i32.const 9) (i32.const 256) (i32.const 4)) (i32.const 4))
    (call $want (call $word (i32.const 0)) (i32.const 0)) (call $want (call $word (i32.const 1)) (i32.const 9)) (call $want (call $word (i32.const 2)) (i32.const 4))
    (call $want (call $word (i32.const 3)) (i32.const 1)) (call $want (call $word (i32.const 4)) (i32.const 4)) (call $want (call $word (i32.const 5)) (i32.const 0))
    (call $want (call $word (i32.const 6)) (i32.const 5)) (call $want (call $word (i32.const 7)) (i32.const 8)) (call $want (call $word (i32.const 8)) (i32.const 4))
    (call $want (call $word (i32.const 9)) (i32.const 6)) (call $want (call $word (i32.const 10)) (i32.const 7)) (call $want (call $word (i32.const 11)) (i32.const 4))
    ;; no JSON, no text at all, too long
    (call $want (call $index (i32.const 32) (i32.const 8) (i32.const 256) (i32.const 4)) (i32.const -1))
    (call $want (call $index (i32.const 32) (i32.const 0) (i32.const 256) (i32.const 4)) (i32.const -1))
    (call $want (call $index (i32.const 0) (i32.const 0x100001) (i32.const 256) (i32.const 4)) (i32.const -2))
    i64.const 0x1000000004))
