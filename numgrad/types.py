"""Data types and their promotion, and shapes whose sizes may be unknown or named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Union

import numpy as np

from numgrad.errors import DtypeError, ShapeError, SourceLine, at, user_line

__all__ = [
    "Dim",
    "Shape",
    "ShapeEnv",
    "Size",
    "Spec",
    "as_dtype",
    "broadcast_shapes",
    "is_trainable",
    "promote",
    "same_shape",
    "same_size",
    "size_product",
]

SUPPORTED_DTYPES = tuple(
    np.dtype(c) for c in "? i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 c8 c16".split()
)
_CANONICAL = {dtype: dtype for dtype in SUPPORTED_DTYPES}  # to the object that NumPy's own arrays carry
_KIND_NAMES = {"b": "bool", "i": "integer", "u": "integer", "f": "float", "c": "complex"}


def as_dtype(value: Any) -> np.dtype[Any]:
    """The NumPy dtype (native byte order) that `value` names; DtypeError for unsupported ones."""
    try:
        dtype = np.dtype(value)
    except TypeError as error:
        raise DtypeError(f"not a data type: {value!r}; wanted one of bool, int8..uint64, float16..64, complex64/128"
                         f"{at(user_line())}") from error
    found = _CANONICAL.get(dtype) or _CANONICAL.get(dtype.newbyteorder("="))
    if found is None:
        raise DtypeError(f"data type {dtype} is not supported; wanted one of bool, int8..uint64, float16..64, "
                         f"complex64/128{at(user_line())}")
    return found


def is_trainable(dtype: np.dtype[Any]) -> bool:
    """Whether values of this dtype can carry derivatives (floating or complex)."""
    return dtype.kind in "fc"


def promote(*operands: Any) -> np.dtype[Any]:
    """NumPy's promotion (NEP 50) of dtypes and weak Python scalars."""
    try:
        return np.dtype(np.result_type(*operands))
    except TypeError as error:
        raise DtypeError(f"no common data type for {', '.join(map(str, operands))}{at(user_line())}") from error


class _Symbol:
    """An unknown size: a name for display, a value seen while tracing (`hint`), and what it was found equal to."""

    __slots__ = ("bound", "env", "hint", "name", "number")

    def __init__(self, env: ShapeEnv, name: str | None, hint: int | None, number: int) -> None:
        self.env, self.name, self.hint, self.number = env, name, hint, number
        self.bound: Dim | None = None

    def __lt__(self, other: Any) -> bool:
        return _atom_key(self) < _atom_key(other)

    def __str__(self) -> str:
        return self.name if self.name is not None else f"?{self.number}"


class _Compound:
    """A size that is no polynomial: ``floordiv``, ``mod``, ``max`` or ``min`` of two sizes."""

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


def _atom_key(atom: Any) -> tuple[Any, ...]:
    return (0, atom.number) if isinstance(atom, _Symbol) else (1, repr(atom._key()))


def dim_key(dim: Dim) -> Any:
    """A hashable stand-in for a size's structure; comparing it records no guard."""
    return dim if isinstance(dim, int) else dim.key


_COMPOUND: dict[str, Callable[[int, int], int]] = {
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "max": max,
    "min": min,
}

_Terms = tuple[tuple[tuple[Any, ...], int], ...]


