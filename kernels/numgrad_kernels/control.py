"""Loops and branches as kernels: each runs programs of its own through the driver, with state in two sets of buffers.

A loop's body exists as two programs over the same kernels. The first reads the carried state from buffers A and writes
it to buffers B, the second the other way round, so that no state is copied from step to step. Addresses that are known
only when the loop starts (arrays of the caller, rows of an enclosing loop) are written into the programs' tables first;
addresses of rows move on after every step.

Argument tables (addresses and integers), with rows of four words (target word, source word, offset, step):
  scan    body0, body1, steps, trips, starts, starts' rows, moves, moves' rows, copies, copies' rows,
          results, results' rows, status
  while   cond0, cond1, cond steps, body0, body1, body steps, most trips (-1: no bound),
          address of the condition's byte, starts, starts' rows, copies, copies' rows, results, results' rows, status,
          word that receives the trips
  switch  word with the index, branches, branches' rows (program, steps), starts, starts' rows
Copies' rows are (buffer, source word, bytes, -): the first state.
Results' rows are (target word, A, B, bytes): the last state.

Two lines of the texts below are short for several: ``;words K x y -`` loads the table's words from the K-th on as %x,
%y and so on, leaving out where "-" stands; ``;pointers x`` makes the pointer %xp of the address %x.
"""

from __future__ import annotations

import re

from numgrad_kernels import build, control_adjoint, driver

