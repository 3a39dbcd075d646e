"""GradientTape as a recorder: what it watches and keeps, when, in which thread, and what it refuses."""

from __future__ import annotations

import dataclasses
import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import numgrad as ng
from numgrad.graph.records import OPS


def numbers(nest: Any) -> Any:
    """The nest with tensors as nested lists."""
    if isinstance(nest, (list, tuple)):
        return type(nest)(numbers(n) for n in nest)
    if isinstance(nest, dict):
        return {k: numbers(v) for k, v in nest.items()}
    return None if nest is None else nest.numpy().tolist()


Watched = Callable[..., tuple[ng.Tensor, ng.GradientTape]]


@pytest.fixture
def watched() -> Iterator[Watched]:
    """Makes a tensor, and a tape that was entered and watches it; the tape is left after the test."""
    with ExitStack() as tapes:

        def make(value: Any, **options: Any) -> tuple[ng.Tensor, ng.GradientTape]:
            x = ng.asarray(value)
            tape = tapes.enter_context(ng.GradientTape(**options))
            tape.watch(x)
            return x, tape

        yield make


# -- what is recorded


def test_operations_before_watch_and_after_exit_are_not_recorded() -> None:
    """O1: only what is computed from a tensor after it was watched and while the tape is active."""
    x = ng.asarray(3.0)
    with ng.GradientTape(persistent=True) as tape:
        early = x * x
        tape.watch(x)
        y = early + x * x
    late = x * x
    assert numbers(tape.gradient([y, late], x)) == 6.0
    assert tape.gradient(late, x) is None


def test_integers_and_what_comes_of_them_are_constant(watched: Watched) -> None:
    """O1, D2: no path leads through integers, bools and casts to them."""
    x, tape = watched(3.0, persistent=True)
    n = ng.asarray(2)
    with tape.stop_recording():
        pass
    tape.watch(n)
    y = ng.cast(ng.cast(x, ng.int64), ng.float64) * 2.0
    assert numbers(tape.gradient([y, n * n, x * n], [x, n])) == [2.0, None]
    assert tape.gradient(ng.argmax(ng.stack([x, x])), x) is None


def test_watching_a_result_does_not_cut_its_history(watched: Watched) -> None:
    """O1, O11: an intermediate tensor is a source, watched or not, and what is before it still counts."""
    x, tape = watched(3.0, persistent=True)
    y = x * x
    tape.watch(y)
    z = y * y
    assert numbers(tape.gradient(z, [x, y])) == [108.0, 18.0]
    assert numbers(tape.gradient(y, [z, x])) == [None, 6.0]


def test_unwatched_sources_are_unconnected(watched: Watched) -> None:
    """O11: an input of a recorded operation that was not watched has no gradient."""
    x, tape = watched(3.0)
    other = ng.asarray(2.0)
    assert numbers(tape.gradient(x * other, [x, other])) == [2.0, None]


def test_tensors_that_equal_each_other_stay_distinct() -> None:
    """O1: +0, -0, *1 and the identity give tensors of their own; equal constants are different sources."""
    a, b = ng.asarray(1.0), ng.asarray(1.0)
    with ng.GradientTape() as tape:
        tape.watch([a, b])
        y = a * 3.0 + b * 4.0
        same = [a + 0.0, a - 0.0, a * 1.0, ng.positive(a)]
    assert all(t is not a for t in same)
    assert numbers(tape.gradient([y, *same], [a, b])) == [7.0, 4.0]


def test_lists_of_recorded_tensors_become_one_tensor(watched: Watched) -> None:
    """O1: a list of tensors and numbers where an array is wanted is a recorded operation."""
    x, tape = watched(3.0)
    y = ng.sum(ng.asarray([x, 2.0, x * x]) * [1.0, 10.0, 100.0])
    assert numbers(tape.gradient(y, x)) == 601.0


