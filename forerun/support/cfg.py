"""Control-flow graphs of numbered nodes: dominators, post-dominators, natural loops, control dependence.

Blocks of PTX and instructions of SASS are such nodes. Dominators after Cooper, Harvey and Kennedy, "A Simple, Fast
Dominance Algorithm"; control dependence after Ferrante, Ottenstein and Warren, "The Program Dependence Graph".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

__all__ = ["FlowGraph", "Loop", "reach"]


def reach(begins: Iterable[int], successors: Callable[[int], Iterable[int]]) -> set[int]:
    """The nodes that paths from some nodes come to, those nodes included."""
    seen: set[int] = set()
    waiting = list(begins)
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting.extend(successors(node))
    return seen


@dataclass(frozen=True, slots=True)
class Loop:
    """A natural loop: control enters it through the header, one of its nodes, and goes back there from the latches."""

    header: int
    nodes: frozenset[int]
    latches: tuple[int, ...]


@dataclass(frozen=True)
class FlowGraph:
    """Nodes 0, 1, ... and the edges between them; control begins at node 0.

    Attributes:
        successors: For each node, where control may go next.
        exits: Nodes at which control may leave, besides those without successors.

    Example:
        >>> graph = FlowGraph(((1, 2), (3,), (3,), ()))
        >>> graph.immediate_dominators, graph.immediate_post_dominators
        ((None, 0, 0, 0), (3, 3, 3, None))
    """

    successors: tuple[tuple[int, ...], ...]
    exits: frozenset[int] = frozenset()

    @cached_property
    def predecessors(self) -> tuple[tuple[int, ...], ...]:
        """For each node, where control may come from."""
        return _reversed(self.successors)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The nodes that control reaches, in reverse postorder: nodes before their successors, back edges aside."""
        return _reverse_postorder(self.successors, 0) if self.successors else ()

    @cached_property
    def immediate_dominators(self) -> tuple[int | None, ...]:
        """For each node, the last other node on all paths to it; ``None`` for node 0, and where control never comes."""
        return _immediate_dominators(self.successors, self.predecessors, self.order)

    @cached_property
    def immediate_post_dominators(self) -> tuple[int | None, ...]:
        """For each node, the first other node on all paths from it to an exit; ``None`` if there is none.

        Nodes from which no exit can be reached (endless loops) count as exits.
        """
        last = len(self.successors)
        leaves = {node for node, after in enumerate(self.successors) if not after} | self.exits
        leaves |= set(range(last)) - reach(leaves, self.predecessors.__getitem__)
        forward = (*((*after, last) if node in leaves else after for node, after in enumerate(self.successors)), ())
        backward = _reversed(forward)
        found = _immediate_dominators(backward, forward, _reverse_postorder(backward, last))
        return tuple(None if node == last else node for node in found[:last])

    def dominates(self, first: int, second: int) -> bool:
        """Whether every path to the second node comes through the first (which may be the same)."""
        begin, end = self._intervals[first]
        return begin <= self._intervals[second][0] < end

    @cached_property
    def _intervals(self) -> tuple[tuple[int, int], ...]:
        """Each node's place in a walk through the tree of dominators, and where its subtree ends."""
        children: list[list[int]] = [[] for _ in self.successors]
        for node, above in enumerate(self.immediate_dominators):
            if above is not None:
                children[above].append(node)
        found = [(-1, -1)] * len(children)
        clock = 0
        waiting = [(0, False)] if children else []
        while waiting:
            node, is_done = waiting.pop()
            if is_done:
                found[node] = (found[node][0], clock)
                continue
            found[node] = (clock, clock)
            clock += 1
            waiting.append((node, True))
            waiting += [(child, False) for child in children[node]]
        return tuple(found)

    @cached_property
    def is_reducible(self) -> bool:
        """Whether each cycle is entered through one node alone."""
        return all(self.dominates(target, node) for node, target in self._retreating)

    @cached_property
    def loops(self) -> tuple[Loop, ...]:
        """The natural loops by their headers; loops with the same header are one."""
        latches: dict[int, list[int]] = {}
        for node, target in self._retreating:
            if self.dominates(target, node):
                latches.setdefault(target, []).append(node)
        return tuple(
            Loop(header, frozenset(self._nodes_of_loop(header, found)), tuple(found))
            for header, found in sorted(latches.items())
        )

    def _nodes_of_loop(self, header: int, latches: Sequence[int]) -> set[int]:
        return {header} | reach(
            (node for node in latches if node != header),
            lambda node: (before for before in self.predecessors[node] if before != header and before in self._reached),
        )

    @cached_property
    def _reached(self) -> frozenset[int]:
        return frozenset(self.order)

    @cached_property
    def _retreating(self) -> tuple[tuple[int, int], ...]:
        """Edges against the order."""
        place = {node: number for number, node in enumerate(self.order)}
        return tuple(
            (node, after) for node in self.order for after in self.successors[node] if place[after] <= place[node]
        )

    @cached_property
    def controllers(self) -> tuple[frozenset[int], ...]:
        """For each node, the branches that decide directly whether control comes to it."""
        found: list[set[int]] = [set() for _ in self.successors]
        for node in self.order:
            after = self.successors[node]
            if len(after) + (node in self.exits) < 2:
                continue
            stop = self.immediate_post_dominators[node]
            for begin in after:
                at: int | None = begin
                while at is not None and at != stop:
                    found[at].add(node)
                    at = self.immediate_post_dominators[at]
        return tuple(map(frozenset, found))


def _reversed(successors: Sequence[Iterable[int]]) -> tuple[tuple[int, ...], ...]:
    found: list[dict[int, None]] = [{} for _ in successors]
    for node, after in enumerate(successors):
        for target in after:
            found[target][node] = None
    return tuple(map(tuple, found))


def _reverse_postorder(successors: Sequence[Sequence[int]], begin: int) -> tuple[int, ...]:
    found = []
    seen = {begin}
    waiting = [(begin, iter(successors[begin]))]
    while waiting:
        node, rest = waiting[-1]
        for after in rest:
            if after not in seen:
                seen.add(after)
                waiting.append((after, iter(successors[after])))
                break
        else:
            found.append(node)
            waiting.pop()
    return tuple(reversed(found))


def _immediate_dominators(
    successors: Sequence[Sequence[int]], predecessors: Sequence[Sequence[int]], order: Sequence[int]
) -> tuple[int | None, ...]:
    place = {node: number for number, node in enumerate(order)}
    above: dict[int, int] = {node: node for node in order[:1]}
    changed = True
    while changed:
        changed = False
        for node in order[1:]:
            known = [before for before in predecessors[node] if before in above]
            found = known[0]
            for other in known[1:]:
                while found != other:
                    if place[found] > place[other]:
                        found = above[found]
                    else:
                        other = above[other]
            if above.get(node) != found:
                above[node] = found
                changed = True
    begin = order[0] if order else None
    return tuple(None if node == begin else above.get(node) for node in range(len(successors)))
