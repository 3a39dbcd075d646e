"""The steps of a program as text for Numba: kernels called one after the other, loops and branches as Python's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from numgrad.compiler.lowering import Launch, kernels
from numgrad.compiler.recipe import ALIGN
from numgrad.compiler.tables import CHUNK_ELEMENTS
from numgrad.errors import at

if TYPE_CHECKING:
    from numgrad.compiler.code import Code

__all__ = ["StepWriter"]

Locate = Callable[[str, int], str]  # ("input" or "output", number) -> text of an address
_COPY = """def kernel(args, lo, hi):
    source = as_u8(args[0])
    target = as_u8(args[1])
    for i in range(lo, hi):
        target[i] = source[i]
"""


class StepWriter:
    """Writes the steps of codes, and what these need before the first of them runs.

    Attributes
    ----------
    setup : list of str
        Lines that allocate the memory of all codes; nothing is allocated inside loops.
    scope : dict
        The kernels and constants that the lines name.
    """

    def __init__(self) -> None:
        self.setup: list[str] = ["status = np.zeros(1, np.int64)"]
        self.scope: dict[str, Any] = {"np": np}
        self._alive = ["status"]
        self._codes = 0

    def keep_alive(self) -> str:
        """A line that reads every array: the tables hold bare addresses, so the arrays must outlive the last kernel."""
        return f"status[0] = status[0] + 0 * ({' + '.join(f'{a}.size' for a in self._alive)})"

    def code(self, code: Code, locate: Locate) -> list[str]:
        """The lines that run a code."""
        self._codes += 1
        return _CodeWriter(self, code, f"{self._codes}", locate).lines

    def array(self, name: str, count: str, dtype: str = "int64") -> None:
        """Allocate an array in the setup."""
        self.setup.append(f"{name} = np.empty({count}, np.{dtype})")
        self._alive.append(name)

    def memory(self, name: str, size: str) -> str:
        """Allocate aligned bytes in the setup: the variable that holds their address."""
        self.array(f"m{name}", f"{size} + {ALIGN}", "uint8")
        self.setup.append(f"{name} = (np.int64(m{name}.ctypes.data) + {ALIGN - 1}) // {ALIGN} * {ALIGN}")
        return name

    def external(self, symbol: str, address: int) -> str:
        """A kernel as a function that Numba code calls by name, so that the caller's own cache stays valid."""
        import llvmlite.binding
        from numba import types

        name = f"k_{symbol}"
        if name not in self.scope:
            llvmlite.binding.add_symbol(symbol, address)
            face = types.void(types.voidptr, types.int64, types.int64)
            self.scope[name] = types.ExternalFunction(symbol, face)
        return name

    def copy(self, source: str, target: str, size: str) -> list[str]:
        """Lines that copy bytes from one address to another."""
        built = kernels("build").build_source(_COPY)
        name = self.external(built.symbol, built.address)
        if "copied" not in self._alive:
            self.array("copied", "2")
        return [f"copied[0] = {source}", f"copied[1] = {target}", f"{name}(copied.ctypes, 0, {size})"]


