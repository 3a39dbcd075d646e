"""One kernel on several threads: what the native driver needs to know to hand its chunks to Numba's thread pool.

The driver reads a small block of memory: how many threads, the address of the pool's `parallel_for`, and a lock word.
While the address is zero everything runs serially, in the same chunks, so the bits do not depend on the threads.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

from numgrad_kernels import engine
from numgrad_kernels.locks import forkable_lock
from numgrad_kernels.settings import settings, watch
from numgrad_kernels.thread_state import BUSY, PARALLEL_FOR, THREADS, state

_SPINS = "2000"  # some microseconds

_lock = forkable_lock()
_limit = 1
_wanted = False
_starting: threading.Thread | None = None
_forked_from_pool = False


def ensure() -> bool:
    """Start Numba's thread pool, now or when the settings first ask for more than one thread; tell if it is running.

    Starting it imports Numba. In a child forked from a process whose pool was running the answer stays False: GNU
    OpenMP ends such a child when it is asked for threads.
    """
    global _limit, _wanted
    _wanted = True
    if settings.num_threads <= 1 or _forked_from_pool:
        return False
    if not state[PARALLEL_FOR]:
        with _lock:
            from numba.np.ufunc import parallel

            with _short_spins():
                parallel._launch_threads()
            _limit = int(parallel.get_thread_count())
            state[THREADS] = min(settings.num_threads, _limit)
            state[PARALLEL_FOR] = engine.address_of("numba_parallel_for") or 0
    return bool(state[PARALLEL_FOR])


def start() -> None:
    """Start the pool as `ensure` does, but without waiting for it: what runs meanwhile runs serially, to the same bits.

    Importing Numba takes a third of a second, for which the first result of a process need not wait.
    """
    global _starting, _wanted
    _wanted = True
    if settings.num_threads <= 1 or _forked_from_pool or state[PARALLEL_FOR] or _starting is not None:
        return
    if "numba" in sys.modules:
        ensure()
        return
    with _lock:
        if _starting is None:
            _starting = threading.Thread(target=ensure, name="numgrad-threads")
            _starting.start()


def wait() -> None:
    """Wait for a start that is under way."""
    if _starting is not None and _starting is not threading.current_thread():
        _starting.join()


@contextlib.contextmanager
def _short_spins() -> Iterator[None]:
    """Let idle threads of GNU OpenMP, which reads its settings when it is loaded, sleep soon.

    Its threads spin for milliseconds after each loop, and take the processors from BLAS's own threads: on two
    processors a Gaussian process of 100 points then took 300 times as long.
    """
    if "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ:
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = _SPINS
    try:
        yield
    finally:
        os.environ.pop("GOMP_SPINCOUNT", None)


def layer() -> str:
    """Name of Numba's threading layer in use ("omp", "tbb", "workqueue"), or "serial"."""
    wait()
    if not state[PARALLEL_FOR]:
        return "serial"
    from numba.np.ufunc import parallel

    return str(parallel.threading_layer())


def _follow_settings() -> None:
    """Tell the driver the number of threads that is allowed now."""
    state[THREADS] = min(settings.num_threads, _limit)
    if _wanted:
        ensure()


def _in_child() -> None:
    """Run serially in a forked child: the pool's threads exist only in the parent."""
    global _forked_from_pool
    pool = sys.modules.get("numba.np.ufunc.parallel")
    if state[PARALLEL_FOR] or getattr(pool, "_is_initialized", False):
        _forked_from_pool = True
    state[PARALLEL_FOR] = 0
    state[BUSY] = 0


watch("num_threads", _follow_settings)
if hasattr(os, "register_at_fork"):
    # A child of a half-imported Numba could never import it.
    os.register_at_fork(before=wait, after_in_child=_in_child)