def test_only_the_entering_thread_is_recorded(watched: Watched) -> None:
    """O1, S3: operations in another thread leave no trace, and tapes there are its own."""
    x, tape = watched(3.0, persistent=True)
    made: dict[str, Any] = {}

    def work() -> None:
        made["y"] = x * x
        with ng.GradientTape() as own:
            own.watch(x)
            z = x * x
        made["own"] = own.gradient(z, x)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert tape.gradient(made["y"], x) is None and numbers(made["own"]) == 6.0


def test_gradient_of_a_tape_that_another_thread_records_with(watched: Watched) -> None:
    """O22, U6: a RuntimeError in the other thread, whatever is asked for; the recording is not harmed."""
    x, tape = watched([[3.0]])
    y = x * x
    failures: list[BaseException] = []

    def work() -> None:
        for derivative in (tape.gradient, tape.jacobian, tape.batch_jacobian):
            try:
                derivative(y, x)
            except RuntimeError as error:
                failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(failures) == 3 and all("another thread" in str(failure) for failure in failures)
    assert numbers(tape.gradient(y, x)) == [[6.0]]


# -- once, or as often as wanted


@pytest.mark.parametrize("first", ["gradient", "jacobian", "batch_jacobian"])
@pytest.mark.parametrize("second", ["gradient", "jacobian", "batch_jacobian"])
def test_a_tape_that_is_not_persistent_is_used_once(first: str, second: str, watched: Watched) -> None:
    """O2, O23: a second derivative is refused, whichever kind it is."""
    x, tape = watched([[1.0, 2.0]])
    with tape.stop_recording():
        pass
    y = x * x
    getattr(tape, first)(y, x)
    with pytest.raises(RuntimeError, match="non-persistent"):
        getattr(tape, second)(y, x)


def test_a_tape_that_was_never_entered() -> None:
    """O2, O4, O5, O6, O7: everything but the list of variables needs the tape to be entered first."""
    tape, x = ng.GradientTape(), ng.asarray(1.0)
    assert tape.watched_variables() == ()
    for use in (lambda: tape.gradient(x, x), lambda: tape.watch(x), lambda: tape.stop_recording().__enter__()):
        with pytest.raises(RuntimeError):
            use()
    with pytest.raises(ValueError):
        tape.reset()


def test_gradient_inside_the_block_of_a_tape_that_is_not_persistent() -> None:
    """O2: it is allowed, and the tape records no more."""
    x = ng.asarray(3.0)
    with ng.GradientTape() as tape:
        tape.watch(x)
        y = x * x
        g = tape.gradient(y, x)
        z = g * x
        with pytest.raises(RuntimeError):
            tape.gradient(z, x)
        with pytest.raises(RuntimeError):
            tape.watch(x)
    assert numbers(g) == 6.0


def test_persistent_tapes_inside_and_outside_of_their_block(caplog: pytest.LogCaptureFixture) -> None:
    """O3: inside, the backward operations are recorded, with one warning; outside, they are not."""
    x = ng.asarray(3.0)
    with caplog.at_level(logging.WARNING, "numgrad"), ng.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x * x
        first = tape.gradient(y, x)
        second = tape.gradient(first, x)
        third = tape.gradient(second, x)
    assert numbers([first, second, third]) == [27.0, 18.0, 6.0]
    assert len([r for r in caplog.records if "persistent" in r.message]) == 1
    outside = tape.gradient(y, x)
    assert numbers(outside) == 27.0 and tape.gradient(outside, x) is None


def test_entering_again() -> None:
    """O8: not while active; after leaving, the recording goes on; after use, a new one begins."""
    x = ng.asarray(3.0)
    tape = ng.GradientTape()
    with tape:
        tape.watch(x)
        y = x * x
        with pytest.raises(ValueError, match="entered again"):
            tape.__enter__()
    with tape:
        z = y * x
    assert numbers(tape.gradient(z, x)) == 27.0
    with tape:
        tape.watch(x)
        w = z * x
    assert numbers(tape.gradient(w, x)) == 27.0


