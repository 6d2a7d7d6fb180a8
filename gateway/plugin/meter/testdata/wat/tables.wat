;; Tables, references, and element segments of all eight kinds.
(module
  (type $void (func))
  (type $num (func (result i32)))
  (import "env" "base" (global $base i32))
  (table $t (export "t") 24 60 funcref)
  (table $x 4 externref)
  (func $a (type $num) (i32.const 1))
  (func $b (type $num) (i32.const 2))
  (func $c (type $num) (i32.const 3))
  (elem (i32.const 0) $a $b)                                             ;; 0
  (elem $p1 func $c $a)                                                  ;; 1
  (elem (table $t) (global.get $base) func $c $b)                        ;; 2, or 0
  (elem declare func $c)                                                 ;; 3
  (elem (i32.const 6) funcref (ref.func $b) (ref.null func))             ;; 4
  (elem $p5 funcref (ref.func $a) (ref.null func) (ref.func $c))         ;; 5
  (elem (table $x) (i32.const 1) externref (ref.null extern))            ;; 6
  (elem declare funcref (ref.func $a))                                   ;; 7
  (global $f (mut funcref) (ref.func $a))
  (global $e (mut externref) (ref.null extern))
  (func $at (export "at") (param i32) (result i32) (call_indirect $t (type $num) (local.get 0)))
  (func (export "wrong_type") (param i32) (call_indirect $t (type $void) (local.get 0)))
  (func (export "set") (param i32 i32) (table.set $t (local.get 0) (table.get $t (local.get 1))))
  (func (export "is_null") (param i32) (result i32) (ref.is_null (table.get $t (local.get 0))))
  (func (export "fill") (param i32 i32) (table.fill $t (local.get 0) (ref.func $c) (local.get 1)))
  (func (export "copy") (param i32 i32 i32) (table.copy $t $t (local.get 0) (local.get 1) (local.get 2)))
  (func (export "init") (param i32 i32 i32) (table.init $t $p5 (local.get 0) (local.get 1) (local.get 2)))
  (func (export "init1") (param i32 i32 i32) (table.init $t $p1 (local.get 0) (local.get 1) (local.get 2)))
  (func (export "grow") (param i32) (result i32 i32) (table.grow $t (ref.null func) (local.get 0)) (table.size $t))
  (func (export "grow_x") (param i32) (result i32)
    (table.grow $x (global.get $e) (i32.and (local.get 0) (i32.const 7))))
  (func (export "swap") (result i32)
    (local funcref)
    (local.set 0 (global.get $f))
    (global.set $f (select (result funcref) (ref.func $c) (ref.null func) (ref.is_null (local.get 0))))
    (ref.is_null (global.get $f)))
  (func (export "drop") (param i32) (if (i32.eq (local.get 0) (i32.const 7)) (then (elem.drop $p5))))
  (func (export "sum") (result i32)
    (local i32 i32)
    (loop
      (if (i32.eqz (ref.is_null (table.get $t (local.get 0))))
        (then (local.set 1 (i32.add (i32.mul (local.get 1) (i32.const 3)) (call $at (local.get 0))))))
      (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 24))))
    (local.get 1)))
