"""What a tape records and when: entering, watching, pausing, and each use of what was recorded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from numgrad.autodiff.recording import Recording
from numgrad.autodiff.slices import IndexedSlices
from numgrad.errors import at, user_line
from numgrad.graph.core import Tensor, current_graph
from numgrad.graph.graph import Graph
from numgrad.graph.records import OpRecord
from numgrad.graph.scopes import scope_in, start, stop, without_graph
from numgrad.graph.variable import Variable
from numgrad.nest import flatten
from numgrad.types import is_trainable

__all__ = ["RecordingTape"]

_log = logging.getLogger("numgrad")


class RecordingTape:
    """The recording half of `GradientTape`."""

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True) -> None:
        self._persistent, self._watches_reads = bool(persistent), bool(watch_accessed_variables)
        self._recording: Recording | None = None
        self._variables: dict[Variable, None] = {}
        self._thread: int | None = None  # in which the tape is active
        self._paused = self._warned = False

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise ValueError(f"GradientTape: the tape is recording already and cannot be entered again"
                             f"{at(user_line())}")
        if self._recording is None:
            self._recording, self._variables = Recording(), {}
        self._start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._thread is not None:
            self._stop()

    def _start(self) -> None:
        self._thread, self._paused = threading.get_ident(), False
        start(self)

    def _stop(self) -> None:
        self._thread = None
        stop(self)

    def operation(self, record: OpRecord, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...],
                  attrs: dict[str, Any]) -> None:
        """Called for every operation of the thread while the tape is active."""
        if not self._paused:
            assert self._recording is not None
            self._recording.operation(record, inputs, outputs, attrs)

    def read(self, variable: Any, handle: Tensor) -> None:
        """Called before every read of a variable in the thread while the tape is active."""
        if not self._paused and (variable in self._variables or (self._watches_reads and variable.trainable)):
            self._watch_variable(variable, handle)

    def follows(self, tensor: Tensor) -> bool:
        """Whether operations on a tensor are recorded."""
        return not self._paused and self._recording is not None and self._recording.follows(tensor)

    def _watch_variable(self, variable: Variable, handle: Tensor) -> None:
        assert self._recording is not None
        self._variables[variable] = None
        self._recording.watch(handle)

    def watch(self, tensor: Any) -> None:
        """Record what is computed from a tensor, a variable, or a nest of them from now on.

        Parameters
        ----------
        tensor : Tensor, Variable, IndexedSlices or nest of them
            Of row-sparse tensors the values are watched. Integers have no derivatives; watching one logs a warning.

        Raises
        ------
        ValueError
            Anything else, such as a NumPy array: make it a tensor first, with `asarray`.
        RuntimeError
            Before the tape was entered, or after its recording was used.

        Examples
        --------
        >>> import numgrad as ng
        >>> x = {"a": ng.asarray(2.0), "b": ng.asarray(5.0)}
        >>> with ng.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = x["a"] * x["b"]
        >>> tape.gradient(y, x)
        {'a': ng.asarray(5., dtype=float64), 'b': ng.asarray(2., dtype=float64)}
        """
        if self._recording is None:
            raise RuntimeError(f"watch: the tape has no recording: enter it first, with `with`{at(user_line())}")
        for leaf in flatten(tensor, lambda v: v is None)[0]:
            if isinstance(leaf, IndexedSlices):
                leaf = leaf.values
            if not isinstance(leaf, (Tensor, Variable)):
                raise ValueError(f"watch: got {type(leaf).__name__}, wanted tensors and variables; ng.asarray makes a "
                                 f"tensor of an array or number{at(user_line())}")
            if not is_trainable(leaf.dtype):
                _log.warning("watch: %s values have no derivatives", leaf.dtype)
            if isinstance(leaf, Variable):
                self._watch_variable(leaf, leaf.handle_in(current_graph()))
            else:
                self._recording.watch(leaf)

    @contextmanager
    def stop_recording(self) -> Iterator[None]:
        """Record nothing within a ``with`` block; other tapes and accumulators go on.

        Raises
        ------
        RuntimeError
            Before the tape was entered, or after its recording was used.
        ValueError
            When the tape is not active.

        Examples
        --------
        >>> import numgrad as ng
        >>> x = ng.asarray(2.0)
        >>> with ng.GradientTape() as tape:
        ...     tape.watch(x)
        ...     with tape.stop_recording():
        ...         factor = x * x
        ...     y = factor * x
        >>> float(tape.gradient(y, x))
        4.0
        """
        if self._recording is None:
            raise RuntimeError(f"stop_recording: the tape has no recording: enter it first, with `with`"
                               f"{at(user_line())}")
        self._require_active("stop_recording")
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def reset(self) -> None:
        """Forget everything that was recorded and watched; what was computed so far becomes constant.

        Raises
        ------
        ValueError
            When the tape is not active.

        Examples
        --------
        >>> import numgrad as ng
        >>> x = ng.asarray(2.0)
        >>> with ng.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = x * x
        ...     tape.reset()
        ...     tape.watch(x)
        ...     z = y * x
        >>> float(tape.gradient(z, x))
        4.0
        """
        self._require_active("reset")
        self._recording, self._variables = Recording(), {}

    def _require_active(self, what: str) -> None:
        if self._thread is None or self._paused:
            raise ValueError(f"{what}: the tape is not recording{at(user_line())}")

    def watched_variables(self) -> tuple[Variable, ...]:
        """The variables that are watched, in the order in which they were made.

        Returns
        -------
        tuple of Variable
            Empty before the tape is entered; kept when the recording is used.

        Examples
        --------
        >>> import numgrad as ng
        >>> v = ng.Variable(1.0, name="v")
        >>> with ng.GradientTape() as tape:
        ...     y = v * 2.0
        >>> tape.watched_variables()
        (<numgrad.Variable 'v' float64()>,)
        """
        return tuple(sorted(self._variables, key=lambda v: v.number))

    @contextmanager
    def _used(self, what: str, targets: Sequence[Any]) -> Iterator[tuple[Recording, Graph | None]]:
        """The recording, and the graph in which it is differentiated, for one use of the tape."""
        if self._recording is None:
            raise RuntimeError(f"{what}: the tape was not entered, or is non-persistent and was used already; "
                               f"GradientTape(persistent=True) can be used more than once{at(user_line())}")
        if self._thread not in (None, threading.get_ident()):
            raise RuntimeError(f"{what}: another thread is recording with this tape{at(user_line())}")
        if self._thread is not None:
            self._inside()
        recording = self._recording
        graph = next((t.graph for t in targets if isinstance(t, Tensor) and t.op is not None), None)
        if graph is None and targets and all(isinstance(t, Variable) for t in targets):
            graph = current_graph()
        try:
            if graph is None:
                with without_graph():
                    yield recording, None
            else:
                current = current_graph()
                home = current if current is not None and current.within(graph) else graph
                with home.as_default(), home.lock, scope_in(home, "gradient_tape"):
                    yield recording, home
        finally:
            if not self._persistent:
                self._recording = None

    def _inside(self) -> None:
        """A derivative is taken while the tape is active."""
        if not self._persistent:
            self._stop()
        elif not self._warned and not self._paused:
            self._warned = True
            _log.warning("a persistent tape is used inside its block: it records the computation of the gradient too, "
                         "which takes time and memory; do so only for derivatives of higher order")
