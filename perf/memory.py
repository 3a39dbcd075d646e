"""How much memory this process has, and had at most."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["FORGETS", "forget_peak", "peak_mb", "resident_mb"]

# Whether the largest resident size can be made to start anew; else it tells nothing of one among many rows.
FORGETS = os.access("/proc/self/clear_refs", os.W_OK)


def peak_mb() -> float:
    """The largest resident size so far; where there is no /proc, a parent's may shine through."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def resident_mb() -> float:
    """The resident size now; the largest one where the system does not tell."""
    try:
        return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        return peak_mb()


def forget_peak() -> None:
    """Let the largest resident size start from the present one, where the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass
