"""Names of test cases that are the same in every process, and one thread each when the suite is spread over several."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # the processes share the processors; tests of threads ask for more
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("NUMGRAD_NUM_THREADS", "1")


def pytest_make_parametrize_id(config, val, argname):
    """Functions go by their names, not by where they lie in memory."""
    return getattr(val, "__name__", type(val).__name__) if callable(val) else None
