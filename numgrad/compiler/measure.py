"""The unknown sizes of a call, read off its arrays by generated code that checks what was assumed about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from numgrad.errors import at
from numgrad.types import Size, lone_symbol

if TYPE_CHECKING:
    from numgrad.compiler.program import Program

__all__ = ["make_measure", "size_lines"]


def size_lines(program: Program, size: Callable[[int, int], str], fail: Callable[[str, str], list[str]],
               counted: Sequence[Any] = ()) -> list[str]:
    """Lines of Python that give every unknown size its value, and check the shapes.

    `size(k, axis)` is the text of a size of input k, `fail(condition, message)` the lines for a check that fails if
    `condition` is true. The values of the sizes `counted` are known by their names already.
    """
    sizes = program.code.layout.sizes
    known: dict[Any, str] = {symbol: sizes.names[symbol] for symbol in counted}
    lines: list[str] = []
    composed: list[tuple[str, str]] = []
    for k, tensor in enumerate(program.inputs):
        for axis, dim in enumerate(tensor.shape):
            symbol, text = lone_symbol(dim), size(k, axis)
            if symbol is None and isinstance(dim, Size):
                composed.append((f"{text} != {sizes.source(dim)}", tensor.name))
            elif symbol is None:
                lines += fail(f"{text} != {dim}", f"input {tensor.name} has a wrong size")
            elif symbol in known:
                lines += fail(f"{text} != {known[symbol]}", f"input {tensor.name} has a wrong size")
            else:
                known[symbol] = sizes.names[symbol]
                lines.append(f"{known[symbol]} = {text}")
    for symbol, name in list(known.items()):
        other = lone_symbol(symbol.bound)
        while other is not None and other not in known:  # no input's own, but found equal to one
            known[other] = sizes.names[other]
            lines.append(f"{known[other]} = {name}")
            other = lone_symbol(other.bound)
    lines += [f"{name} = 0" for symbol, name in sizes.names.items() if symbol not in known]
    for condition, name in composed:
        lines += fail(condition, f"input {name} has a wrong size")
    for guard in program.graph.sizes.guards:
        if all(symbol in known for symbol in guard.symbols()):
            lines += fail(f"not ({sizes.source(guard.left)} {guard.sign} {sizes.source(guard.right)})",
                          f"sizes must fulfil {guard}")
    for dim, where in program.code.checks.computed:
        lines += fail(f"({sizes.source(dim)}) < 0", f"an array would have a negative size, {dim}{at(where)}")
    for name, _, shape, axes, where in program.code.checks.extrema:
        lines += fail(" or ".join(f"({sizes.source(shape[a])}) <= 0" for a in axes),
                      f"{name} of no elements{at(where)}")
    return lines


def make_measure(program: Program, counted: Sequence[Any]) -> Callable[..., tuple[int, ...] | None]:
    """``measure(shapes, counts)``: the values of the unknown sizes, or None for shapes that do not fit.

    `counts` are the values of the sizes `counted`. What exactly does not fit is for slower code to find out.
    """
    names = program.code.layout.sizes.names
    targets = ["".join(f"d{k}_{axis}, " for axis in range(len(t.shape))) for k, t in enumerate(program.inputs)]
    lines = [f"{''.join(f'[{t}], ' for t in targets)} = shapes"] if targets else []
    lines += [f"{''.join(f'{names[symbol]}, ' for symbol in counted)} = counts"] if counted else []
    lines += size_lines(program, lambda k, axis: f"d{k}_{axis}",
                        lambda condition, message: [f"if {condition}: return None"], counted)
    lines.append(f"return ({''.join(f'{name}, ' for name in names.values())})")
    scope: dict[str, Any] = {}
    exec("\n".join(["def measure(shapes, counts):", *(f"    {line}" for line in lines)]), scope)
    return scope["measure"]  # type: ignore[no-any-return]
