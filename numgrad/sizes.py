"""Sizes that are known only when a program runs: integer polynomials in unknown sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from numgrad.errors import ShapeError, at, user_line

if TYPE_CHECKING:
    from numgrad.assumptions import ShapeEnv

__all__ = ["COMPOUND", "Dim", "Shape", "Size", "canonical", "canonical_shape", "compound_atom", "dim_key", "dim_value",
           "lone_symbol", "same_shape", "same_size", "size_bits", "size_isqrt", "size_max", "size_min",
           "size_product"]


class Symbol:
    """An unknown size: a name for display, a value seen while tracing (`hint`), and what it was found equal to."""

    __slots__ = ("bound", "env", "hint", "name", "number", "source")

    def __init__(self, env: ShapeEnv, name: str | None, hint: int | None, number: int) -> None:
        self.env, self.name, self.hint, self.number = env, name, hint, number
        self.bound: Dim | None = None
        self.source: Any = None  # the tensor whose value it takes, for a size that is found out while a program runs

    def __lt__(self, other: Any) -> bool:
        return _atom_key(self) < _atom_key(other)

    def __str__(self) -> str:
        return self.name if self.name is not None else f"?{self.number}"


class _Compound:
    """No polynomial: ``floordiv``, ``mod``, ``max`` or ``min`` of two sizes, ``isqrt`` or ``bits`` of one."""

    __slots__ = ("args", "kind")

    def __init__(self, kind: str, args: tuple[Dim, Dim]) -> None:
        self.kind, self.args = kind, args

    def _key(self) -> tuple[Any, ...]:
        return (self.kind, *(dim_key(a) for a in self.args))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Compound) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __lt__(self, other: Any) -> bool:
        return _atom_key(self) < _atom_key(other)

    def __str__(self) -> str:
        sign = {"floordiv": "//", "mod": "%"}.get(self.kind)
        a, b = (f"({x})" if isinstance(x, Size) and len(x.terms) > 1 else str(x) for x in self.args)
        return f"({a}{sign}{b})" if sign else f"{self.kind}({a},{b})"


def compound_atom(kind: str, a: Dim, b: Dim) -> Any:
    """The atom that stands for ``floordiv``, ``mod``, ``max`` or ``min`` of two sizes in the terms of a third."""
    return _Compound(kind, (a, b))


def _atom_key(atom: Any) -> tuple[Any, ...]:
    return (0, atom.number) if isinstance(atom, Symbol) else (1, repr(atom._key()))


def dim_key(dim: Dim) -> Any:
    """A hashable stand-in for a size's structure; comparing it records no guard."""
    return dim if isinstance(dim, int) else dim.key



#: Kinds of sizes that are no polynomials, and what they are for integers.
COMPOUND: dict[str, Callable[[int, int], int]] = {
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "max": max,
    "min": min,
    "isqrt": lambda a, _: math.isqrt(a),
    "bits": lambda a, _: a.bit_length(),
}

_Terms = tuple[tuple[tuple[Any, ...], int], ...]