def test_an_exception_closes_the_tape() -> None:
    """O8: what was recorded before can be differentiated, and nothing after it is recorded."""
    x = ng.asarray(3.0)
    with pytest.raises(ZeroDivisionError), ng.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
        raise ZeroDivisionError
    z = y * x
    assert numbers(tape.gradient(y, x)) == 6.0 and tape.gradient(z, x) is None


# -- pausing and forgetting


def test_stop_recording_hides_only_what_is_inside() -> None:
    """O6: only this tape is paused, also for reads of variables; other tapes and accumulators go on."""
    x, v = ng.asarray(3.0), ng.Variable(2.0)
    accumulator = ng.ForwardAccumulator(x, ng.asarray(1.0))
    with ng.GradientTape() as outer, accumulator, ng.GradientTape() as tape:
        outer.watch(x)
        tape.watch(x)
        y = x * x
        with tape.stop_recording():
            z = y * x * v
            with pytest.raises(ValueError):
                tape.reset()
        w = z + y
    assert tape.watched_variables() == () and outer.watched_variables() == (v,)
    assert numbers(tape.gradient(w, x)) == 6.0
    assert numbers(outer.gradient(w, x)) == 60.0 == numbers(accumulator.jvp(w))


def test_stop_recording_needs_a_tape_that_records(watched: Watched) -> None:
    """O6: ValueError after the block or while it is paused already, RuntimeError after use."""
    x, tape = watched(3.0)
    with tape.stop_recording():
        with pytest.raises(ValueError, match="not recording"):
            with tape.stop_recording():
                pass
    y = x * x
    tape.__exit__()
    with pytest.raises(ValueError, match="not recording"):
        with tape.stop_recording():
            pass
    tape.gradient(y, x)
    with pytest.raises(RuntimeError):
        with tape.stop_recording():
            pass


def test_an_error_inside_stop_recording_ends_the_pause(watched: Watched) -> None:
    """O6: recording goes on when the block is left by an exception."""
    x, tape = watched(3.0)
    with pytest.raises(KeyError):
        with tape.stop_recording():
            raise KeyError
    assert numbers(tape.gradient(x * x, x)) == 6.0


def test_reset_forgets_operations_and_watches() -> None:
    """O7: earlier results become constants, tensors must be watched anew, variables are by their next read."""
    x, v = ng.asarray(3.0), ng.Variable(2.0)
    with ng.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x * v
        tape.reset()
        assert tape.watched_variables() == ()
        z = y * x
        u = y * v
    assert numbers(tape.gradient([y, z, u], [x, v])) == [None, 18.0]
    with pytest.raises(ValueError, match="not recording"):
        tape.reset()


# -- what can be watched


def test_watching_nests() -> None:
    """O5: tensors, variables, row-sparse tensors and nests of them."""
    a, b, v = ng.asarray(2.0), ng.asarray(5.0), ng.Variable(7.0, trainable=False)
    rows = ng.IndexedSlices([[1.0]], [0], (2, 1))
    with ng.GradientTape() as tape:
        tape.watch({"a": a, "rest": [b, (v, rows)]})
        y = a * b * v + ng.sum(rows.to_dense())
    found = tape.gradient(y, {"a": a, "rest": [b, v, rows.values]})
    assert numbers(found) == {"a": 35.0, "rest": [14.0, 10.0, [[1.0]]]}


@pytest.mark.parametrize("bad", [np.ones(2), 1.0, None, "x", [ng.asarray(1.0), np.ones(2)]])
def test_watching_what_is_no_tensor(bad: Any, watched: Watched) -> None:
    """O5: a ValueError that names the type."""
    _, tape = watched(3.0)
    name = type(bad[1] if isinstance(bad, list) else bad).__name__
    with pytest.raises(ValueError, match=name):
        tape.watch(bad)
    tape.__exit__()


