"""The block of memory through which native code learns about threads: those of the pool and those of BLAS."""

from __future__ import annotations

import ctypes

#: Words of the block: threads that the driver may use, address of the pool's ``parallel_for`` (0: none), whether the
#: pool is running something, address of BLAS's function that sets its number of threads (0: leave it), that number.
THREADS, PARALLEL_FOR, BUSY, BLAS_SETTER, BLAS_THREADS = range(5)
SYMBOL = "ng_thread_state"

state = (ctypes.c_int64 * 5)(1, 0, 0, 0, 1)


def address() -> int:
    """Where the block is."""
    return ctypes.addressof(state)