class Size:
    """A size that is known only when the program is called: an integer polynomial in unknown sizes.

    Arithmetic with integers and other sizes gives sizes. Inside a traced function, looking at the value
    (``range(n)``, ``if n > 3``) answers with the value of the present call and records that as a guard: a call for which the
    answer would differ is traced anew. In a graph of placeholders there is no value to look at and `ShapeError` is raised.
    """

    __slots__ = ("key", "terms")
    __array_priority__ = 90.0
    lift: Callable[[Size], Any] | None = None  # set by the ops floor: the scalar tensor that holds this size

    def __init__(self, terms: _Terms) -> None:
        self.terms = terms
        self.key = tuple([(c, tuple([_atom_key(a) for a in m])) for m, c in terms])

    # -- structure
    def symbols(self) -> Iterable[_Symbol]:
        for monomial, _ in self.terms:
            for atom in monomial:
                if isinstance(atom, _Symbol):
                    yield atom
                else:
                    for arg in atom.args:
                        if isinstance(arg, Size):
                            yield from arg.symbols()

    @property
    def env(self) -> ShapeEnv:
        return next(iter(self.symbols())).env

    def substitute(self, values: Callable[[_Symbol], Dim]) -> Dim:
        total: Dim = 0
        for monomial, coefficient in self.terms:
            product: Dim = coefficient
            for atom in monomial:
                if isinstance(atom, _Symbol):
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
        difference = _canonical(difference)
        if isinstance(difference, int):
            return _SIGNS[sign](difference, 0)
        if sign in ("==", "!=") and difference.env.hint(difference) is None:
            return sign == "!="
        outcome = _SIGNS[sign](difference._value(f"comparing sizes with {sign}"), 0)
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
        return hash(dim_key(_canonical(self)))

    def __repr__(self) -> str:
        parts = []
        for monomial, coefficient in self.terms:
            factors = [str(a) for a in monomial]
            if coefficient != 1 or not factors:
                factors.insert(0, str(coefficient))
            parts.append("*".join(factors))
        return "+".join(parts).replace("+-", "-")


Dim = Union[int, Size]
Shape = tuple[Dim, ...]

_SIGNS: dict[str, Callable[[int, int], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}


def _root(symbol: _Symbol) -> Dim:
    if symbol.bound is None:
        return _make({(symbol,): 1})
    return _canonical(symbol.bound)


def _canonical(dim: Dim) -> Dim:
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
        return _COMPOUND[kind](a, b)
    if kind in ("floordiv", "mod"):
        if isinstance(b, int) and b == 0:
            raise ZeroDivisionError("division of a size by zero")
        exact = _divide_exactly(a, b)
        if exact is not None:
            return exact if kind == "floordiv" else 0
    elif dim_key(a) == dim_key(b):
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


class Guard(NamedTuple):
    """A relation between sizes that held while tracing and must hold for a call to use the trace."""

    left: Dim
    sign: str
    right: Dim
    where: SourceLine | None

    def holds(self, values: Mapping[Any, int]) -> bool:
        left, right = (x if isinstance(x, int) else x.evaluate(values) for x in (self.left, self.right))
        return _SIGNS[self.sign](left, right)

    def __str__(self) -> str:
        return f"{self.left} {self.sign} {self.right}{at(self.where)}"


class ShapeEnv:
    """The unknown sizes of one graph, what was found equal among them, and the guards of a trace."""

    def __init__(self) -> None:
        self.symbols: list[_Symbol] = []
        self.named: dict[str, Size] = {}
        self.guards: list[Guard] = []

    def fresh(self, name: str | None = None, hint: int | None = None) -> Size:
        """A new unknown size; the same named size for a name used before."""
        if name is not None and name in self.named:
            return self.named[name]
        symbol = _Symbol(self, name, hint, len(self.symbols))
        self.symbols.append(symbol)
        size = Size((((symbol,), 1),))
        if name is not None:
            self.named[name] = size
        return size

    def hint(self, dim: Dim) -> int | None:
        """The value of a size in the call being traced, or None."""
        if isinstance(dim, int):
            return dim
        values: dict[Any, int] = {}
        for symbol in dim.symbols():
            if symbol.hint is None:
                return None
            values[symbol] = symbol.hint
        return dim.evaluate(values)

    def guard(self, left: Dim, sign: str, right: Dim) -> None:
        """Record that `left sign right` was relied upon."""
        self.guards.append(Guard(left, sign, right, user_line()))

    def unify(self, a: Dim, b: Dim) -> Dim | None:
        """Take two sizes as equal from here on (checked at every call); None when they cannot be."""
        a, b = _canonical(a), _canonical(b)
        if same_size(a, b):
            return a
        if isinstance(a, int) and isinstance(b, int):
            return None
        hints = self.hint(a), self.hint(b)
        if None not in hints and hints[0] != hints[1]:
            return None
        self.guard(a, "==", b)
        for one, other in ((a, b), (b, a)):
            symbol = lone_symbol(one)
            if symbol is not None and not (isinstance(other, Size) and symbol in set(other.symbols())):
                if isinstance(other, Size) and symbol.name is not None and lone_symbol(other) is not None:
                    continue  # keep the named one of two as the representative
                symbol.bound = other
                return other
        symbol = lone_symbol(a)
        if symbol is not None and isinstance(b, Size):
            symbol.bound = b
            return b
        return a


def lone_symbol(dim: Dim) -> _Symbol | None:
    """The unknown size that a size consists of, or None when it is anything more."""
    if isinstance(dim, Size) and len(dim.terms) == 1:
        (monomial, coefficient), = dim.terms
        if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], _Symbol):
            return monomial[0]
    return None


