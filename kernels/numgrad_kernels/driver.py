"""The native loop that runs a program: a table of steps, each a kernel, its arguments and its range.

A program is an int64 array of shape (steps, 8). One row holds: address of the kernel, address of its argument table,
`lo`, `hi`, chunk length, address of a status word, and two words that are kept at zero. With chunk length zero the
kernel is called once, with (lo, hi). Otherwise it is called for one chunk after the other, on several threads where
that is allowed: the chunks are the same for any number of threads, and so is every bit of the result. After each step
the status word (if the row names one) is looked at, and the first that is not zero ends the run.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from numgrad_kernels import build, threads

FN, ARGS, LO, HI, CHUNK, STATUS = range(6)
STEP_WORDS = 8

_IR = """
@ng_thread_state = external global [5 x i64]

; What Numba's pool calls: args[0] is the first chunk (base 0, step 1), dims[0] says how many chunks,
; data is {fn, args, lo, hi, chunk}.
define void @ng_chunks(ptr %args, ptr %dims, ptr %steps, ptr %data) nounwind {
entry:
  %n = load i64, ptr %dims
  %first = load i64, ptr %args
  %fn = load ptr, ptr %data
  %table.at = getelementptr i64, ptr %data, i64 1
  %table = load ptr, ptr %table.at
  %lo.at = getelementptr i64, ptr %data, i64 2
  %lo = load i64, ptr %lo.at
  %hi.at = getelementptr i64, ptr %data, i64 3
  %hi = load i64, ptr %hi.at
  %chunk.at = getelementptr i64, ptr %data, i64 4
  %chunk = load i64, ptr %chunk.at
  %any = icmp sgt i64 %n, 0
  br i1 %any, label %loop, label %exit
loop:
  %i = phi i64 [0, %entry], [%i.next, %loop]
  %k = add i64 %first, %i
  %skip = mul i64 %k, %chunk
  %a = add i64 %lo, %skip
  %whole = add i64 %a, %chunk
  %last = icmp slt i64 %hi, %whole
  %b = select i1 %last, i64 %hi, i64 %whole
  call void %fn(ptr %table, i64 %a, i64 %b)
  %i.next = add i64 %i, 1
  %more = icmp slt i64 %i.next, %n
  br i1 %more, label %loop, label %exit
exit:
  ret void
}

define internal void @run_chunked(ptr %fn, ptr %table, i64 %lo, i64 %hi, i64 %chunk) noinline nounwind {
entry:
  %span = sub i64 %hi, %lo
  %single = icmp sle i64 %span, %chunk
  br i1 %single, label %once, label %cut
once:
  call void %fn(ptr %table, i64 %lo, i64 %hi)
  ret void
cut:
  %data = alloca [5 x i64]
  store ptr %fn, ptr %data
  %data1 = getelementptr i64, ptr %data, i64 1
  store ptr %table, ptr %data1
  %data2 = getelementptr i64, ptr %data, i64 2
  store i64 %lo, ptr %data2
  %data3 = getelementptr i64, ptr %data, i64 3
  store i64 %hi, ptr %data3
  %data4 = getelementptr i64, ptr %data, i64 4
  store i64 %chunk, ptr %data4
  %spare = add i64 %chunk, -1
  %padded = add i64 %span, %spare
  %n = sdiv i64 %padded, %chunk
  %args = alloca i64
  store i64 0, ptr %args
  %dims = alloca [2 x i64]
  store i64 %n, ptr %dims
  %dims1 = getelementptr i64, ptr %dims, i64 1
  store i64 0, ptr %dims1
  %steps = alloca i64
  store i64 1, ptr %steps
  %threads = load i64, ptr @ng_thread_state
  %several = icmp sgt i64 %threads, 1
  br i1 %several, label %pool, label %serial
pool:
  %for.at = getelementptr i64, ptr @ng_thread_state, i64 1
  %for = load ptr, ptr %for.at
  %off = icmp eq ptr %for, null
  br i1 %off, label %serial, label %enter
enter:
  ; One launch at a time: some of Numba's layers end the process when two threads launch at once. Who finds the
  ; pool taken runs its own chunks.
  %busy = getelementptr i64, ptr @ng_thread_state, i64 2
  %taken = cmpxchg ptr %busy, i64 0, i64 1 acquire monotonic
  %mine = extractvalue {i64, i1} %taken, 1
  br i1 %mine, label %launch, label %serial
launch:
  %fewer = icmp slt i64 %n, %threads
  %use = select i1 %fewer, i64 %n, i64 %threads
  %use32 = trunc i64 %use to i32
  call void %for(ptr @ng_chunks, ptr %args, ptr %dims, ptr %steps, ptr %data, i64 0, i64 1, i32 %use32)
  store atomic i64 0, ptr %busy release, align 8
  ; Kernels on the pool have left BLAS with one thread.
  %setter.at = getelementptr i64, ptr @ng_thread_state, i64 3
  %setter = load ptr, ptr %setter.at
  %unset = icmp eq ptr %setter, null
  br i1 %unset, label %finished, label %restore
restore:
  %count.at = getelementptr i64, ptr @ng_thread_state, i64 4
  %count = load i64, ptr %count.at
  %count32 = trunc i64 %count to i32
  call void %setter(i32 %count32)
  br label %finished
finished:
  ret void
serial:
  call void @ng_chunks(ptr %args, ptr %dims, ptr %steps, ptr %data)
  ret void
}

