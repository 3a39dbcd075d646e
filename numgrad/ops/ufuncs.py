"""The maker of elementwise ops and their public functions: NumPy's own loops choose the dtypes (NEP 50)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from numgrad.errors import DtypeError, at, user_line
from numgrad.graph.core import Tensor, WeakTensor, apply, as_tensor, weaken
from numgrad.graph.records import OpRecord, register
from numgrad.ops.kinds import Infer, cast_to, infer_same
from numgrad.types import Size

__all__ = ["as_floats", "convert", "document", "enter", "loop_dtype", "publish", "strengths", "ufunc"]

_KINDS = (("b", "bool"), ("iu", "integers"), ("f", "floats"), ("c", "complex numbers"))
_WEAK = (int, float, complex)
_WEAK_KINDS: dict[str, Any] = {"i": int, "f": float, "c": complex}


def strengths(values: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The operands as tensors or weak Python scalars, and for each its dtype or Python type (NEP 50).

    A `Size` is as weak as the integer that it stands for, and so is a number that was traced.
    """
    made: list[Any] = []
    strength: list[Any] = []
    for value in values:
        if isinstance(value, _WEAK) and not isinstance(value, (bool, np.generic)):
            made.append(value)
            strength.append(type(value) if type(value) in _WEAK else next(t for t in _WEAK if isinstance(value, t)))
        else:
            tensor = as_tensor(value)
            made.append(tensor)
            weak = isinstance(value, (Size, WeakTensor))
            strength.append(_WEAK_KINDS[tensor.dtype.kind] if weak else tensor.dtype)
    return made, strength


@lru_cache(maxsize=4096)
def _resolve(like: np.ufunc, strength: tuple[Any, ...]) -> np.dtype[Any]:
    found = like.resolve_dtypes((*strength, *(None,) * like.nout))
    dtypes, result = found[: like.nin], found[like.nin]
    common = np.dtype(np.result_type(*dtypes))
    # Integers of which NumPy makes a float (true division, exp) are cast first, so that kernels see one dtype.
    return result if common.kind in "biu" and result.kind in "fc" else common


def loop_dtype(like: np.ufunc, strength: Sequence[Any], op: str, dtypes: str) -> np.dtype[Any]:
    """The dtype in which NumPy's ufunc `like` computes; DtypeError where it, or the op, takes none."""
    if all(isinstance(s, type) for s in strength):  # NumPy has loops of Python objects for numbers alone
        strength = [np.dtype(s) for s in strength]
    try:
        dtype = _resolve(like, tuple(strength))
    except TypeError as error:
        raise _refused(op, strength, dtypes) from error
    if dtype.kind not in dtypes:
        raise _refused(op, strength, dtypes)
    return dtype


def _refused(op: str, strength: Sequence[Any], dtypes: str) -> DtypeError:
    got = " and ".join(s.__name__ if isinstance(s, type) else s.name for s in strength)
    return DtypeError(f"{op}: got {got}, wanted {taken(dtypes)}; use ng.cast{at(user_line())}")


def taken(dtypes: str) -> str:
    """Kinds of dtype in words: ``"if"`` is ``"integers, floats"``."""
    return ", ".join(word for letters, word in _KINDS if set(letters) & set(dtypes))


def convert(made: Sequence[Any], dtype: np.dtype[Any], op: str) -> list[Tensor]:
    """Tensors of one dtype; OverflowError for a Python integer that does not fit, as in NumPy."""
    result = []
    for value in made:
        if isinstance(value, Tensor):
            result.append(cast_to(value, dtype))
        else:
            try:
                result.append(as_tensor(np.asarray(value, dtype=dtype)))
            except OverflowError as error:
                raise OverflowError(f"{op}: {error}{at(user_line())}") from error
    return result


def enter(
    name: str,
    numpy: Callable[..., Any],
    like: np.ufunc,
    doc: str,
    *,
    out: str | None = None,
    infer: Infer | None = None,
    public: str | None = None,
    fixed: bool = False,
    **facts: Any,
) -> OpRecord:
    """Enter an elementwise op into the table; `like` is NumPy's ufunc whose loops choose the dtypes.

    `fixed` says that the partials look at the values of operands that are single numbers.
    """
    direct = infer is None and isinstance(numpy, np.ufunc) and numpy.nout == 1  # NumPy itself knows shapes and dtypes
    return register(
        OpRecord(
            name=name,
            kind="elementwise",
            infer=infer or infer_same(name, out),
            evaluate=numpy,
            doc=doc,
            public=name if public is None else public,
            facts={"arity": like.nin, "like": like, "fixed": fixed, "direct": direct},
            **facts,
        )
    )


