"""Op records: the facts about each operation, and the table that holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numgrad.types import Dim, Spec

if TYPE_CHECKING:
    from numgrad.graph.core import Operation, Tensor

__all__ = ["KINDS", "OPS", "Library", "OpRecord", "Regions", "View", "register"]

KINDS = ("elementwise", "reduction", "linear", "general", "constant", "effect")


@dataclass(frozen=True)
class Library:
    """How a hand-written kernel is called: kernel name, integer arguments, scratch buffers, range of work.

    The kernel's argument table holds the addresses of the inputs, of the outputs and of the scratch buffers, then the
    integers of `sizes`, then the address of the status word if `status` is set. It is called for ``lo = 0``,
    ``hi = span`` or for disjoint chunks of that range (when `parallel`). A kernel that writes non-zero to the status
    word makes the call raise `raises` (numpy.linalg.LinAlgError if None) with the text `error`.

    `pick` chooses another kernel, which takes the same arguments, for some specs.

    With `function` the kernel is made of a user's function of arrays: ``function(attrs) -> (callable, attributes)``;
    integers and sizes among the attributes follow `sizes` in the table, the other attributes are constants of the
    kernel.
    """

    name: str
    sizes: Callable[[Sequence[Spec], Sequence[Spec], Mapping[str, Any]], Sequence[Dim]]
    span: Callable[[Sequence[Spec], Sequence[Spec], Mapping[str, Any]], Dim] = lambda ins, outs, attrs: 1
    scratch: Callable[[Sequence[Spec], Sequence[Spec], Mapping[str, Any]], Sequence[tuple[Any, Dim]]] = (
        lambda ins, outs, attrs: ()
    )
    dtypes: Callable[[Sequence[Spec], Sequence[Spec], Mapping[str, Any]], Sequence[Any]] = (
        lambda ins, outs, attrs: [s.dtype for s in (*ins, *outs)]
    )
    flops: Callable[[Sequence[Spec], Sequence[Spec], Mapping[str, Any]], Dim] | None = None
    status: bool = False
    parallel: bool = False
    error: str = ""
    raises: type[Exception] | None = None
    pick: Callable[[Sequence[Spec], Sequence[Spec], Mapping[str, Any]], str] | None = None
    function: Callable[[Mapping[str, Any]], tuple[Callable[..., Any], Mapping[str, Any]]] | None = None


@dataclass(frozen=True)
class View:
    """How an op re-reads its input by index arithmetic: per output axis a stride, and an offset.

    `access(spec_in, spec_out, attrs, strides) -> (offset, strides_out)`; all are counted in elements.
    """

    access: Callable[[Spec, Spec, Mapping[str, Any], Sequence[Dim]], tuple[Dim, Sequence[Dim]] | None]


@dataclass(frozen=True)
class Regions:
    """How an op's output is put together from its inputs: each input is written to a strided region of the output.

    `place(specs_in, spec_out, attrs, strides) -> [(offset, strides of the input's axes in the output), ...]`, in
    elements; `strides` are the output's. With `fill` the rest of the output is zero.
    """

    place: Callable[[Sequence[Spec], Spec, Mapping[str, Any], Sequence[Dim]], Sequence[tuple[Dim, Sequence[Dim]]]]
    fill: bool = False


@dataclass(frozen=True)
class OpRecord:
    """The facts about an operation.

    Parameters
    ----------
    name : str
        The op's type, unique in the table.
    kind : str
        One of `KINDS`.
    infer : callable
        ``infer(specs, attrs) -> tuple of Spec``: the dtypes and shapes of the outputs; raises ShapeError or DtypeError.
    evaluate : callable
        ``evaluate(*arrays, **attrs)``: the meaning, in NumPy; one array, or a tuple for several outputs.
    vjp : callable, optional
        ``vjp(op, cotangents) -> list`` with one tensor or None for each input.
    jvp : callable, optional
        ``jvp(op, tangents) -> list`` with one tensor or None for each output; `tangents` hold None for no path. Without
        it forward mode transposes `vjp`.
    partials : tuple, optional
        Elementwise ops: for each input a function ``(y, *inputs, **attrs)`` that gives the partial derivative, or None
        where there is none. It stands for both `vjp` and `jvp`.
    decompose : callable, optional
        ``decompose(*tensors, **attrs)``: the same value in simpler ops, for the compiler.
    library, view, regions : optional
        How the compiler runs the op when it is neither elementwise nor a plain reduction.
    masks : bool
        Whether the op's cotangents may be exact zeros for elements that did not take part; what lies upstream then
        multiplies so that ``0 * inf`` is 0.
    domain : tuple, optional
        Per input, the interval (lo, hi) from which tests sample; None for any real.
    samples : callable, optional
        ``samples(rng) -> list of (arrays, attrs)``: inputs for the tests of an op that an interval does not describe.
    dtypes : str
        Kinds of dtype that the op takes: letters of ``"biufc"``.
    smooth : bool
        Whether derivatives exist at almost all sampled points (tests then check them).
    public : str
        Where the op is found: ``"exp"``, ``"linalg.solve"``, ``""`` for internal ops.
    doc : str
        One sentence.
    """

    name: str
    kind: str
    infer: Callable[[Sequence[Spec], Mapping[str, Any]], tuple[Spec, ...]]
    evaluate: Callable[..., Any]
    vjp: Callable[[Operation, Sequence[Tensor | None]], Sequence[Tensor | None]] | None = None
    jvp: Callable[[Operation, Sequence[Tensor | None]], Sequence[Tensor | None]] | None = None
    partials: tuple[Callable[..., Any] | None, ...] | None = None
    decompose: Callable[..., Any] | None = None
    library: Library | None = None
    view: View | None = None
    regions: Regions | None = None
    masks: bool = False
    domain: tuple[tuple[float, float] | None, ...] = ()
    samples: Callable[[Any], Sequence[tuple[Sequence[Any], Mapping[str, Any]]]] | None = None
    dtypes: str = "biufc"
    smooth: bool = True
    public: str = ""
    doc: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def differentiable(self) -> bool:
        """Whether any derivative rule is known."""
        return self.vjp is not None or self.partials is not None


OPS: dict[str, OpRecord] = {}


def register(record: OpRecord) -> OpRecord:
    """Enter a record into the op table; ValueError when the name is taken or the kind unknown."""
    if record.name in OPS:
        raise ValueError(f"op {record.name!r} is already in the table")
    if record.kind not in KINDS:
        raise ValueError(f"op {record.name!r}: unknown kind {record.kind!r}; one of {', '.join(KINDS)}")
    OPS[record.name] = record
    return record
