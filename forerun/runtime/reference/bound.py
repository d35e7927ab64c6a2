"""A graph bound to memory: every region is a view, or a way to get one, and every function is found.

Both schedules run this, so they differ in nothing but order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from numpy.typing import NDArray

from forerun.ir.affine import Affine
from forerun.ir.kernel import Barrier, Trigger, Wait
from forerun.runtime.reference.functions import PhaseFunction, checked, results_of
from forerun.runtime.reference.memory import BufferMemory
from forerun.support.diagnostics import InvalidInput

__all__ = [
    "BoundControl",
    "BoundGraph",
    "BoundKernel",
    "BoundNode",
    "BoundOperation",
    "BoundPhase",
    "BoundStep",
    "Links",
    "Reach",
    "ScalarSource",
    "linear",
]

Linear: TypeAlias = tuple[int, tuple[tuple[int, int], ...]]
"""A constant, and ``(position in the phase's loaded scalars, coefficient)`` pairs."""


def linear(value: Affine, positions: dict[str, int]) -> Linear:
    """An affine expression over loaded scalars, by their positions."""
    return value.constant, tuple((positions[symbol], coefficient) for symbol, coefficient in value.terms)


@dataclass(frozen=True, slots=True)
class Reach:
    """A region that a phase reads or writes.

    Attributes:
        place: Whose it is, for messages.
        memory: The buffer.
        array: The whole buffer; not writable if the region is read.
        fixed: The region's elements, if no loaded scalar occurs in its bounds.
        bounds: Otherwise its bounds, one pair for each leading dimension, ``None`` where it is whole.
    """

    place: str
    memory: BufferMemory
    array: NDArray[Any]
    fixed: NDArray[Any] | None
    bounds: tuple[tuple[Linear, Linear] | None, ...] = ()

    @property
    def extent(self) -> NDArray[Any]:
        """Elements that include the region whatever the scalars are."""
        return self.array if self.fixed is None else self.fixed

    def at(self, loaded: Sequence[int]) -> NDArray[Any]:
        """The region's elements, by the values of the phase's loaded scalars.

        Raises:
            InvalidInput: If it is not inside the buffer.
        """
        if self.fixed is not None:
            return self.fixed
        if len(self.bounds) == 1 and self.bounds[0] is not None:  # rows: what a decode step does all the time
            rows: NDArray[Any] = self.array[self._slice(0, *self.bounds[0], loaded)]
            return rows
        index = [
            slice(None) if pair is None else self._slice(axis, *pair, loaded) for axis, pair in enumerate(self.bounds)
        ]
        box: NDArray[Any] = self.array[tuple(index)]
        return box

    def _slice(self, axis: int, first: Linear, last: Linear, loaded: Sequence[int]) -> slice:
        start, terms = first
        for position, coefficient in terms:
            start += coefficient * loaded[position]
        stop, terms = last
        for position, coefficient in terms:
            stop += coefficient * loaded[position]
        if not 0 <= start <= stop <= self.array.shape[axis]:
            self._fail(axis, start, stop)
        return slice(start, stop)

    def _fail(self, axis: int, start: int, stop: int) -> NoReturn:
        extent = self.array.shape[axis]
        raise InvalidInput(
            f"{self.place}: rows {start}:{stop} are outside of dimension {axis} of %{self.memory.buffer.name}, "
            f"which has {extent}",
            hint="a scalar that is loaded from memory is out of the range that the kernel expects",
        )


@dataclass(frozen=True, slots=True)
class ScalarSource:
    """A scalar in memory: one element (an array without dimensions), plus ``offset``."""

    memory: BufferMemory
    element: NDArray[Any]
    offset: int


@dataclass(frozen=True, slots=True)
class BoundPhase:
    """A phase at a node.

    Attributes:
        name: The phase's name.
        place: Node, kernel, phase and function, for messages.
        function: What it computes.
        reads: Where its first arguments are.
        uses: Slots of the locals that follow.
        scalars: ``(position, constant)``: the numbers that follow, loaded ones by position, others as they are.
        loads: Scalars that are loaded where the phase executes.
        writes: Where its first results go.
        defines: Slots of the locals that follow.
        asynchronous: Whether the reads may be late.
    """

    name: str
    place: str
    function: PhaseFunction
    reads: tuple[Reach, ...]
    uses: tuple[int, ...]
    scalars: tuple[tuple[int | None, int | float], ...]
    loads: tuple[ScalarSource, ...]
    writes: tuple[Reach, ...]
    defines: tuple[int, ...]
    asynchronous: bool

    def scalar_values(self, loaded: Sequence[int]) -> list[int | float]:
        """The numbers that the function gets."""
        return [constant if position is None else loaded[position] for position, constant in self.scalars]

    def results(self, returned: Any) -> Sequence[Any]:
        """The results, one for each of ``writes`` and ``defines``.

        Raises:
            InvalidInput: If their number is wrong, or a local is missing.
        """
        results = results_of(self.place, len(self.writes) + len(self.defines), returned)
        if self.defines and any(value is None for value in results[len(self.writes) :]):
            raise InvalidInput(f"{self.place}: returned None for a local that it defines")
        return results

    def checked(self, index: int, target: NDArray[Any], value: Any) -> NDArray[Any]:
        """Result number ``index``, if it may be written to ``target``.

        Raises:
            InvalidInput: If it has another shape or kind of type.
        """
        return checked(self.place, self.writes[index].memory.buffer.name, target, value)


BoundStep: TypeAlias = BoundPhase | Wait | Trigger | Barrier


@dataclass(frozen=True, slots=True)
class BoundKernel:
    """A kernel node: the steps of each role, and the number of slots for its locals."""

    name: str
    roles: tuple[tuple[BoundStep, ...], ...]
    slots: int


@dataclass(frozen=True, slots=True)
class BoundOperation:
    """A node that is one action: copy, fill, host call, allocation, free, event, join."""

    name: str
    place: str
    run: Callable[[], None]


@dataclass(frozen=True, slots=True)
class BoundControl:
    """A node that runs bodies: ``kind`` is ``child``, ``if``, ``while`` or ``switch``."""

    name: str
    place: str
    kind: str
    condition: NDArray[Any] | None
    bodies: tuple[BoundGraph, ...]

    def drive(self, run_body: Callable[[int], None], loop_limit: int) -> None:
        """Run the bodies that the condition asks for, by number.

        Raises:
            InvalidInput: If a ``while`` goes on for more than ``loop_limit`` rounds.
        """
        if self.condition is None:
            run_body(0)
            return
        value = int(self.condition.item())
        match self.kind:
            case "if" if value or len(self.bodies) > 1:
                run_body(0 if value else 1)
            case "switch" if 0 <= value < len(self.bodies):
                run_body(value)
            case "while":
                rounds = 0
                while self.condition.item():
                    if rounds == loop_limit:
                        hint = "is its condition ever written? the target's option loop_limit sets the limit"
                        raise InvalidInput(f"{self.place}: still runs after {loop_limit} rounds", hint=hint)
                    run_body(0)
                    rounds += 1


BoundNode: TypeAlias = BoundKernel | BoundOperation | BoundControl


@dataclass(frozen=True, slots=True)
class Links:
    """The dependencies of a node: how many come in, and the positions they go to; none of any kind leaves a sink."""

    full_sources: int
    programmatic_sources: int
    full_targets: tuple[int, ...]
    programmatic_targets: tuple[int, ...]
    is_sink: bool


@dataclass(frozen=True, slots=True)
class BoundGraph:
    """Nodes in launch order, and the dependencies of each."""

    name: str
    nodes: tuple[BoundNode, ...]
    links: tuple[Links, ...]