def ufunc(
    name: str,
    numpy: Callable[..., Any],
    summary: str,
    math: str,
    example: str,
    result: str,
    *,
    like: np.ufunc | None = None,
    dtypes: str = "biufc",
    out: str | None = None,
    instead: Mapping[str, Callable[..., Tensor]] | None = None,
    names: tuple[str, ...] = (),
    **facts: Any,
) -> Callable[..., Tensor]:
    """Enter an elementwise op into the table and return its public function.

    Parameters
    ----------
    name : str
        Of the op, the function and the scalar formula that is its kernel.
    numpy : callable
        The meaning.
    summary, math, example, result : str
        For the docstring: one sentence, the mathematics, an expression and what it prints.
    like : numpy.ufunc, optional
        Whose loops choose the dtypes; `numpy` itself by default.
    dtypes : str
        Kinds that the op itself takes.
    out : str, optional
        ``"bool"`` or ``"real"`` when the result's dtype is not the operands'.
    instead : mapping, optional
        Kind of dtype -> function of the tensors that is used for that kind.
    names : tuple of str, optional
        Of the operands, for the docstring.
    **facts
        Further fields of the record: `partials`, `domain`, `vjp`, ...
    """
    loops = like if like is not None else numpy
    assert isinstance(loops, np.ufunc)
    redirected = dict(instead or {})
    accepted = dtypes + "".join(redirected)
    record = enter(name, numpy, loops, summary, out=out, dtypes=dtypes, **facts)

    # Dtypes of tensors, and classes of Python numbers that take them -> the dtype in which nothing else is converted.
    direct: dict[tuple[Any, ...], np.dtype[Any]] = {}

    def call(*values: Any) -> Tensor:
        known = direct.get(tuple([v.dtype if v.__class__ is Tensor else v.__class__ for v in values]))
        if known is not None:
            return apply(name, *[v if v.__class__ is Tensor else Tensor(known, (), None, 0, np.asarray(v, known))
                                 for v in values])
        made, strength = strengths(values)
        dtype = loop_dtype(loops, strength, name, accepted)
        tensors = convert(made, dtype, name)
        if all(isinstance(s, type) for s in strength) and any(isinstance(t, Tensor) for t in made):
            tensors = [weaken(t) for t in tensors]  # only numbers: what comes of them is a number still
        if dtype.kind in redirected:
            return redirected[dtype.kind](*tensors)
        if dtype.kind in "fc" and any(s is dtype for s in strength) and all(
                s is dtype or isinstance(s, type) for s in strength):  # not `in _WEAK`: dtype("f8") == float
            direct[tuple(strength)] = dtype
        return apply(name, *tensors)

    if loops.nin == 1:

        def function(x: Any, /) -> Tensor:
            return call(x)
    elif loops.nin == 2:

        def function(x: Any, y: Any, /) -> Tensor:  # type: ignore[misc]
            return call(x, y)
    else:

        def function(x: Any, lo: Any, hi: Any, /) -> Tensor:  # type: ignore[misc]
            return call(x, lo, hi)

    returns = {"bool": "Of bools", "real": "Of the operand's real dtype"}.get(
        out or "", "Of the dtype that NumPy gives"
    )
    text = document(summary, names or ("x", "y", "z")[: loops.nin], taken(accepted), returns, math, example, result)
    return publish(function, name, text, record)


def publish(
    function: Callable[..., Tensor], name: str, doc: str, record: OpRecord | None = None
) -> Callable[..., Tensor]:
    """Give a made function its public name, docstring and record."""
    function.__name__ = function.__qualname__ = name
    function.__module__ = "numgrad"
    function.__doc__ = doc
    if record is not None:
        function.record = record  # type: ignore[attr-defined]
    return function


def as_floats(x: Any, op: str) -> Tensor:
    """`x` as a float tensor, by the rule of NumPy's functions of real numbers."""
    made, strength = strengths((x,))
    return convert(made, loop_dtype(np.cbrt, strength, op, "f"), op)[0]


def document(summary: str, names: Sequence[str], kinds: str, returns: str, math: str, example: str, result: str) -> str:
    """The docstring of an elementwise function, from its facts."""
    several = len(names) > 1
    shape = "of the broadcast shape" if several else "of the operand's shape"
    errors = f"DtypeError\n    For other dtypes than {kinds}."
    if several:
        errors += "\nShapeError\n    When the shapes do not broadcast."
    return f"""{summary}

Parameters
----------
{", ".join(names)} : array_like
    {kinds[:1].upper()}{kinds[1:]}{"; shapes that broadcast" if several else "; any shape"}. Python scalars are weak.

Returns
-------
Tensor
    {returns}, {shape}.

Raises
------
{errors}

Notes
-----
{math}

Examples
--------
>>> import numgrad as ng
>>> {example}
{result}
"""