; Number of steps done: all of them, or the index of the step that left its status word other than zero.
define i64 @ng_run(ptr %program, i64 %steps) nounwind {
entry:
  %any = icmp sgt i64 %steps, 0
  br i1 %any, label %step, label %done
step:
  %i = phi i64 [0, %entry], [%i.next, %next]
  %words = shl i64 %i, 3
  %row = getelementptr i64, ptr %program, i64 %words
  %fn = load ptr, ptr %row
  %table.at = getelementptr i64, ptr %row, i64 1
  %table = load ptr, ptr %table.at
  %lo.at = getelementptr i64, ptr %row, i64 2
  %lo = load i64, ptr %lo.at
  %hi.at = getelementptr i64, ptr %row, i64 3
  %hi = load i64, ptr %hi.at
  %chunk.at = getelementptr i64, ptr %row, i64 4
  %chunk = load i64, ptr %chunk.at
  %whole = icmp sle i64 %chunk, 0
  br i1 %whole, label %call, label %cut
call:
  call void %fn(ptr %table, i64 %lo, i64 %hi)
  br label %check
cut:
  call void @run_chunked(ptr %fn, ptr %table, i64 %lo, i64 %hi, i64 %chunk)
  br label %check
check:
  %status.at = getelementptr i64, ptr %row, i64 5
  %word = load ptr, ptr %status.at
  %silent = icmp eq ptr %word, null
  br i1 %silent, label %next, label %look
look:
  %status = load i64, ptr %word
  %fine = icmp eq i64 %status, 0
  br i1 %fine, label %next, label %stop
next:
  %i.next = add i64 %i, 1
  %more = icmp slt i64 %i.next, %steps
  br i1 %more, label %step, label %done
stop:
  ret i64 %i
done:
  ret i64 %steps
}
"""


@cache
def run_address() -> int:
    """Address of `int64 ng_run(int64 *program, int64 steps)`."""
    return build.build_ir(_IR, ("ng_run",), level=0)["ng_run"]


@cache
def _run() -> Callable[[int, int], int]:
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)(run_address())


def check_program(program: npt.NDArray[np.int64]) -> None:
    """Refuse what is not a table of steps, and start the thread pool if a step wants it.

    Raises
    ------
    ValueError
        If the array is not C-contiguous int64 of shape (steps, 8).
    """
    if program.dtype != np.int64 or program.ndim != 2 or program.shape[1] != STEP_WORDS:
        raise ValueError(
            f"a program is an int64 array of shape (steps, {STEP_WORDS}), not {program.dtype} {program.shape}"
        )
    if not program.flags.c_contiguous:
        raise ValueError("a program is a C-contiguous array: the driver reads it row by row")
    if program[:, CHUNK].any():
        threads.ensure()


def run(program: npt.NDArray[np.int64]) -> int:
    """Run a program without holding the interpreter's lock.

    Parameters
    ----------
    program
        Int64 array of shape (steps, 8); see the top of this module. Everything it points at must stay alive.

    Returns
    -------
    int
        Number of steps done: all, or the index of the step whose status word was not zero after it.

    Raises
    ------
    ValueError
        If the array has another shape, dtype or layout.

    Examples
    --------
    >>> import numpy as np
    >>> from numgrad_kernels import build, driver
    >>> kernel = build.build_source("def kernel(args, lo, hi):\\n    args[0] = hi - lo\\n")
    >>> args = np.zeros(1, np.int64)
    >>> driver.run(np.array([[kernel.address, args.ctypes.data, 2, 9, 0, 0, 0, 0]]))
    1
    >>> args
    array([7])
    """
    check_program(program)
    return run_at(program.__array_interface__["data"][0], program.shape[0])


def run_at(address: int, steps: int) -> int:
    """What `run` does, for a table that was checked before and lies at `address`."""
    return int(_run()(address, steps))
