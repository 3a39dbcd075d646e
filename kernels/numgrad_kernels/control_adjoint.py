"""The kernel of a loop forward and back that keeps few states: binomial checkpointing in native code.

The present carry is in block A (a step writes block B and the other way round), the backward state in buffers U and V.
Kept carries are blocks of their own, one after the other. The argument table:
  0  forward programs A -> B and B -> A, their steps            3  backward programs U -> V and V -> U, their steps
  6  trips                                                      7  starts, rows (written once)
  9  forward moves, rows (written before every step)            11 backward moves, rows
  13 copies, rows (first carry and state)                       15 results, rows (target word, U, V, bytes)
  17 kept states that there is room for                         18 their first block, bytes of a block, places' words
  21 block A, block B                                           23 status
The schedule is that of `numgrad.ops.checkpoints.schedule`.
"""

from __future__ import annotations

__all__ = ["IR"]

IR = """
define internal void @seek(i64 %n, ptr %rows, i64 %step) nounwind {
entry:
  %any = icmp sgt i64 %n, 0
  br i1 %any, label %loop, label %done
loop:
  %k = phi i64 [0, %entry], [%k1, %loop]
  %o = shl i64 %k, 2
  %row = getelementptr i64, ptr %rows, i64 %o
  %t = call i64 @word(ptr %row, i64 0)
  %s = call i64 @word(ptr %row, i64 1)
  %d = call i64 @word(ptr %row, i64 2)
  %m = call i64 @word(ptr %row, i64 3)
  ;pointers t s
  %base = load i64, ptr %sp
  %first = add i64 %base, %d
  %moved = mul i64 %m, %step
  %value = add i64 %first, %moved
  store i64 %value, ptr %tp
  %k1 = add i64 %k, 1
  %more = icmp slt i64 %k1, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}

define internal i64 @split(i64 %steps, i64 %kept) nounwind {
entry:
  br label %head
head:
  %repeats = phi i64 [0, %entry], [%r1, %body]
  %reach = phi i64 [1, %entry], [%next, %body]
  %before = phi i64 [0, %entry], [%reach, %body]
  %short = icmp slt i64 %reach, %steps
  br i1 %short, label %body, label %done
body:
  %r1 = add i64 %repeats, 1
  %sum = add i64 %kept, %r1
  %product = mul i64 %reach, %sum
  %next = sdiv i64 %product, %r1
  br label %head
done:
  %all = add i64 %kept, %repeats
  %less = sub i64 %all, 1
  %part = mul i64 %before, %kept
  %right = sdiv i64 %part, %less
  %rest = sub i64 %steps, %right
  %smaller = icmp slt i64 %before, %rest
  %m = select i1 %smaller, i64 %before, i64 %rest
  ret i64 %m
}

define internal ptr @place(ptr %a, i64 %k) nounwind {
  %first = call i64 @word(ptr %a, i64 18)
  %size = call i64 @word(ptr %a, i64 19)
  %offset = mul i64 %k, %size
  %at = add i64 %first, %offset
  %p = inttoptr i64 %at to ptr
  ret ptr %p
}

define void @ng_adjoint(ptr %a, i64 %lo, i64 %hi) nounwind {
entry:
  ;words 0 f0 f1 fsteps b0 b1 bsteps trips ns rs nf rf nb rb nc rc nr rr room - size words ba bb status
  ;pointers rs rf rb rc rr
  %places = inttoptr i64 %words to ptr
  %A = inttoptr i64 %ba to ptr
  %B = inttoptr i64 %bb to ptr
  call void @start(i64 %ns, ptr %rsp)
  call void @copy_in(i64 %nc, ptr %rcp)
  %first = call ptr @place(ptr %a, i64 0)
  call void @llvm.memcpy.p0.p0.i64(ptr %first, ptr %A, i64 %size, i1 false)
  store i64 0, ptr %places
  br label %head
head:
  %end = phi i64 [%trips, %entry], [%end, %keep], [%last, %popped]
  %top = phi i64 [0, %entry], [%top1, %keep], [%topn, %popped]
  %at = phi i64 [0, %entry], [%target, %keep], [%last, %popped]
  %pulls = phi i64 [0, %entry], [%pulls, %keep], [%pulls1, %popped]
  %going = icmp sgt i64 %end, 0
  br i1 %going, label %choose, label %done
choose:
  %last = sub i64 %end, 1
  %here = getelementptr i64, ptr %places, i64 %top
  %from = load i64, ptr %here
  %length = sub i64 %end, %from
  %free = sub i64 %room, %top
  %many = icmp sgt i64 %free, 1
  %long = icmp sgt i64 %length, 1
  %divides = and i1 %many, %long
  br i1 %divides, label %divide, label %aim
divide:
  %m = call i64 @split(i64 %length, i64 %free)
  %there = add i64 %from, %m
  br label %aim
aim:
  %target = phi i64 [%last, %choose], [%there, %divide]
  %arrived = icmp eq i64 %at, %target
  br i1 %arrived, label %decide, label %ready
ready:
  %standing = icmp eq i64 %at, %from
  br i1 %standing, label %advance, label %restore
restore:
  %kept = call ptr @place(ptr %a, i64 %top)
  call void @llvm.memcpy.p0.p0.i64(ptr %A, ptr %kept, i64 %size, i1 false)
  br label %advance
advance:
  %walks = icmp slt i64 %from, %target
  br i1 %walks, label %walk, label %decide
walk:
  %t = phi i64 [%from, %advance], [%t1, %walked]
  %side = phi i1 [false, %advance], [%other, %walked]
  call void @seek(i64 %nf, ptr %rfp, i64 %t)
  %f = select i1 %side, i64 %f1, i64 %f0
  %state = call i64 @run(i64 %f, i64 %fsteps, i64 %status)
  %bad = icmp ne i64 %state, 0
  br i1 %bad, label %out, label %walked
walked:
  %t1 = add i64 %t, 1
  %other = xor i1 %side, true
  %on = icmp slt i64 %t1, %target
  br i1 %on, label %walk, label %reached
reached:
  br i1 %other, label %turn, label %decide
turn:
  call void @llvm.memcpy.p0.p0.i64(ptr %A, ptr %B, i64 %size, i1 false)
  br label %decide
decide:
  %before = icmp slt i64 %target, %last
  br i1 %before, label %keep, label %pull
keep:
  %top1 = add i64 %top, 1
  %new = call ptr @place(ptr %a, i64 %top1)
  call void @llvm.memcpy.p0.p0.i64(ptr %new, ptr %A, i64 %size, i1 false)
  %word = getelementptr i64, ptr %places, i64 %top1
  store i64 %target, ptr %word
  br label %head
pull:
  call void @seek(i64 %nb, ptr %rbp, i64 %last)
  %odd = and i64 %pulls, 1
  %is.odd = icmp ne i64 %odd, 0
  %b = select i1 %is.odd, i64 %b1, i64 %b0
  %bstate = call i64 @run(i64 %b, i64 %bsteps, i64 %status)
  %bbad = icmp ne i64 %bstate, 0
  br i1 %bbad, label %out, label %pulled
pulled:
  %pulls1 = add i64 %pulls, 1
  %used = icmp eq i64 %from, %last
  %some = icmp sgt i64 %top, 0
  %pops = and i1 %used, %some
  %less = sub i64 %top, 1
  br label %popped
popped:
  %topn = select i1 %pops, i64 %less, i64 %top
  br label %head
done:
  %parity = and i64 %pulls, 1
  call void @copy_out(i64 %nr, ptr %rrp, i64 %parity)
  br label %out
out:
  ret void
}
"""