def test_watching_integers_only_warns(caplog: pytest.LogCaptureFixture) -> None:
    """O5: the watch is logged and has no effect."""
    with caplog.at_level(logging.WARNING, "numgrad"), ng.GradientTape() as tape:
        n = ng.asarray([1, 2])
        tape.watch(n)
        y = n * n
    assert "int64" in caplog.text and tape.gradient(y, n) is None


def test_variables_are_watched_when_read() -> None:
    """O4: trainable ones, in the order in which they were made, each once, also integer ones; the list outlives use."""
    first, second = ng.Variable(1.0), ng.Variable(2.0)
    third, count = ng.Variable(3.0, trainable=False), ng.Variable(4)
    with ng.GradientTape() as tape:
        y = second * first * second * third * count
    assert numbers(tape.gradient(y, [first, second, third, count])) == [48.0, 48.0, None, None]
    assert tape.watched_variables() == (first, second, count)


def test_watch_accessed_variables_off() -> None:
    """O4: then only what is watched explicitly counts."""
    v, w = ng.Variable(2.0), ng.Variable(5.0)
    with ng.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(v)
        y = v * w
    assert tape.watched_variables() == (v,)
    assert numbers(tape.gradient(y, [v, w])) == [5.0, None]


def test_a_new_recording_has_its_own_variables() -> None:
    """O4: the list starts anew with the recording."""
    v, w = ng.Variable(2.0), ng.Variable(5.0)
    tape = ng.GradientTape()
    with tape:
        y = v * v
    tape.gradient(y, v)
    assert tape.watched_variables() == (v,)
    with tape:
        y = w * w
    assert tape.watched_variables() == (w,)


# -- memory


def test_tensors_are_freed_with_the_tape_and_with_its_use() -> None:
    """O2, O8: a tape holds what it recorded until it is used or dropped, and makes no cycles."""
    def record(tape: ng.GradientTape) -> tuple[weakref.ref[ng.Tensor], ng.Tensor, ng.Tensor]:
        x = ng.asarray(np.ones(100))
        with tape:
            tape.watch(x)
            middle = x * x
            y = ng.sum(ng.sin(middle))
        return weakref.ref(middle), x, y

    gc.disable()
    try:
        tape = ng.GradientTape()
        middle, x, y = record(tape)
        assert middle() is not None
        tape.gradient(y, x)
        assert middle() is None
        middle, x, y = record(tape)
        del tape
        assert middle() is None
    finally:
        gc.enable()


def test_many_tapes_leave_memory_flat() -> None:
    """O2: thousands of recordings, used and unused, cost nothing afterwards."""
    import resource

    x, v = ng.asarray(np.ones(3)), ng.Variable(np.ones(3))

    def tapes(count: int) -> None:
        for i in range(count):
            with ng.GradientTape() as tape, ng.ForwardAccumulator(x, ng.asarray(np.ones(3))):
                tape.watch(x)
                y = ng.sum(ng.sin(x) * v)
            if i % 2:
                tape.gradient(y, [x, v])

    tapes(200)
    gc.collect()
    objects, before = len(gc.get_objects()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tapes(2000)
    gc.collect()
    assert len(gc.get_objects()) < objects + 200
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 4096  # KiB


def test_recorded_values_are_used_not_computed_again(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """O1: differentiation evaluates no forward operation."""
    runs: list[int] = []

    def counted(x: Any) -> Any:
        runs.append(1)
        return np.exp(x)

    monkeypatch.setitem(OPS, "exp", dataclasses.replace(OPS["exp"], evaluate=counted))
    x, tape = watched([1.0, 2.0], persistent=True)
    y = ng.sum(ng.exp(x * 2.0))
    tape.__exit__()
    for _ in range(2):
        assert_allclose(tape.gradient(y, x).numpy(), 2.0 * np.exp([2.0, 4.0]))
    assert runs == [1]