class Size:
    """A size that is known only when the program is called: an integer polynomial in unknown sizes.

    Arithmetic with integers and other sizes gives sizes. Inside a traced function, looking at the value
    (``range(n)``, ``if n > 3``) answers with the value of the present call and records that as a guard: a call for
    which the answer would differ is traced anew. In a graph of placeholders there is no value to look at and
    `ShapeError` is raised.
    """

    __slots__ = ("key", "terms")
    __array_priority__ = 90.0
    lift: Callable[[Size], Any] | None = None  # set by the ops floor: the scalar tensor that holds this size

    def __init__(self, terms: _Terms) -> None:
        self.terms = terms
        self.key = tuple([(c, tuple([_atom_key(a) for a in m])) for m, c in terms])

    # -- structure
    def symbols(self) -> Iterable[Symbol]:
        for monomial, _ in self.terms:
            for atom in monomial:
                if isinstance(atom, Symbol):
                    yield atom
                else:
                    for arg in atom.args:
                        if isinstance(arg, Size):
                            yield from arg.symbols()

    @property
    def env(self) -> ShapeEnv:
        return next(iter(self.symbols())).env

    def substitute(self, values: Callable[[Symbol], Dim]) -> Dim:
        total: Dim = 0
        for monomial, coefficient in self.terms:
            product: Dim = coefficient
            for atom in monomial:
                if isinstance(atom, Symbol):
                    factor = values(atom)
                else:
                    a, b = (x.substitute(values) if isinstance(x, Size) else x for x in atom.args)
                    factor = _compound(atom.kind, a, b)
                product = _multiply(product, factor)
            total = _add(total, product)
        return total

    def canonical(self) -> Dim:
        """The same size with every symbol replaced by what it was found equal to."""
        if all(s.bound is None for s in self.symbols()):
            return self
        return self.substitute(_root)

    def evaluate(self, values: Mapping[Any, int]) -> int:
        """The integer value under an assignment of the unknown sizes."""
        result = self.substitute(lambda s: values[s])
        assert isinstance(result, int)
        return result

    # -- arithmetic
    def __add__(self, other: Any) -> Any:
        return _lifted(self, other, _add, "__add__")

    __radd__ = __add__

    def __mul__(self, other: Any) -> Any:
        return _lifted(self, other, _multiply, "__mul__")

    __rmul__ = __mul__

    def __neg__(self) -> Dim:
        return _multiply(self, -1)

    def __sub__(self, other: Any) -> Any:
        return _lifted(self, other, lambda a, b: _add(a, _multiply(b, -1)), "__sub__")

    def __rsub__(self, other: Any) -> Any:
        return _lifted(self, other, lambda a, b: _add(b, _multiply(a, -1)), "__rsub__")

    def __floordiv__(self, other: Any) -> Any:
        return _lifted(self, other, lambda a, b: _compound("floordiv", a, b), "__floordiv__")

    def __rfloordiv__(self, other: Any) -> Any:
        return _lifted(self, other, lambda a, b: _compound("floordiv", b, a), "__rfloordiv__")

    def __mod__(self, other: Any) -> Any:
        return _lifted(self, other, lambda a, b: _compound("mod", a, b), "__mod__")

    def __rmod__(self, other: Any) -> Any:
        return _lifted(self, other, lambda a, b: _compound("mod", b, a), "__rmod__")

    def __truediv__(self, other: Any) -> Any:
        return self.tensor() / other

    def __rtruediv__(self, other: Any) -> Any:
        return other / self.tensor()

    def __pow__(self, other: Any) -> Any:
        if isinstance(other, int) and 0 <= other <= 8:
            return size_product([self] * other)
        return self.tensor() ** other

    def __rpow__(self, other: Any) -> Any:
        return other ** self.tensor()

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return getattr(ufunc, method)(*(x.tensor() if isinstance(x, Size) else x for x in inputs), **kwargs)

    def tensor(self) -> Any:
        """This size as a scalar int64 tensor of the graph being built."""
        assert Size.lift is not None
        return Size.lift(self)

    # -- looking at the value
    def _value(self, what: str) -> int:
        dim = self.canonical()
        if isinstance(dim, int):
            return dim
        value = self.env.hint(dim)
        if value is None:
            raise ShapeError(f"{what} needs the value of the size {dim}, which is known only when the program runs; "
                             f"give the placeholder a fixed size, or use an operation that works on sizes (ng.arange, "
                             f"ng.zeros, ng.eye, ng.reshape, reductions){at(user_line())}")
        return value

    def _look(self, what: str) -> int:
        value = self._value(what)
        dim = self.canonical()
        if isinstance(dim, Size):
            dim.env.guard(dim, "==", value)
        return value

    def __index__(self) -> int:
        return self._look("using a size as an integer")

    __int__ = __index__

    def __float__(self) -> float:
        return float(self._look("float()"))

    def __bool__(self) -> bool:
        return self._compare("!=", 0)

    def _compare(self, sign: str, other: Any) -> bool:
        difference = (self - other) if isinstance(other, Size) else _add(self.canonical(), -other)
        difference = canonical(difference)
        if isinstance(difference, int):
            return SIGNS[sign](difference, 0)
        if sign in ("==", "!=") and difference.env.hint(difference) is None:
            return sign == "!="
        outcome = SIGNS[sign](difference._value(f"comparing sizes with {sign}"), 0)
        difference.env.guard(difference, sign if outcome else _OPPOSITE[sign], 0)
        return outcome

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (int, np.integer, Size)):
            return self._compare("==", other)
        return NotImplemented

    def __lt__(self, other: Any) -> bool:
        return self._compare("<", other)

    def __le__(self, other: Any) -> bool:
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> bool:
        return self._compare(">", other)

    def __ge__(self, other: Any) -> bool:
        return self._compare(">=", other)

    def __hash__(self) -> int:
        return hash(dim_key(canonical(self)))

    def __repr__(self) -> str:
        parts = []
        for monomial, coefficient in self.terms:
            factors = [str(a) for a in monomial]
            if coefficient != 1 or not factors:
                factors.insert(0, str(coefficient))
            parts.append("*".join(factors))
        return "+".join(parts).replace("+-", "-")


Dim = int | Size
Shape = tuple[Dim, ...]

