"""Argument tables and step tables as recipes: addresses of buffers, sizes, what is known only when a program runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from numgrad.compiler.layout import ControlLayout
from numgrad.compiler.recipe import ALIGN, SIZES, ZERO, Recipe, Sum

if TYPE_CHECKING:
    from numgrad.compiler.code import Code
    from numgrad.types import Shape

__all__ = ["CHUNK_ELEMENTS", "STEP_WORDS", "Place", "Planner", "chunking"]

RELEASE_COST = 500_000  # estimated work, in 0.1 ns, above which other Python threads may run meanwhile
MOST_VALUES = 500  # beyond which values of one size share slots whatever the sizes, which takes less time to plan
CHUNK_ELEMENTS = 8192  # elements that one partial result of a full reduction covers
STEP_WORDS = 8


def chunking(first: int, below: int) -> tuple[int, int]:
    """Chunk length and number of chunks of a full reduction over `first` rows of `below` elements."""
    length = max(1, CHUNK_ELEMENTS // max(1, below))
    return length, max(1, -(-first // length))


class Place(NamedTuple):
    """Where a buffer is: at an address, or at the address that a word holds when the program starts (`indirect`).

    `offset` bytes are added to it, and `step` bytes after every trip of the loop around.
    """

    address: Sum
    indirect: bool = False
    offset: Sum = ZERO
    step: Sum | None = None


Locate = Callable[[str, int], Place]
Start = tuple[Sum, Sum, Sum, Sum | None]  # target word, source word, offset, step


class Planner:
    """Makes the recipes of a code that stands for itself: one for each choice of full reductions that are cut up.

    Attributes
    ----------
    chunked : list of (int, int)
        Indices of the two sizes that tell how each full reduction is cut up, here and in the bodies of loops.
    """

    def __init__(self, code: Code, dtypes: Sequence[Any], inputs: Sequence[Shape], outputs: Sequence[Shape]) -> None:
        self.code, self.sizes = code, code.layout.sizes
        self.dtypes = list(dtypes)  # the tables hold their addresses
        self.input_shapes, self.output_shapes = ([[self.sizes.index(d) for d in shape] for shape in shapes]
                                                 for shapes in (inputs, outputs))
        self.chunked: dict[tuple[int, int], int] = {}
        self._collect(code, range(len(self.sizes.expressions)))
        self._costs = tuple(Counter(code.layout.costs).items())
        self._recipes: dict[tuple[bool, ...], PlanRecipe] = {}

    def _collect(self, code: Code, index: Sequence[int]) -> None:
        for k, launch in enumerate(code.launches):
            pair = code.layout.chunked[k]
            if pair is not None:
                self.chunked.setdefault((index[pair[0]], index[pair[1]]), len(self.chunked))
            for body, merged in zip(launch.bodies, code.layout.merged[k], strict=True):
                self._collect(body, [index[j] for j in merged])

    def prepare(self, symbols: Sequence[int], tools: Any) -> tuple[PlanRecipe, list[int]]:
        """The recipe for given values of the unknown sizes, and what it is filled in with.

        That is the sizes, length and number of chunks of each full reduction, whether other Python threads may run.
        """
        sizes = list(self.sizes.evaluate(symbols))
        chunks: list[int] = []
        for first, below in self.chunked:
            chunks.extend(chunking(sizes[first], sizes[below]))
        several = tuple([n > 1 for n in chunks[1::2]])
        recipe = self._recipes.get(several)
        if recipe is None:
            recipe = self._recipes[several] = PlanRecipe(self, several, tools)
        work = sum([sizes[i] * times for i, times in self._costs])
        return recipe, [*sizes, *chunks, work > RELEASE_COST]


class PlanRecipe(Recipe):
    """The recipe of a plan.

    Attributes
    ----------
    block, program : int
        The words at which the plan block and the step table begin.
    steps : int
        The rows of the step table.
    """

    def __init__(self, planner: Planner, several: tuple[bool, ...], tools: Any) -> None:
        code, count = planner.code, len(planner.sizes.expressions)
        super().__init__(count + 2 * len(several) + 1)
        self.planner, self.several = planner, several
        self.first_chunk = SIZES + count
        self.status = self.reserve(1)
        shapes, inputs = [*planner.input_shapes, *planner.output_shapes], len(planner.input_shapes)
        sources = self.reserve(len(shapes))  # a word for the address of each array
        self.steps = len(code.launches)
        # One row more than there are steps: the first may have to move addresses.
        self.program = self.reserve(STEP_WORDS * (1 + self.steps)) + STEP_WORDS
        part = _Part(self, code, range(count), lambda kind, where: Place(
            self.at(sources + where + (inputs if kind == "output" else 0)), True), None, self.program)
        direct, moved = [[self.at(sources + k)] for k in range(len(shapes))], []
        for target, source, offset, _ in part.starts:
            if offset == ZERO and sources <= (k := source.number // 8) < sources + len(shapes):
                direct[k - sources].append(target)
            else:
                moved += [source, target, offset]
        if moved:  # a first step adds offsets to the addresses of arrays of which a part is read
            self.program -= STEP_WORDS
            self.steps += 1
            self._put_all(self.program, (Sum(tools.relocate()), self.at(self.words(moved)), ZERO,
                                         Sum(len(moved) // 3), ZERO, self.at(self.status)))
        records = [(id(dtype), k >= inputs, [part.value(i) for i in shape], direct[k])
                   for k, (dtype, shape) in enumerate(zip(planner.dtypes, shapes, strict=True))]
        releases = Sum(0, ((self.before_slots - 1, 1),))
        self.block = self.reserve(tools.block_size(records))
        self._put_all(self.block, tools.block_words(lambda k: self.at(self.block + k), records, self.at(self.program),
                                                    self.steps, self.at(self.status), releases))
        self.finish()

    def _put_all(self, word: int, values: Sequence[Sum | int]) -> None:
        for i, value in enumerate(values):
            self.put(word + i, Sum(value) if isinstance(value, int) else value)


class _Part:
    """The tables of one code within a recipe: of the program, or of a loop's body (then `step` is the loop's place)."""

    def __init__(self, recipe: PlanRecipe, code: Code, index: Sequence[int], locate: Locate, step: int | None,
                 program: int | None = None) -> None:
        self.recipe, self.code, self.layout, self.index, self._locate = recipe, code, code.layout, index, locate
        self._step = step
        layout = code.layout
        self.starts: list[Start] = []
        self._words: dict[Any, int] = {}
        self._constants = [Sum(constant.ctypes.data) for constant in code.constants]
        if step is None and len(layout.homes) <= MOST_VALUES:  # each value finds its own place
            self._slots = [recipe.slot(self.value(i), first, last) for i, first, last in layout.value_lives]
        else:
            shared = [recipe.slot(self.value(i), *self._life(*life))
                      for i, life in zip(layout.slot_bytes, layout.slot_lives, strict=True)]
            self._slots = [shared[home] for home in layout.homes]
        recipe.lives += [(self.value(i), *self._life(first, last)) for i, first, last in layout.value_lives]
        self._pool = recipe.words([self.value(i) for i in layout.size_nodes])
        self.table = recipe.reserve(layout.table_words)
        self.program = recipe.reserve(STEP_WORDS * len(code.launches)) if program is None else program
        self._fill()

    def value(self, index: int) -> Sum:
        """One of the code's sizes."""
        dim = self.layout.sizes.expressions[index]
        return Sum(dim) if isinstance(dim, int) else Sum(0, ((SIZES + self.index[index], 1),))

    def _life(self, first: int, last: int) -> tuple[int, int]:
        return (first, last) if self._step is None else (self._step, self._step)

    def _buffer(self, size: Sum, k: int, last: int | None = None) -> Sum:
        """The address of memory that the launch k (up to `last`) has for itself."""
        life = self._life(k, k if last is None else last)
        if self.recipe.cursor == len(self.recipe.slots):
            self.recipe.lives.append((size, *life))
        return self.recipe.slot(size, *life)

    # -- places
    def find(self, kind: str, where: int) -> Place:
        """The place of a buffer of this code."""
        if kind == "arena":
            return Place(self._slots[where])
        if kind == "constant":
            return Place(self._constants[where])
        if kind == "size":
            return Place(self.recipe.at(self._pool + where))
        return self._locate(kind, where)

    def still(self, kind: str, where: int) -> Place:
        """The same, as a place that does not move: one that does gets a word of its own that follows it."""
        place = self.find(kind, where)
        if place.step is None:
            return place
        if (kind, where) not in self._words:
            word = self._words[kind, where] = self.recipe.reserve(1)
            self.starts.append((self.recipe.at(word), self.source(place), place.offset, place.step))
        return Place(self.recipe.at(self._words[kind, where]), True)

    def source(self, place: Place) -> Sum:
        """The address of a word that holds the place's address (without its offset)."""
        return place.address if place.indirect else self._word(place.address)

    def _word(self, value: Sum) -> Sum:
        return self.recipe.at(self.recipe.words([value]))

    # -- filling in
    def _fill(self) -> None:
        layout, recipe = self.layout, self.recipe
        pair: int | None = None
        partials: dict[Any, Sum] = {}
        for k, (start, entries) in enumerate(layout.rows):
            chunked = layout.chunked[k]
            if chunked is not None:
                pair = recipe.planner.chunked[self.index[chunked[0]], self.index[chunked[1]]]
                partials = {}
            several = pair is not None and recipe.several[pair]
            for i, (kind, where, offset, itemsize) in enumerate(entries):
                at = self.table + start + i
                if kind == "dim":
                    recipe.put(at, self.value(where))
                elif kind == "status":
                    recipe.put(at, recipe.at(recipe.status))
                elif kind == "scratch":
                    count, size = layout.scratch[where]
                    recipe.put(at, self._buffer(self.value(count).times(size), k))
                elif kind in ("chunk", "chunks"):
                    assert pair is not None
                    recipe.put(at, self._chunk(pair, kind == "chunks"))
                elif kind == "partials" and several:
                    assert pair is not None
                    if where not in partials:  # used by the launch, and by those that combine its results after it
                        size_of_all = self._chunk(pair, True).times(itemsize)
                        partials[where] = self._buffer(size_of_all, k, k + layout.combines[k])
                    recipe.put(at, partials[where])
                else:
                    place = self.find(*where) if kind == "partials" else self.find(kind, where)
                    shift = place.offset
                    if kind != "partials":
                        shift = shift.plus(self.value(offset).times(itemsize))
                    if place.indirect or place.step is not None:
                        self.starts.append((recipe.at(at), self.source(place), shift, place.step))
                    else:
                        recipe.put(at, place.address.plus(shift))
            control = layout.controls[k]
            arguments = self.table + start if control is None else self._control(k, control)
            self._row(k, arguments, pair, several)

    def _chunk(self, pair: int, count: bool) -> Sum:
        """The length of a full reduction's chunks, or their number."""
        return Sum(0, ((self.recipe.first_chunk + 2 * pair + count, 1),))

    def _row(self, k: int, arguments: int, pair: int | None, several: bool) -> None:
        launch, span, recipe = self.layout.launches[k], self.layout.spans[k], self.recipe
        if span == "chunks":
            assert pair is not None
            high = self._chunk(pair, True)
        elif span == "combine":
            high = Sum(int(several))
        else:
            assert isinstance(span, int)
            high = self.value(span)
        word = self.program + STEP_WORDS * k
        for i, value in enumerate((Sum(launch.address), recipe.at(arguments), ZERO, high, ZERO,
                                   recipe.at(recipe.status))):
            recipe.put(word + i, value)
        if launch.parallel:
            recipe.parallel(word, SIZES + self.index[self.layout.costs[k]])

    # -- loops and branches
    def _control(self, k: int, control: ControlLayout) -> int:
        launch = self.layout.launches[k]
        make = {"scan": self._scan, "while_loop": self._while, "trip_count": self._while, "switch": self._switch,
                "adjoint_scan": self._adjoint}
        return self.recipe.words(make[launch.title](k, control))

    def _body(self, k: int, which: int, locate: Locate) -> _Part:
        merged = [self.index[j] for j in self.layout.merged[k][which]]
        step = k if self._step is None else self._step
        return _Part(self.recipe, self.layout.launches[k].bodies[which], merged, locate, step)

    def _both(self, k: int, which: int, located: Callable[[int], Locate]) -> list[_Part]:
        """A body twice, for the two sets of state; what it keeps for itself lies at one place."""
        begin = self.recipe.cursor
        first = self._body(k, which, located(0))
        after = len(self.recipe.lives)
        self.recipe.cursor = begin
        second = self._body(k, which, located(1))
        del self.recipe.lives[after:]
        return [first, second]

    def _rows(self, rows: Sequence[Sequence[Sum | None]]) -> list[Sum]:
        """The number of rows and their address."""
        return [Sum(len(rows)), self.recipe.at(self.recipe.words([x or ZERO for row in rows for x in row]))]

    def _state(self, k: int, control: ControlLayout) -> tuple[list[tuple[Sum, Sum]], list[Any], list[Any]]:
        """Two buffers for each carry (one, updated in place); rows that copy the first state in, and the last one out.

        Where a carry goes in and comes out at one place, that is its buffer, and nothing is copied.
        """
        sizes = [self.value(i) for i in control.carries]
        once = self.layout.launches[k].bodies[-1].in_place
        homes = {j: place for j, place in enumerate(map(self._one_place, control.inputs, control.outputs))
                 if j in once and place is not None}
        buffers = []
        for j, size in enumerate(sizes):
            first = homes[j] if j in homes else self._buffer(size, k)
            buffers.append((first, first if j in once else self._buffer(size, k)))
        copies, results = [], []
        for j, (place, (a, _), size) in enumerate(zip(control.inputs, buffers, sizes, strict=False)):
            if j not in homes:
                copies.append((a, self._pointer(self.still(*place)), size, ZERO))
        for j, (place, (a, b), size) in enumerate(zip(control.outputs, buffers, sizes, strict=False)):
            if j not in homes:
                results.append((self._pointer(self.still(*place)), a, b, size))
        return buffers, copies, results

    def _one_place(self, given: tuple[str, int], result: tuple[str, int]) -> Sum | None:
        """The address of two buffers that are one, if it is known."""
        place = self.find(*given)
        same = place == self.find(*result) and not place.indirect and place.offset == ZERO and place.step is None
        return place.address if same else None

    def _pointer(self, place: Place) -> Sum:
        """The address of a word that holds the place's full address when the program runs."""
        if place.offset == ZERO:
            return self.source(place)
        if not place.indirect:
            return self._word(place.address.plus(place.offset))
        word = self._word(ZERO)
        self.starts.append((word, place.address, place.offset, None))
        return word

    def _moving(self, backwards: bool) -> Callable[[tuple[str, int], int, int], Place]:
        """The place of a row of an array, given indices of the bytes of a row and of all rows but the last."""

        def moving(place: tuple[str, int], size: int, last: int) -> Place:
            found = self.still(*place)
            first = found.offset.plus(self.value(last)) if backwards else found.offset
            return found._replace(offset=first, step=self.value(size).times(-1 if backwards else 1))

        return moving

    def _scan(self, k: int, control: ControlLayout) -> list[Sum]:
        moving = self._moving(control.attrs["reverse"])
        buffers, copies, results = self._state(k, control)
        count, rows = len(buffers), len(control.rows)

        def located(parity: int) -> Locate:
            def locate(kind: str, where: int) -> Place:
                if where < count:
                    return Place(buffers[where][parity if kind == "input" else 1 - parity])
                if kind == "output":
                    return moving(control.outputs[where], *control.stacked[where - count])
                if where < count + rows:
                    return moving(control.inputs[where], *control.rows[where - count])
                return self.still(*control.inputs[where])

            return locate

        bodies = self._both(k, 0, located)
        starts = [row for body in bodies for row in body.starts]
        return [*(self.recipe.at(body.program) for body in bodies), Sum(len(bodies[0].code.launches)),
                self.value(control.length), *self._rows([r for r in starts if r[3] is None]),
                *self._rows([r for r in starts if r[3] is not None]), *self._rows(copies), *self._rows(results),
                self.recipe.at(self.recipe.status)]

    def _while(self, k: int, control: ControlLayout) -> list[Sum]:
        at, counting = self.recipe.at, self.layout.launches[k].title == "trip_count"
        buffers, copies, results = self._state(k, control._replace(outputs=[]) if counting else control)
        count = len(buffers)
        flag = self._buffer(Sum(ALIGN), k)

        def located(parity: int, test: bool) -> Locate:
            def locate(kind: str, where: int) -> Place:
                if kind == "output":
                    return Place(flag if test else buffers[where][1 - parity])
                return Place(buffers[where][parity]) if where < count else self.still(*control.inputs[where])

            return locate

        tests = self._both(k, 0, lambda parity: located(parity, True))
        bodies = self._both(k, 1, lambda parity: located(parity, False))
        starts = [row for body in (*tests, *bodies) for row in body.starts]
        most = control.attrs["maximum"]
        return [*(at(t.program) for t in tests), Sum(len(tests[0].code.launches)), *(at(b.program) for b in bodies),
                Sum(len(bodies[0].code.launches)), Sum(-1 if most is None else int(most)), flag, *self._rows(starts),
                *self._rows(copies), *self._rows(results), at(self.recipe.status),
                self._pointer(self.still(*control.outputs[0])) if counting else ZERO]

    def _switch(self, k: int, control: ControlLayout) -> list[Sum]:
        def locate(kind: str, where: int) -> Place:
            return self.still(*(control.outputs[where] if kind == "output" else control.inputs[where + 1]))

        bodies = [self._body(k, i, locate) for i in range(len(self.layout.launches[k].bodies))]
        programs = [x for body in bodies for x in (self.recipe.at(body.program), Sum(len(body.code.launches)))]
        starts = [row for body in bodies for row in body.starts]
        return [self._pointer(self.still(*control.inputs[0])), Sum(len(bodies)),
                self.recipe.at(self.recipe.words(programs)), *self._rows(starts)]

    def _adjoint(self, k: int, control: ControlLayout) -> list[Sum]:
        attrs, blocks, at = control.attrs, control.blocks, self.recipe.at
        assert blocks is not None
        moving = self._moving(attrs["reverse"])
        carries, states, rows = attrs["carries"], attrs["states"], attrs["rows"]
        mine = carries + states + len(control.rows)
        others = mine + attrs["shared"]
        offsets, size = [self.value(i) for i in blocks.offsets], self.value(blocks.block)
        pair = [self._buffer(size, k), self._buffer(size, k)]
        kept, places = self._buffer(self.value(blocks.kept_bytes), k), self._buffer(self.value(blocks.words), k)
        back = control._replace(inputs=control.inputs[carries:], carries=control.carries[carries:])
        buffers, copies, results = self._state(k, back)
        copies += [(pair[0].plus(offset), self._pointer(self.still(*place)), self.value(i), ZERO)
                   for offset, place, i in zip(offsets, control.inputs, control.carries, strict=False)]

        def forward(parity: int) -> Locate:
            def locate(kind: str, where: int) -> Place:
                if where < carries:
                    return Place(pair[parity if kind == "input" else 1 - parity].plus(offsets[where]))
                if where < carries + rows:
                    return moving(control.inputs[where + states], *control.rows[where - carries])
                return self.still(*control.inputs[mine + where - carries - rows])

            return locate

        def backward(parity: int) -> Locate:
            def locate(kind: str, where: int) -> Place:
                if where < states:
                    return Place(buffers[where][parity if kind == "input" else 1 - parity])
                if kind == "output":
                    return moving(control.outputs[where], *control.stacked[where - states])
                if where < states + carries:
                    return Place(pair[0].plus(offsets[where - states]))
                if where < mine:
                    return moving(control.inputs[where], *control.rows[where - carries - states])
                return self.still(*control.inputs[others + where - mine])

            return locate

        bodies = [self._both(k, 0, forward), self._both(k, 1, backward)]
        programs = [x for both in bodies
                    for x in (*(at(part.program) for part in both), Sum(len(both[0].code.launches)))]
        fixed = [r for both in bodies for part in both for r in part.starts if r[3] is None]
        moves = [[r for part in both for r in part.starts if r[3] is not None] for both in bodies]
        return [*programs, self.value(control.length), *self._rows(fixed), *self._rows(moves[0]), *self._rows(moves[1]),
                *self._rows(copies), *self._rows(results), self.value(blocks.kept), kept, size, places, *pair,
                at(self.recipe.status)]
