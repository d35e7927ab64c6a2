"""Limits of sums at one launch of a kernel: how often loops turn, and what guards say."""

from __future__ import annotations

from collections.abc import Iterable

from forerun.ptx.cfg import ControlFlow
from forerun.ptx.guards import Comparison, Guards, Linear, below, inequalities, relation_of, stays_in
from forerun.ptx.launched import AtLaunch, LaunchedValues
from forerun.ptx.provenance import Provenance
from forerun.ptx.values import Term, Value
from forerun.support.cfg import Loop

__all__ = ["Limits"]


class Limits:
    """Limits of sums at one launch.

    Args:
        flow: The control flow of the kernel.
        values: What its addresses and comparisons are made of.
        guards: What its branches say.
        launch: The launch.
    """

    def __init__(self, flow: ControlFlow, values: Provenance, guards: Guards, launch: AtLaunch) -> None:
        self._flow = flow
        self._provenance = values
        self._guards = guards
        self._turns: dict[int, int] = {}
        for loop in sorted(flow.graph.loops, key=lambda one: flow.graph.order.index(one.header)):
            self._enter(LaunchedValues(values, launch, self._turns))
            most = self._most_turns(loop)
            if most is not None:
                self._turns[loop.header] = most
        self._enter(LaunchedValues(values, launch, self._turns))

    def _enter(self, values: LaunchedValues) -> None:
        self._values = values
        self._said: dict[Comparison, tuple[Linear, ...]] = {}

    def between(self, value: Value, comparisons: Iterable[Comparison]) -> tuple[int, int]:
        """Between which numbers a sum lies where comparisons hold."""
        known = self._all(comparisons)
        found = Linear.of(self._values.value(value))
        return found.lowest(known), found.highest(known)

    def value(self, value: Value) -> Value:
        """A sum of the kernel at this launch (:class:`~forerun.ptx.launched.LaunchedValues`)."""
        return self._values.value(value)

    def register(self, term: Term) -> str | None:
        """The special register that a term of such a sum is; ``None`` if it is something else."""
        return self._values.register(term)

    def compared(self, setp: int) -> tuple[Value, Value] | None:
        """What a comparison compares at this launch; ``None`` if that is not known."""
        pair = self._provenance.comparisons.get(setp)
        return None if pair is None else (self._values.value(pair[0]), self._values.value(pair[1]))

    def turns(self, header: int) -> int | None:
        """How often a loop goes back to its header at most; ``None`` if that is not known."""
        return self._turns.get(header)

    def _all(self, comparisons: Iterable[Comparison]) -> list[Linear]:
        return [one for comparison in comparisons for one in self._inequalities(comparison)]

    def _inequalities(self, comparison: Comparison) -> tuple[Linear, ...]:
        if comparison not in self._said:
            pair = self._provenance.comparisons.get(comparison.setp)
            found: tuple[Linear, ...] = ()
            if pair is not None:
                sides = self._values.value(pair[0]), self._values.value(pair[1])
                found = inequalities(self._flow.instructions[comparison.setp], comparison.holds, *sides)
            self._said[comparison] = found
        return self._said[comparison]

    def _most_turns(self, loop: Loop) -> int | None:
        """How often a loop goes back at most: the least that one of the comparisons says that let it go on."""
        found = (self._turns_of(loop, one) for one in self._staying(loop))
        return min((most for most in found if most is not None), default=None)

    def _staying(self, loop: Loop) -> list[Comparison]:
        """What holds in each turn after which the loop goes back."""
        found: list[Comparison] = []
        graph = self._flow.graph
        for block in loop.nodes:
            # It is executed in each turn after which the loop goes back.
            if not all(graph.dominates(block, latch) for latch in loop.latches):
                continue
            last = self._flow.branch_of(block)
            inside = [after for after in graph.successors[block] if after in loop.nodes]
            holds = self._guards.taken(block, inside[0]) if len(inside) == 1 else None
            if holds is None or last.guard is None:
                continue
            at = self._flow.blocks[block][-1]
            for one in self._guards.of_predicate(last.guard.register, holds, at):
                if self._flow.block_of[one.setp] in loop.nodes:
                    found.append(one)
        return found

    def _turns_of(self, loop: Loop, comparison: Comparison) -> int | None:
        """How often a loop goes back at most if a comparison must hold for it."""
        pair = self._provenance.comparisons.get(comparison.setp)
        if pair is None:
            return None
        one, bits = self._flow.instructions[comparison.setp], pair[0].bits
        left, right = (Linear.of(self._values.value(side)) for side in pair)
        turns = {t for t in (*left.terms, *right.terms) if t.kind == "turn" and t.name == str(loop.header)}
        if len(turns) != 1:
            return None
        (turn,) = turns
        if relation_of(one, comparison.holds) == "ne":
            return self._turns_to_equality(loop, left.plus(right, -1), turn)
        known = self._all(self._guards.of_block(self._flow.block_of[comparison.setp]))
        found = []
        for goes_on in below(one, comparison.holds, left, right):
            step, rest = goes_on.without(turn)
            if step <= 0:
                continue
            # From the first turn on in which it certainly is more than 0.
            most = max(0, -((rest.lowest(known) - 1) // step))
            if all(stays_in(one, bits, *_between(side, turn, most)) for side in (left, right)):
                found.append(most)
        return min(found, default=None)

    def _turns_to_equality(self, loop: Loop, difference: Linear, turn: Term) -> int | None:
        """How often a loop goes back that ends when a difference is 0."""
        step, rest = difference.without(turn)
        if step < 0:
            step, rest = -step, Linear({}, 0).plus(rest, -1)
        if rest.low == rest.high:
            return -rest.low // step if rest.low <= 0 and rest.low % step == 0 else None
        # In steps of 1 it comes to every number, if it begins below and nothing else changes.
        if step != 1 or not all(map(self._values.is_constant, rest.terms)):
            return None
        known = self._all(self._guards.of_block(loop.header))
        return -rest.lowest(known) if rest.highest(known) <= 0 else None


def _between(side: Linear, turn: Term, most: int) -> tuple[int, int]:
    """The limits of a sum if a loop goes back at most so often."""
    step, rest = side.without(turn)
    return rest.low + min(step * most, 0), rest.high + max(step * most, 0)