def same_size(a: Dim, b: Dim) -> bool:
    """Whether two sizes are known to be equal, without recording anything."""
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    return dim_key(_canonical(a)) == dim_key(_canonical(b))


def same_shape(a: Sequence[Dim], b: Sequence[Dim]) -> bool:
    """Whether two shapes are known to be equal."""
    return len(a) == len(b) and all(same_size(x, y) for x, y in zip(a, b, strict=True))


def canonical_shape(shape: Iterable[Dim]) -> Shape:
    """A shape with every unknown size replaced by what it was found equal to."""
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


def size_min(a: Dim, b: Dim) -> Dim:
    """The smaller of two sizes."""
    return _compound("min", a, b)


def dim_value(dim: Dim, values: Mapping[Any, int]) -> int:
    """The integer that a size has under an assignment of the unknown ones."""
    return dim if isinstance(dim, int) else dim.evaluate(values)


def require_equal(a: Dim, b: Dim, message: Callable[[], str]) -> Dim:
    """The common size of two that must be equal; ShapeError with `message()` when they are not."""
    if isinstance(a, int) and isinstance(b, int):
        if a == b:
            return a
    else:
        env = a.env if isinstance(a, Size) else b.env  # type: ignore[union-attr]
        found = env.unify(a, b)
        if found is not None:
            return found
    raise ShapeError(message() + at(user_line()))


def _broadcast_size(a: Dim, b: Dim) -> Dim | None:
    a, b = _canonical(a), _canonical(b)
    if isinstance(a, int) and isinstance(b, int):
        return a if a == b or b == 1 else b if a == 1 else None
    if isinstance(a, int) and a == 1:
        return b
    if isinstance(b, int) and b == 1:
        return a
    env = a.env if isinstance(a, Size) else b.env  # type: ignore[union-attr]
    found = env.unify(a, b)
    if found is not None:
        return found
    for one, other in ((a, b), (b, a)):  # the present call shows that one of them is a broadcast axis
        if isinstance(one, Size) and env.hint(one) == 1:
            env.unify(one, 1)
            return other
    return None


def broadcast_shapes(shapes: Sequence[Shape], op: str) -> Shape:
    """NumPy's broadcast of shapes; unknown sizes that meet are taken as equal, and checked at each call."""
    first = shapes[0]
    if all(s is first or (len(s) == len(first) and all(x is y or (type(x) is int and type(y) is int and x == y)
                                                       for x, y in zip(s, first, strict=True))) for s in shapes):
        return first
    rank = max(map(len, shapes))
    result: list[Dim] = []
    for axis in range(-rank, 0):
        size: Dim = 1
        for shape in shapes:
            if -axis <= len(shape):
                met = _broadcast_size(size, shape[axis])
                if met is None:
                    axes = ", ".join(str(s[axis]) for s in shapes if -axis <= len(s))
                    raise ShapeError(f"{op}: cannot broadcast shapes {' and '.join(map(show_shape, shapes))} "
                                     f"(axis {axis}: {axes}); sizes must be equal or 1{at(user_line())}")
                size = met
        result.append(size)
    return canonical_shape(result)


def show_shape(shape: Sequence[Dim]) -> str:
    """A shape as text: ``(3,n)``."""
    return "(" + ",".join(str(_canonical(d)) for d in shape) + ("," if len(shape) == 1 else "") + ")"


class Spec(NamedTuple):
    """What is known of a tensor before it has a value: dtype and shape."""

    dtype: np.dtype[Any]
    shape: Shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype.name}{show_shape(self.shape)}"


def kind_name(dtype: np.dtype[Any]) -> str:
    """The family of a dtype in words."""
    return _KIND_NAMES[dtype.kind]
