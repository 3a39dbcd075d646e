"""What loops that are gone back through keep of their states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from numgrad.compiler.memory import bytes_of
from numgrad.compiler.rewrite import Node
from numgrad.errors import SourceLine
from numgrad.ops.checkpoints import forward_steps, snapshots
from numgrad.types import Dim, dim_value, size_product

__all__ = ["Tape", "tape_of"]


class Tape(NamedTuple):
    """The states that a loop keeps to go back: how many steps it has, how large a state is, and which are kept."""

    steps: Dim
    state: Dim
    checkpoint: Any

    def report(self, sizes: Mapping[Any, int], where: SourceLine | None) -> dict[str, Any]:
        """The user's line, steps, bytes kept, and how often a step runs again besides once on its way back."""
        steps, state = dim_value(self.steps, sizes), dim_value(self.state, sizes)
        kept = dim_value(snapshots(self.checkpoint, self.steps, self.state), sizes) if steps else 0
        again = 0 if self.checkpoint == "all" else forward_steps(steps, kept)
        return {"where": str(where), "steps": steps, "tape_bytes": kept * state,
                "recomputation": again / max(1, steps)}


def tape_of(node: Node) -> Tape | None:
    """What a loop that is gone back through keeps of its states: all of them, or those of a strategy."""
    attrs = node.attrs
    if node.record.name != "adjoint_scan" and attrs.get("extends") is None:
        return None
    if node.record.name != "adjoint_scan":
        rows = node.outputs[len(attrs["extends"].outputs):]
        return Tape(attrs["length"], sum((size_product(v.shape[1:]) * v.dtype.itemsize for v in rows), 0), "all")
    state = sum(((bytes_of(v) + 7) // 8 * 8 for v in node.inputs[:attrs["carries"]]), 0)
    return Tape(attrs["length"], state, attrs["checkpoint"])