SIGNS: dict[str, Callable[[int, int], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}


def _root(symbol: Symbol) -> Dim:
    if symbol.bound is None:
        return _make({(symbol,): 1})
    return canonical(symbol.bound)


def canonical(dim: Dim) -> Dim:
    """A size with every symbol replaced by what it was found equal to."""
    return dim if isinstance(dim, int) else dim.canonical()


def _make(terms: dict[tuple[Any, ...], int]) -> Dim:
    kept = {m: c for m, c in terms.items() if c}
    if not kept:
        return 0
    if len(kept) == 1 and () in kept:
        return kept[()]
    return Size(tuple(sorted(kept.items(), key=lambda item: (-len(item[0]), [_atom_key(a) for a in item[0]]))))


def _terms(dim: Dim) -> _Terms:
    return dim.terms if isinstance(dim, Size) else (((), dim),) if dim else ()


def _add(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    total: dict[tuple[Any, ...], int] = dict(_terms(a))
    for monomial, coefficient in _terms(b):
        total[monomial] = total.get(monomial, 0) + coefficient
    return _make(total)


def _multiply(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int):
        if a == 1 or isinstance(b, int):
            return b if a == 1 else a * b
    elif isinstance(b, int) and b == 1:
        return a
    total: dict[tuple[Any, ...], int] = {}
    for m, c in _terms(a):
        for n, d in _terms(b):
            key = tuple(sorted(m + n, key=_atom_key))
            total[key] = total.get(key, 0) + c * d
    return _make(total)


def _divide_exactly(a: Dim, b: Dim) -> Dim | None:
    """a/b when b is a single term that divides every term of a."""
    divisor = _terms(b)
    if len(divisor) != 1:
        return 1 if dim_key(a) == dim_key(b) else None
    (monomial, coefficient), = divisor
    result: dict[tuple[Any, ...], int] = {}
    for m, c in _terms(a):
        rest = list(m)
        for atom in monomial:
            if atom not in rest:
                return None
            rest.remove(atom)
        if c % coefficient:
            return None
        result[tuple(rest)] = c // coefficient
    return _make(result)


def _compound(kind: str, a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        return COMPOUND[kind](a, b)
    if kind in ("floordiv", "mod"):
        if isinstance(b, int) and b == 0:
            raise ZeroDivisionError("division of a size by zero")
        exact = _divide_exactly(a, b)
        if exact is not None:
            return exact if kind == "floordiv" else 0
    elif kind in ("max", "min") and dim_key(a) == dim_key(b):
        return a
    return _make({(_Compound(kind, (a, b)),): 1})


def _lifted(size: Size, other: Any, operation: Callable[[Dim, Dim], Dim], method: str) -> Any:
    if isinstance(other, Size):
        return operation(size, other)
    if isinstance(other, (int, np.integer)) and not isinstance(other, bool):
        return operation(size, int(other))
    if isinstance(other, (float, complex, np.generic, np.ndarray)):
        return getattr(size.tensor(), method)(other)
    return NotImplemented


def lone_symbol(dim: Dim | None) -> Symbol | None:
    """The unknown size that a size consists of, or None when it is anything more."""
    if isinstance(dim, Size) and len(dim.terms) == 1:
        (monomial, coefficient), = dim.terms
        if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], Symbol):
            return monomial[0]
    return None


def same_size(a: Dim, b: Dim) -> bool:
    """Whether two sizes are known to be equal, without recording anything."""
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    return bool(dim_key(canonical(a)) == dim_key(canonical(b)))


def same_shape(a: Sequence[Dim], b: Sequence[Dim]) -> bool:
    """Whether two shapes are known to be equal."""
    if len(a) != len(b):
        return False
    for x, y in zip(a, b, strict=True):
        if x is not y and not same_size(x, y):
            return False
    return True


def canonical_shape(shape: Iterable[Dim]) -> Shape:
    """A shape with every unknown size replaced by what it was found equal to."""
    if type(shape) is tuple:
        for dim in shape:
            if type(dim) is not int:
                break
        else:
            return shape
    return tuple(d if isinstance(d, int) else d.canonical() for d in shape)


def size_product(sizes: Iterable[Dim]) -> Dim:
    """The number of elements: the product of sizes, 1 for none."""
    total: Dim = 1
    for size in sizes:
        total = _multiply(total, size)
    return total


def size_max(a: Dim, b: Dim) -> Dim:
    """The larger of two sizes."""
    return _compound("max", a, b)


def size_isqrt(a: Dim) -> Dim:
    """The integer part of the square root of a size that is not negative."""
    return _compound("isqrt", a, 0)


def size_bits(a: Dim) -> Dim:
    """How many binary digits a size has; 0 for 0."""
    return _compound("bits", a, 0)


def size_min(a: Dim, b: Dim) -> Dim:
    """The smaller of two sizes."""
    return _compound("min", a, b)


def dim_value(dim: Dim, values: Mapping[Any, int]) -> int:
    """The integer that a size has under an assignment of the unknown ones."""
    return dim if isinstance(dim, int) else dim.evaluate(values)
