"""Which bytes of each pointer a launch of a kernel accesses for certain, whatever the data are.

The threads' addresses are computed (:mod:`forerun.ptx.lanes`) where it is known which threads come there
(:mod:`forerun.ptx.paths`). What is not known is left out, so the bytes that are found are some of those that are
accessed. Where they are all that may be (:mod:`forerun.ptx.ranges`), the launch accesses exactly these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from forerun.ptx.accesses import Access
from forerun.ptx.cfg import ControlFlow
from forerun.ptx.guards import Guards
from forerun.ptx.lanes import Lanes, Numbers, Truth
from forerun.ptx.launched import AtLaunch
from forerun.ptx.limits import Limits
from forerun.ptx.opcodes import ends_grid
from forerun.ptx.paths import Paths

__all__ = ["Bytes", "Runs", "Touched", "TouchedAtLaunch"]

_Ends = npt.NDArray[np.int64]

Runs = tuple[_Ends, _Ends]
"""Bytes from a pointer on: where each run of them starts, ascending, and where it stops; runs do not touch."""

Bytes = tuple[Runs, bool]
"""Some bytes that are touched, and whether no others are."""

_NOTHING: Runs = np.zeros(0, np.int64), np.zeros(0, np.int64)


class Touched:
    """The bytes that launches of a kernel access for certain.

    Args:
        flow: Its control flow.
        guards: Its predicates.
    """

    def __init__(self, flow: ControlFlow, guards: Guards) -> None:
        self._flow = flow
        self._guards = guards
        self._paths = Paths(flow, guards)

    def at(self, launch: AtLaunch, limits: Limits, most: int) -> TouchedAtLaunch:
        """One launch, for which at most that many numbers are computed."""
        lanes = Lanes(limits, launch, self._guards, self._paths, most)
        return TouchedAtLaunch(self._flow, self._guards, self._paths, lanes)


class TouchedAtLaunch:
    """The bytes that one launch accesses for certain."""

    def __init__(self, flow: ControlFlow, guards: Guards, paths: Paths, lanes: Lanes) -> None:
        self._flow, self._guards, self._paths, self._lanes = flow, guards, paths, lanes
        called = (flow.instructions[index] for index in flow.reached)
        self._calls = any(one.base == "call" and not ends_grid(one) for one in called)  # which may end the thread
        self._executed: dict[object, tuple[list[Truth] | None, bool]] = {}
        self._known: dict[tuple[int, ...], Bytes] = {}

    @property
    def computed(self) -> int:
        """How many numbers were computed, about."""
        return self._lanes.computed

    def cover(self, accesses: Iterable[Access], start: int, stop: int) -> bool:
        """Whether some accesses of one pointer together certainly touch all bytes of a range, counted from there."""
        starts, stops = self.bytes_of(accesses)[0]
        return starts.size == 1 and int(starts[0]) <= start and stop <= int(stops[0])

    def bytes_of(self, accesses: Iterable[Access]) -> Bytes:
        """The bytes that some accesses of one pointer certainly touch, and whether they touch no others."""
        # Those that differ in a constant only, in an unrolled loop, say, are one with more bytes.
        alike: dict[object, list[Access]] = {}
        for one in accesses:
            terms = one.index if one.offset is None else one.offset.terms
            alike.setdefault((terms, self._place(one.index)), []).append(one)
        found = [self._bytes_of(tuple(same)) for same in alike.values()]
        return _union([runs for runs, _ in found]), all(is_complete for _, is_complete in found)

    def _place(self, index: int) -> object:
        """Equal for instructions that the same threads execute."""
        block, guard = self._flow.block_of[index], self._flow.instructions[index].guard
        return (block, guard, guard and self._guards.definition(guard.register, index))

    def _bytes_of(self, alike: tuple[Access, ...]) -> Bytes:
        key = tuple(one.index for one in alike)
        if key not in self._known:
            self._known[key] = self._found(alike)
        return self._known[key]

    def _found(self, alike: tuple[Access, ...]) -> Bytes:
        offsets = [(one.offset, one.bytes) for one in alike if one.offset is not None and one.bytes]
        if len(offsets) < len(alike) or self._calls:
            return _NOTHING, False
        where, is_complete = self._where(alike[0].index)
        if where is None:
            return _NOTHING, is_complete
        summands = self._lanes.summands(offsets[0][0])
        around = self._paths.around(self._flow.block_of[alike[0].index])
        if summands is None or not all(self._lanes.is_inside(one, around) for one in (*where, *summands)):
            return _NOTHING, False
        parts = [self._values(*part) for part in _apart(summands, where)]
        found = _union([_run(self._lanes.constant(offset), size) for offset, size in offsets])
        for values in sorted(parts, key=_step):
            found = _moved(found, values) if self._lanes.may_compute(found[0].size * values.size) else _NOTHING
        return found, is_complete and found[0].size > 0

    def _where(self, index: int) -> tuple[list[Truth] | None, bool]:
        """Which threads certainly execute an instruction, and in which turns: those for which all of these hold.

        ``None`` if no thread does. And whether no other threads do.
        """
        place = self._place(index)
        if place not in self._executed:
            self._executed[place] = self._executing(index)
        return self._executed[place]

    def _executing(self, index: int) -> tuple[list[Truth] | None, bool]:
        decisions = self._paths.to(index)
        if decisions is None:
            return None, False
        tests = [self._lanes.decided(one) for one in decisions]
        turns = [self._lanes.turns(header) for header in self._paths.around(self._flow.block_of[index])]
        known = [truth for truth in (*tests, *(begun for begun, _ in turns)) if truth is not None]
        if not all(truth.any() for truth in known):
            return None, True
        if any(truth is None for truth in tests):
            return None, False
        return [truth for truth in known if not truth.all()], all(is_complete for _, is_complete in turns)

    def _values(self, summands: list[Numbers], where: list[Truth]) -> _Ends:
        """The different sums of some summands where all of some conditions hold."""
        if not self._lanes.has_room(*summands, *where):
            return _NOTHING[0]
        total = sum(summands, np.zeros((1,) * (summands or where)[0].ndim, np.uint64))
        shape = np.broadcast_shapes(total.shape, *(one.shape for one in where))
        chosen = np.broadcast_to(total, shape)
        if where:
            holds = where[0]
            for one in where[1:]:
                holds = holds & one
            chosen = chosen[np.broadcast_to(holds, shape)]
        values: _Ends = np.sort(chosen.ravel().view(np.int64))
        is_new: Truth = np.ones(values.size, np.bool_)
        is_new[1:] = values[1:] != values[:-1]
        return values[is_new]


def _apart(summands: list[Numbers], where: list[Truth]) -> list[tuple[list[Numbers], list[Truth]]]:
    """Summands and conditions in parts that depend on different registers, so that all their sums occur together."""
    parts: list[tuple[set[int], list[Numbers], list[Truth]]] = []
    for array in (*summands, *where):
        axes = {axis for axis, size in enumerate(array.shape) if size > 1}
        own: tuple[set[int], list[Numbers], list[Truth]] = (axes, [], [])
        (own[2] if array.dtype == np.bool_ else own[1]).append(array)  # type: ignore[arg-type]
        for part in [part for part in parts if part[0] & axes]:
            parts.remove(part)
            own = own[0] | part[0], own[1] + part[1], own[2] + part[2]
        parts.append(own)
    return [(numbers, truths) for _, numbers, truths in parts]


# Runs of bytes


def _run(start: int, count: int) -> Runs:
    return np.array([start], np.int64), np.array([start + count], np.int64)


def _step(values: _Ends) -> int:
    """The least distance of two values."""
    return int(np.diff(values).min()) if values.size > 1 else 0


def _moved(runs: Runs, values: _Ends) -> Runs:
    """The union of runs that are moved by each of some values."""
    starts, stops = runs
    return _joined((starts[:, None] + values).ravel(), (stops[:, None] + values).ravel())


def _union(found: Sequence[Runs]) -> Runs:
    if not found:
        return _NOTHING
    return _joined(np.concatenate([one[0] for one in found]), np.concatenate([one[1] for one in found]))


def _joined(starts: _Ends, stops: _Ends) -> Runs:
    """Runs in order, those that touch or overlap as one."""
    if not starts.size:
        return _NOTHING
    order = np.argsort(starts)
    starts, stops = starts[order], np.maximum.accumulate(stops[order])
    begins = np.flatnonzero(starts[1:] > stops[:-1]) + 1
    return starts[np.append(0, begins)], stops[np.append(begins - 1, starts.size - 1)]