_IR = """
declare i64 @ng_run(ptr, i64)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

define internal i64 @word(ptr %table, i64 %k) alwaysinline nounwind {
  %at = getelementptr i64, ptr %table, i64 %k
  %value = load i64, ptr %at
  ret i64 %value
}

define internal void @start(i64 %n, ptr %rows) nounwind {
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
  ;pointers t s
  %base = load i64, ptr %sp
  %value = add i64 %base, %d
  store i64 %value, ptr %tp
  %k1 = add i64 %k, 1
  %more = icmp slt i64 %k1, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}

define internal void @advance(i64 %n, ptr %rows) nounwind {
entry:
  %any = icmp sgt i64 %n, 0
  br i1 %any, label %loop, label %done
loop:
  %k = phi i64 [0, %entry], [%k1, %loop]
  %o = shl i64 %k, 2
  %row = getelementptr i64, ptr %rows, i64 %o
  %t = call i64 @word(ptr %row, i64 0)
  %d = call i64 @word(ptr %row, i64 3)
  %tp = inttoptr i64 %t to ptr
  %old = load i64, ptr %tp
  %new = add i64 %old, %d
  store i64 %new, ptr %tp
  %k1 = add i64 %k, 1
  %more = icmp slt i64 %k1, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}

define internal void @copy_in(i64 %n, ptr %rows) nounwind {
entry:
  %any = icmp sgt i64 %n, 0
  br i1 %any, label %loop, label %done
loop:
  %k = phi i64 [0, %entry], [%k1, %loop]
  %o = shl i64 %k, 2
  %row = getelementptr i64, ptr %rows, i64 %o
  %t = call i64 @word(ptr %row, i64 0)
  %s = call i64 @word(ptr %row, i64 1)
  %bytes = call i64 @word(ptr %row, i64 2)
  ;pointers t s
  %from = load ptr, ptr %sp
  call void @llvm.memcpy.p0.p0.i64(ptr %tp, ptr %from, i64 %bytes, i1 false)
  %k1 = add i64 %k, 1
  %more = icmp slt i64 %k1, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}

define internal void @copy_out(i64 %n, ptr %rows, i64 %parity) nounwind {
entry:
  %any = icmp sgt i64 %n, 0
  br i1 %any, label %loop, label %done
loop:
  %k = phi i64 [0, %entry], [%k1, %loop]
  %o = shl i64 %k, 2
  %row = getelementptr i64, ptr %rows, i64 %o
  %t = call i64 @word(ptr %row, i64 0)
  %which = add i64 %parity, 1
  %s = call i64 @word(ptr %row, i64 %which)
  %bytes = call i64 @word(ptr %row, i64 3)
  %tp = inttoptr i64 %t to ptr
  %to = load ptr, ptr %tp
  %sp = inttoptr i64 %s to ptr
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %sp, i64 %bytes, i1 false)
  %k1 = add i64 %k, 1
  %more = icmp slt i64 %k1, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}

define internal i64 @run(i64 %program, i64 %steps, i64 %status) nounwind {
  %p = inttoptr i64 %program to ptr
  %done = call i64 @ng_run(ptr %p, i64 %steps)
  %sp = inttoptr i64 %status to ptr
  %state = load i64, ptr %sp
  ret i64 %state
}

define void @ng_scan(ptr %a, i64 %lo, i64 %hi) nounwind {
entry:
  ;words 0 p0 p1 steps trips ns rs nm rm nc rc nr rr status
  ;pointers rs rm rc rr
  call void @start(i64 %ns, ptr %rsp)
  call void @start(i64 %nm, ptr %rmp)
  call void @copy_in(i64 %nc, ptr %rcp)
  %any = icmp sgt i64 %trips, 0
  br i1 %any, label %loop, label %done
loop:
  %i = phi i64 [0, %entry], [%i1, %next]
  %odd = and i64 %i, 1
  %is.odd = icmp ne i64 %odd, 0
  %p = select i1 %is.odd, i64 %p1, i64 %p0
  %state = call i64 @run(i64 %p, i64 %steps, i64 %status)
  %bad = icmp ne i64 %state, 0
  br i1 %bad, label %out, label %next
next:
  call void @advance(i64 %nm, ptr %rmp)
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %trips
  br i1 %more, label %loop, label %done
done:
  %last = phi i64 [0, %entry], [%i1, %next]
  %parity = and i64 %last, 1
  call void @copy_out(i64 %nr, ptr %rrp, i64 %parity)
  br label %out
out:
  ret void
}

define void @ng_while(ptr %a, i64 %lo, i64 %hi) nounwind {
entry:
  ;words 0 c0 c1 csteps p0 p1 steps most flag ns rs nc rc nr rr status count
  ;pointers flag rs rc rr
  call void @start(i64 %ns, ptr %rsp)
  call void @copy_in(i64 %nc, ptr %rcp)
  br label %head
head:
  %i = phi i64 [0, %entry], [%i1, %body]
  %odd = and i64 %i, 1
  %is.odd = icmp ne i64 %odd, 0
  %reached = icmp eq i64 %i, %most
  br i1 %reached, label %done, label %test
test:
  %c = select i1 %is.odd, i64 %c1, i64 %c0
  %cstate = call i64 @run(i64 %c, i64 %csteps, i64 %status)
  %cbad = icmp ne i64 %cstate, 0
  br i1 %cbad, label %out, label %decide
decide:
  %byte = load i8, ptr %flagp
  %go = icmp ne i8 %byte, 0
  br i1 %go, label %step, label %done
step:
  %p = select i1 %is.odd, i64 %p1, i64 %p0
  %state = call i64 @run(i64 %p, i64 %steps, i64 %status)
  %bad = icmp ne i64 %state, 0
  br i1 %bad, label %out, label %body
body:
  %i1 = add i64 %i, 1
  br label %head
done:
  call void @copy_out(i64 %nr, ptr %rrp, i64 %odd)
  %counts = icmp ne i64 %count, 0
  br i1 %counts, label %tell, label %out
tell:
  %cw = inttoptr i64 %count to ptr
  %ct = load ptr, ptr %cw
  store i64 %i, ptr %ct
  br label %out
out:
  ret void
}

define void @ng_switch(ptr %a, i64 %lo, i64 %hi) nounwind {
entry:
  ;words 0 word n rb ns rs
  ;pointers rs rb
  call void @start(i64 %ns, ptr %rsp)
  %wp = inttoptr i64 %word to ptr
  %ip = load ptr, ptr %wp
  %index = load i64, ptr %ip
  %below = icmp ult i64 %index, %n
  %last = sub i64 %n, 1
  %k = select i1 %below, i64 %index, i64 %last
  %o = shl i64 %k, 1
  %row = getelementptr i64, ptr %rbp, i64 %o
  %program = call i64 @word(ptr %row, i64 0)
  %steps = call i64 @word(ptr %row, i64 1)
  %p = inttoptr i64 %program to ptr
  %done = call i64 @ng_run(ptr %p, i64 %steps)
  ret void
}
"""


def _loads(match: re.Match[str]) -> str:
    first, *names = match[1].split()
    return "\n".join(f"  %{name} = call i64 @word(ptr %a, i64 {k})" for k, name in enumerate(names, int(first))
                     if name != "-")


def _pointers(match: re.Match[str]) -> str:
    return "\n".join(f"  %{name}p = inttoptr i64 %{name} to ptr" for name in match[1].split())


def expanded(text: str) -> str:
    """IR text with its short lines written out."""
    return re.sub(r"^  ;pointers (.*)$", _pointers, re.sub(r"^  ;words (.*)$", _loads, text, flags=re.M), flags=re.M)


NAMES = ("ng_scan", "ng_while", "ng_switch", "ng_adjoint")
_addresses: dict[str, int] = {}


def address(kind: str) -> int:
    """The address of the kernel that runs a "scan", a "while", a "switch" or an "adjoint" (`control_adjoint`)."""
    if not _addresses:
        driver.run_address()  # the kernels call the driver by name
        _addresses.update(build.build_ir(expanded(_IR + control_adjoint.IR), NAMES))
    return _addresses[f"ng_{kind}"]
