"""Which bytes of each pointer a launch of a kernel may access: from the first to the last, by interval arithmetic.

The distance of an access from its pointer is a sum (:mod:`forerun.ptx.values`). At a launch its terms have limits: grid
and block are known, scalar parameters too, and loops end by comparisons with such. Guards tighten it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from forerun.ptx.accesses import Access, AccessSummary, only_loads
from forerun.ptx.cfg import ControlFlow, may_follow
from forerun.ptx.guards import Comparison, Guards
from forerun.ptx.launched import AtLaunch, parts_of
from forerun.ptx.limits import Limits
from forerun.ptx.provenance import Provenance
from forerun.ptx.values import Term, Value

if TYPE_CHECKING:
    from forerun.ptx.touched import Touched, TouchedAtLaunch

__all__ = ["MOST_NUMBERS", "Ranges", "Reached"]

MOST_NUMBERS = 1 << 24
"""Addresses of threads, and what they are made of, that are computed for a launch, in a tenth of a second or two."""
_STRONG = frozenset({"volatile", "relaxed", "acquire", "release", "acq_rel"})
_FARTHEST = 1 << 44
"""Bytes. What may be farther from its pointer counts as unknown, so that no address wraps around."""


@dataclass(frozen=True, slots=True)
class Reached:
    """The bytes that a launch accesses of a pointer, counted from there.

    Attributes:
        start: The first that it may access.
        stop: The one behind the last.
        is_exact: Whether it certainly accesses all of them, on each side of the wait on which it accesses any: loads
            them if it does nothing else there, else stores them.
    """

    start: int
    stop: int
    is_exact: bool


class Ranges:
    """The bytes that launches of one kernel may access.

    Args:
        flow: Its control flow.
        summary: What it accesses.

    Attributes:
        pointers: The parameters that addresses derive from, and ``?`` if one is not known.
        size: The number of its instructions.
        computed: How many numbers were computed for all launches.

    Example:
        >>> from forerun.ptx import control_flow, parse_module, summarise
        >>> text = '''.version 9.0
        ... .target sm_90
        ... .entry k(.param .u64 .ptr .global x, .param .u32 n) {
        ...     .reg .b64 %rd<4>; .reg .b32 %r<6>; .reg .pred %p<2>;
        ...     ld.param.u64 %rd1, [x];
        ...     ld.param.u32 %r1, [n];
        ...     mov.u32 %r2, %ctaid.x;
        ...     mov.u32 %r3, %tid.x;
        ...     mad.lo.s32 %r4, %r2, 128, %r3;
        ...     setp.lt.s32 %p1, %r4, %r1;
        ...     mad.wide.s32 %rd2, %r4, 4, %rd1;
        ...     @%p1 st.global.u32 [%rd2], %r3;
        ...     ret;
        ... }'''
        >>> entry = parse_module(text).entry("k")
        >>> flow = control_flow(entry)
        >>> ranges = Ranges(flow, summarise(entry, flow))
        >>> ranges.of(AtLaunch((4, 1, 1), (128, 1, 1), {"n": (500).to_bytes(4, "little")}))
        {'x': (0, 2000)}
    """

    def __init__(self, flow: ControlFlow, summary: AccessSummary) -> None:
        self._flow = flow
        self._values = summary.values or Provenance({}, (), frozenset(), {}, {}, {})
        self._accesses = summary.global_accesses
        self._waits = summary.waits
        self._guards = Guards(flow)
        self.size = len(flow.instructions)
        self.computed = 0
        self._last: tuple[AtLaunch, Limits] | None = None
        self.pointers = frozenset(root for access in self._accesses for root in access.roots)

    @cached_property
    def _known(self) -> tuple[tuple[str, int, Value, tuple[Comparison, ...]], ...]:
        """The accesses of parameters of which all have a distance and a size: parameter, bytes, distance, guards."""
        if "?" in self.pointers:
            return ()
        found, unknown = [], set[str]()
        for one in self._accesses:
            if one.parameter is None or one.parameter_offset or one.offset is None or one.bytes is None:
                unknown |= one.roots
            else:
                found.append((one.parameter, one.bytes, one.offset, self._guards.of(one.index)))
        return tuple(one for one in found if one[0] not in unknown)

    @cached_property
    def scalars(self) -> frozenset[str]:
        """The parameters whose values count."""
        sums = [one.offset for one in self._accesses if one.offset is not None]
        sums += [value for pair in self._values.comparisons.values() for value in pair]
        seen: set[Term] = set()
        waiting = [term for value in sums for term, _ in value.terms]
        while waiting:
            term = waiting.pop()
            if term not in seen:
                seen.add(term)
                waiting += parts_of(term, self._values)
        return frozenset(term.name for term in seen if term.kind == "param") - self.pointers

    def _limits(self, launch: AtLaunch) -> Limits:
        """The limits at a launch; those of the last one are kept."""
        if self._last is None or self._last[0] != launch:
            self._last = launch, Limits(self._flow, self._values, self._guards, launch)
        return self._last[1]

    def of(self, launch: AtLaunch) -> dict[str, tuple[int, int]]:
        """The first byte, and that behind the last, that a launch may access, counted from each pointer parameter.

        Parameters of which that is not known, and those that nothing is accessed through, are not there.

        Args:
            launch: Grid, block, and the bytes of the parameters in :attr:`scalars`.
        """
        if not self._known:
            return {}
        limits = self._limits(self._without_pointers(launch))
        found: dict[str, tuple[int, int]] = {}
        far: set[str] = set()
        for name, size, distance, comparisons in self._known:
            low, high = limits.between(distance, comparisons)
            if high < low:  # its guards are never true
                continue
            if low < -_FARTHEST or high > _FARTHEST:
                far.add(name)
            before = found.get(name, (low, high))
            found[name] = min(before[0], low), max(before[1], high + size)
        return {name: span for name, span in found.items() if name not in far}

    def reached(self, launch: AtLaunch, most: int = MOST_NUMBERS) -> dict[str, Reached]:
        """What a launch accesses of each pointer: the same as :meth:`of`, narrower where all addresses are computed.

        Args:
            launch: As for :meth:`of`.
            most: How many numbers may be computed, about, which are added to :attr:`computed`.
        """
        spans = self.of(launch)
        if not spans:
            return {}
        launch = self._without_pointers(launch)
        touched = self._touched.at(launch, self._limits(launch), most)
        found = {name: self._reached(touched, name, *span) for name, span in spans.items()}
        self.computed += touched.computed
        return found

    def _reached(self, touched: TouchedAtLaunch, name: str, start: int, stop: int) -> Reached:
        sides = self._sides[name]
        (starts, stops), is_complete = touched.bytes_of(one for side in sides for one in side)
        if is_complete and starts.size:
            start, stop = max(start, int(starts[0])), min(stop, int(stops[-1]))
        return Reached(start, stop, all(touched.cover(self._counting(side), start, stop) for side in sides))

    def _without_pointers(self, launch: AtLaunch) -> AtLaunch:
        scalars = {name: data for name, data in launch.parameters.items() if name not in self.pointers}
        return AtLaunch(launch.grid, launch.block, scalars)

    @cached_property
    def _touched(self) -> Touched:
        from forerun.ptx.touched import Touched  # which loads NumPy

        return Touched(self._flow, self._guards)

    @cached_property
    def _sides(self) -> Mapping[str, tuple[list[Access], ...]]:
        """The accesses of each pointer, on each side of the wait."""
        found: dict[str, dict[bool, list[Access]]] = {}
        for one in self._accesses:
            if one.parameter is not None:
                found.setdefault(one.parameter, {}).setdefault(one.after_wait, []).append(one)
        return {name: tuple(sides.values()) for name, sides in found.items()}

    def _counting(self, accesses: list[Access]) -> list[Access]:
        """The accesses of a pointer on one side of the wait that certainly conflict with others.

        Loads count if nothing else is done there, else stores do. Atomic and ordered accesses are not data races with
        each other, prefetches are no accesses, and one before a wait counts if it never comes after one.
        """
        kind = "read" if all(only_loads(one) for one in accesses) else "write"
        return [
            one
            for one in accesses
            if one.kind == kind
            and self._flow.instructions[one.index].base in ("ld", "st")
            and not one.is_asynchronous
            and not _STRONG & set(one.cache)
            and (one.after_wait or not may_follow(self._flow, self._waits, [one.index]))
        ]
