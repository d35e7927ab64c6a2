"""On what it depends that an instruction is executed: predicates, each with where it decides, and turns of loops.

That is exact where control flow is simple. From each block on the way (the dominators of the instruction's block) to
the next one either all paths go there, or one edge does, whose predicate decides. Where it is neither, nothing is
said. Loops are taken to end. Ways to traps and failed assertions are left out: after these, nobody sees any memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from forerun.ptx.cfg import ControlFlow
from forerun.ptx.guards import Guards
from forerun.ptx.opcodes import ends_grid
from forerun.ptx.operands import Register
from forerun.support.cfg import Loop

__all__ = ["Decision", "Paths"]

_MOST_BLOCKS = 1000
"""How many blocks between one and another that it dominates are looked at."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A predicate that must be true, or false.

    Attributes:
        register: The predicate.
        holds: Which of the two.
        use: The index of the instruction that it decides, at which it has its value.
    """

    register: Register
    holds: bool
    use: int


class Paths:
    """What decides whether instructions of a kernel are executed.

    Args:
        flow: Its control flow.
        guards: Its predicates.
    """

    def __init__(self, flow: ControlFlow, guards: Guards) -> None:
        self._flow = flow
        self._guards = guards
        self._known: dict[int, tuple[Decision, ...] | None] = {}
        self._after, self._exits = _without_traps(flow)

    @cached_property
    def loops(self) -> dict[int, Loop]:
        """The loops, by their headers."""
        return {loop.header: loop for loop in self._flow.graph.loops}

    def around(self, block: int) -> frozenset[int]:
        """The headers of the loops in which a block is."""
        return frozenset(header for header, loop in self.loops.items() if block in loop.nodes)

    def to(self, index: int) -> tuple[Decision, ...] | None:
        """What must hold for a thread to execute an instruction, in given turns of the loops around it, and suffices.

        ``None`` if that is not known. Whether the loops come to these turns is another question (:meth:`going_on`).
        """
        found = self._to_block(self._flow.block_of[index])
        guard = self._flow.instructions[index].guard
        if found is None or guard is None:
            return found
        return (*found, Decision(guard.register, not guard.negated, index))

    def _to_block(self, block: int) -> tuple[Decision, ...] | None:
        path: list[int] = []
        at: int | None = block
        while at is not None and at not in self._known:
            path.append(at)
            at = self._flow.graph.immediate_dominators[at]
        found = () if at is None else self._known[at]
        for one in reversed(path):
            step = () if at is None or found is None else self._step(at, one)
            found = self._known[one] = None if found is None or step is None else (*found, *step)
            at = one
        return found

    def _step(self, above: int, block: int) -> tuple[Decision, ...] | None:
        """What decides whether control comes from a block to one that it dominates, in the same turns."""
        if self._always_comes(above, block):
            return ()
        graph = self._flow.graph
        loop = self.loops.get(block)
        before = [one for one in graph.predecessors[block] if loop is None or one not in loop.nodes]
        if before != [above] or (loop is not None and above in loop.nodes):
            return None
        holds, guard = self._guards.taken(above, block), self._flow.branch_of(above).guard
        if holds is None or guard is None:
            return None
        return (Decision(guard.register, holds, self._flow.blocks[above][-1]),)

    def _always_comes(self, above: int, block: int) -> bool:
        """Whether all paths from a block come to another one before they end or begin another turn around both."""
        headers = self.around(above) & self.around(block)
        waiting, seen = [above], {block}
        while waiting:
            one = waiting.pop()
            if one in self._exits or len(seen) > _MOST_BLOCKS:
                return False
            after = set(self._after[one]) - seen
            if after & headers:
                return False
            seen |= after
            waiting += after
        return True

    def going_on(self, header: int) -> Decision | None:
        """What decides after each turn of a loop whether there is another; ``None`` if that is not one predicate."""
        graph, loop = self._flow.graph, self.loops[header]
        leaving = list(self._leaving(loop))
        if len(leaving) != 1 or self._exits & loop.nodes:
            return None
        (block,) = leaving
        inside = [after for after in self._after[block] if after in loop.nodes]
        if len(inside) != 1 or not all(graph.dominates(block, latch) for latch in loop.latches):
            return None
        if any(block in other.nodes and other.nodes < loop.nodes for other in self.loops.values()):
            return None
        holds, guard = self._guards.taken(block, inside[0]), self._flow.branch_of(block).guard
        if holds is None or guard is None:
            return None
        return Decision(guard.register, holds, self._flow.blocks[block][-1])

    def _leaving(self, loop: Loop) -> Iterator[int]:
        """The blocks of a loop from which control may leave it."""
        return (one for one in loop.nodes if any(after not in loop.nodes for after in self._after[one]))


def _without_traps(flow: ControlFlow) -> tuple[tuple[tuple[int, ...], ...], frozenset[int]]:
    """Where control goes after each block, and where it leaves, unless that ends the grid."""
    graph = flow.graph
    doomed: set[int] = set()
    for block in reversed(graph.order):  # after what comes after it, loops aside
        is_trap = any(ends_grid(flow.instructions[at]) and not flow.instructions[at].guard for at in flow.blocks[block])
        after = graph.successors[block]
        if is_trap or (after and block not in graph.exits and doomed.issuperset(after)):
            doomed.add(block)
    exits = graph.exits | {block for block, after in enumerate(graph.successors) if not after}
    traps = {block for block in exits if flow.branch_of(block).base == "trap"}
    successors = (tuple(one for one in after if one not in doomed) for after in graph.successors)
    return tuple(successors), frozenset(exits - doomed - traps)