class _CodeWriter:
    """Writes one code; `name` tells its variables from those of others."""

    def __init__(self, writer: StepWriter, code: Code, name: str, locate: Locate) -> None:
        self.writer, self.code, self.name, self.locate = writer, code, name, locate
        self.layout = code.layout
        self.sizes = [self.layout.sizes.source(e) for e in self.layout.sizes.expressions]
        self.lines: list[str] = []
        self._allocate()
        for k, launch in enumerate(code.launches):
            if launch.bodies:
                self._control(k, launch)
            else:
                self._kernel(k, launch)

    def _allocate(self) -> None:
        writer, total = self.writer, "0"
        for slot, index in enumerate(self.layout.slot_bytes):
            writer.setup.append(f"a{self.name}_{slot} = {total}")
            total = f"e{self.name}_{slot}"
            writer.setup.append(
                f"{total} = a{self.name}_{slot} + (({self.sizes[index]}) + {ALIGN - 1}) // {ALIGN} * {ALIGN}")
        self.base = writer.memory(f"base{self.name}", total)
        for k, (index, itemsize) in enumerate(self.layout.scratch):
            writer.memory(f"w{self.name}_{k}", f"({self.sizes[index]}) * {itemsize}")
        pool = f"sizes{self.name}"
        writer.array(pool, str(max(1, len(self.layout.size_nodes))))
        writer.setup += [f"{pool}[{i}] = {self.sizes[index]}" for i, index in enumerate(self.layout.size_nodes)]
        for i, constant in enumerate(self.code.constants):
            writer.scope[f"c{self.name}_{i}"] = constant

    def address(self, kind: str, where: Any) -> str:
        """The address of a buffer."""
        if kind == "arena":
            return f"{self.base} + a{self.name}_{self.layout.homes[where]}"
        if kind == "constant":
            return f"np.int64(c{self.name}_{where}.ctypes.data)"
        if kind == "size":
            return f"np.int64(sizes{self.name}.ctypes.data) + {8 * where}"
        return self.locate(kind, where)

    # -- kernels
    def _kernel(self, k: int, launch: Launch) -> None:
        table, entries = f"t{self.name}_{k}", self.layout.rows[k][1]
        self.writer.array(table, str(max(1, len(entries))))
        chunked = self.layout.chunked[k]
        if chunked is not None:
            first, below = (self.sizes[i] for i in chunked)
            self.writer.setup += [f"length{self.name}_{k} = max(1, {CHUNK_ELEMENTS} // max(1, {below}))",
                                  f"count{self.name}_{k} = max(1, (({first}) + length{self.name}_{k} - 1)"
                                  f" // length{self.name}_{k})"]
            self._chunked = f"{self.name}_{k}"
        for i, entry in enumerate(entries):
            self.lines.append(f"{table}[{i}] = {self._entry(k, *entry)}")
        span = self.layout.spans[k]
        high = {"chunks": f"count{self.name}_{k}", "combine": "1"}[span] if isinstance(span, str) else self.sizes[span]
        name = self.writer.external(launch.symbol, launch.address)
        self.lines.append(f"{name}({table}.ctypes, 0, {high})")
        failure = self.layout.failures[k]
        if failure is not None:
            error = "IndexError" if failure.raises == "IndexError" else "ValueError"  # Numba knows no LinAlgError
            text = f"{failure.name}: {failure.text}{at(launch.where)}"
            self.lines += ["if status[0] != 0:", f"    raise {error}({text!r})"]

    def _entry(self, k: int, kind: str, where: Any, offset: int, itemsize: int) -> str:
        if kind == "dim":
            return self.sizes[where]
        if kind in ("chunk", "chunks"):
            return f"{'length' if kind == 'chunk' else 'count'}{self._chunked}"
        if kind == "status":
            return "np.int64(status.ctypes.data)"
        if kind == "scratch":
            return f"w{self.name}_{where}"
        if kind == "partials":
            # One buffer of partial results a reduction; the launch that combines them names the same one.
            name = f"y{self.name}_{where[0]}_{where[1]}"
            if self.layout.chunked[k] is not None:
                self.writer.memory(name, f"count{self._chunked} * {itemsize}")
            return name
        shift = self.sizes[offset] if itemsize else "0"
        return self.address(kind, where) + ("" if shift == "0" else f" + ({shift}) * {itemsize}")

    # -- loops and branches
    def _control(self, k: int, launch: Launch) -> None:
        name, control = f"{self.name}_{k}", self.layout.controls[k]
        assert control is not None
        if launch.title == "switch":
            return self._switch(name, launch)
        carries, rows = len(control.carries), len(control.rows)
        counting = launch.title == "trip_count"
        sizes = [self.sizes[i] for i in control.carries]
        for i, size in enumerate(sizes):
            for letter in "uv":
                self.writer.memory(f"{letter}{name}_{i}", size)
            self.lines += self.writer.copy(self.address(*control.inputs[i]), f"u{name}_{i}", size)

        def located(kind: str, where: int) -> str:
            if where < carries:
                return f"{'u' if kind == 'input' else 'v'}{name}_{where}"
            if kind == "output":
                row = self.sizes[control.stacked[where - carries][0]]
                return f"{self.address(*control.outputs[where])} + r{name} * ({row})"
            found = self.address(*control.inputs[where])
            if where < carries + rows:
                return f"{found} + r{name} * ({self.sizes[control.rows[where - carries][0]]})"
            return found

        swap = [f"u{name}_{i}, v{name}_{i} = v{name}_{i}, u{name}_{i}" for i in range(carries)]
        if launch.title == "scan":
            trips = self.sizes[control.length]
            backwards = control.attrs["reverse"]
            body = [f"r{name} = {f'({trips}) - 1 - i{name}' if backwards else f'i{name}'}",
                    *self.writer.code(launch.bodies[0], located), *swap]
            self.lines += [f"for i{name} in range({trips}):", *_indented(body)]
        else:
            self.writer.array(f"f{name}", "1", "uint8")

            def tested(kind: str, where: int) -> str:
                return f"np.int64(f{name}.ctypes.data)" if kind == "output" else located(kind, where)

            most = control.attrs["maximum"]
            body = [*self.writer.code(launch.bodies[0], tested), f"if f{name}[0] == 0:", "    break",
                    *self.writer.code(launch.bodies[1], located), *swap, f"i{name} += 1"]
            self.lines += [f"i{name} = 0", f"while {'True' if most is None else f'i{name} < {int(most)}'}:",
                           *_indented(body)]
        if counting:
            self.writer.array(f"n{name}", "1")
            self.lines += [f"n{name}[0] = i{name}",
                           *self.writer.copy(f"np.int64(n{name}.ctypes.data)", self.address(*control.outputs[0]), "8")]
            return None
        for i, size in enumerate(sizes):
            self.lines += self.writer.copy(f"u{name}_{i}", self.address(*control.outputs[i]), size)
        return None

    def _switch(self, name: str, launch: Launch) -> None:
        control = self.layout.controls[int(name.rpartition("_")[2])]
        assert control is not None

        def located(kind: str, where: int) -> str:
            return self.address(*(control.outputs[where] if kind == "output" else control.inputs[where + 1]))

        self.writer.array(f"n{name}", "1")
        self.lines += self.writer.copy(self.address(*control.inputs[0]), f"np.int64(n{name}.ctypes.data)", "8")
        last = len(launch.bodies) - 1
        for k, body in enumerate(launch.bodies):
            test = "else:" if k == last else f"{'el' * bool(k)}if n{name}[0] == {k}:"
            self.lines += [test if last else "if True:", *_indented([*self.writer.code(body, located), "pass"])]


def _indented(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines]
