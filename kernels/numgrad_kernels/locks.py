"""Locks that a forked child does not inherit in a locked state."""

from __future__ import annotations

import os
from threading import RLock
from typing import Any


def forkable_lock() -> Any:
    """A new re-entrant lock that nobody else holds while the process forks, so that the child can use it."""
    lock = RLock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock
