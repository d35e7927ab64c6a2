"""The explorer: every schedule of a small graph, step by step, to judge the checker by.

It shares with the checker what a node accesses and the names of the assumptions, and nothing else: no event order, no
reachability. It runs a machine. Each node starts, its roles execute their steps, and it completes. An access is *open*
from the step that issues it until its node is complete: a load may be performed late, a store becomes visible at any
point in between. Under H8 a fenced trigger closes what a barrier puts before it. Two nodes race if in some reachable
state of the machine both have a conflicting access open. A node is undrained if some reachable state has all sinks
complete and it not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from forerun.ir.graph import Graph
from forerun.ir.kernel import Barrier, Kernel, Phase, Step, Trigger, Wait
from forerun.ir.nodes import KernelNode
from forerun.ir.semantics.access import NodeAccess, accesses
from forerun.ir.semantics.order import require_assumptions
from forerun.ir.types import DependencyKind
from forerun.support.diagnostics import Unsupported

__all__ = ["Exploration", "enumerate_orders", "explore"]

Pair = tuple[NodeAccess, NodeAccess]
"""Two conflicting accesses; the node of the first comes first in launch order."""


@dataclass(frozen=True, slots=True)
class Exploration:
    """What the machine can do.

    Attributes:
        races: Conflicting pairs that are open in one state.
        undrained: Nodes that may be incomplete when all sinks are complete.
        states: How many states were visited.
    """

    races: frozenset[Pair]
    undrained: frozenset[str]
    states: int

    @property
    def proved(self) -> bool:
        """Whether there is neither a race nor an undrained node."""
        return not self.races and not self.undrained


# One node


@dataclass(frozen=True, slots=True)
class _Machine:
    """The states of one node, by number; 0 is the state before the start.

    Attributes:
        moves: For each state: what has to hold (``start``, ``wait`` or nothing), and the next state.
        issued: For each state: the phases whose accesses are open.
        released: For each state: the phases of which a fenced trigger has closed what it may close.
        triggered: For each state: whether T has happened.
        fenced: Whether T is a fenced trigger, however the node runs.
        complete: The number of the last state.
    """

    moves: tuple[tuple[tuple[str, int], ...], ...]
    issued: tuple[frozenset[str], ...]
    released: tuple[frozenset[str], ...]
    triggered: tuple[bool, ...]
    fenced: bool
    complete: int


_Place = tuple[int, int]
"""The number of a role, and a position in it."""

_Local = tuple[tuple[int, ...], _Place | None]
"""The position of each role, and where the first trigger was executed, if one was."""


@lru_cache(maxsize=100_000)
def _machine(roles: tuple[tuple[Step, ...], ...]) -> _Machine:
    """Enumerate the states that a body can be in: positions of its roles, and T."""
    first: _Local = ((0,) * len(roles), None)
    numbers: dict[_Local, int] = {first: 1}
    moves: list[list[tuple[str, int]]] = [[("start", 1)], []]
    queue = [first]
    for local in queue:
        for need, following in _steps(roles, local):
            if following not in numbers:
                numbers[following] = len(moves)
                moves.append([])
                queue.append(following)
            moves[numbers[local]].append((need, numbers[following]))
    complete = len(moves)
    ended = {local for local in numbers if all(at == len(s) for at, s in zip(local[0], roles, strict=True))}
    for local in ended:
        moves[numbers[local]].append(("", complete))
    nothing = frozenset[str]()
    issued = (nothing, *(_phases(roles, positions) for positions, _ in numbers), nothing)
    released = (nothing, *(_released(roles, fired) for _, fired in numbers), nothing)
    # Without a trigger it fires when all roles have ended, before the completion (docs/pdl.md, rule 3).
    triggered = (False, *(fired is not None or (positions, fired) in ended for positions, fired in numbers), True)
    fenced = all(fired is not None and _is_fenced(roles, fired) for _, fired in ended)
    return _Machine(tuple(map(tuple, [*moves, []])), issued, released, triggered, fenced, complete)


def _phases(roles: tuple[tuple[Step, ...], ...], positions: tuple[int, ...]) -> frozenset[str]:
    """The phases that come before the positions of their roles."""
    done = [steps[:at] for at, steps in zip(positions, roles, strict=True)]
    return frozenset(step.name for steps in done for step in steps if isinstance(step, Phase))


def _is_fenced(roles: tuple[tuple[Step, ...], ...], fired: _Place) -> bool:
    return roles[fired[0]][fired[1]] == Trigger(fenced=True)


def _released(roles: tuple[tuple[Step, ...], ...], fired: _Place | None) -> frozenset[str]:
    """What the fence covers: everything before the last barrier that its thread passed; copies aside."""
    if fired is None or not _is_fenced(roles, fired):
        return frozenset()
    passed = sum(isinstance(step, Barrier) for step in roles[fired[0]][: fired[1]])
    cuts = []
    for steps in roles:
        barriers = [at for at, step in enumerate(steps) if isinstance(step, Barrier)]
        cuts.append(barriers[passed - 1] if 0 < passed <= len(barriers) else 0)
    copies = {step.name for steps in roles for step in steps if isinstance(step, Phase) and step.asynchronous}
    return _phases(roles, tuple(cuts)) - copies


def _steps(roles: tuple[tuple[Step, ...], ...], local: _Local) -> Iterator[tuple[str, _Local]]:
    """One step of one role, or one barrier of all."""
    positions, fired = local
    at_barrier = [at < len(s) and isinstance(s[at], Barrier) for at, s in zip(positions, roles, strict=True)]
    if at_barrier and all(at_barrier):
        yield "", (tuple(at + 1 for at in positions), fired)
    for i, (at, steps) in enumerate(zip(positions, roles, strict=True)):
        if at < len(steps) and not at_barrier[i]:
            step = steps[at]
            moved = (*positions[:i], at + 1, *positions[i + 1 :])
            first = fired if fired is not None or not isinstance(step, Trigger) else (i, at)
            yield "wait" if isinstance(step, Wait) else "", (moved, first)


def _machine_of(kernel: Kernel | None) -> _Machine:
    """A node without a body (a copy, say, or a black box) does all that it does in one phase without a name."""
    roles = kernel.roles if kernel is not None else None
    return _machine(((Phase(""),),) if roles is None else tuple(role.steps for role in roles))


# The graph


class _Graph:
    """The machines of all nodes, what holds back their moves, and which of their accesses conflict."""

    def __init__(self, graph: Graph, assumptions: Iterable[str]) -> None:
        self.names = tuple(graph.nodes)
        place = {name: i for i, name in enumerate(self.names)}
        kernels = [graph.kernels.get(n.kernel) if isinstance(n, KernelNode) else None for n in graph]
        self.machines = [_machine_of(kernel) for kernel in kernels]
        self.opaque = [kernel is None or kernel.is_black_box for kernel in kernels]
        self.sources: dict[str, list[list[int]]] = {}
        for kind in (DependencyKind.FULL, DependencyKind.PROGRAMMATIC):
            edges = [[place[d.source] for d in graph.incoming(n) if d.kind is kind] for n in self.names]
            self.sources[str(kind)] = edges
        known = require_assumptions(assumptions)
        self.h8 = "H8" in known
        self.gates = ["H6" in known or (self.h8 and machine.fenced) for machine in self.machines]
        self.sinks = [i for i, name in enumerate(self.names) if not graph.has_outgoing(name)]
        self.pairs = list(_conflicting(graph, place))

    @property
    def start(self) -> tuple[int, ...]:
        return (0,) * len(self.names)

    def allowed(self, state: tuple[int, ...], node: int, need: str) -> bool:
        """Whether what holds back a move is over: H2, H6 and H8 for a start, H3 for a wait."""
        machines, primaries = self.machines, self.sources["programmatic"][node]
        if need == "start":
            if not all(machines[u].triggered[state[u]] for u in primaries if self.gates[u]):
                return False
            return all(state[u] == machines[u].complete for u in self.sources["full"][node])
        return need != "wait" or all(state[u] == machines[u].complete for u in primaries)

    def following(self, state: tuple[int, ...]) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Every move of every node, with the state that it leads to."""
        for i, local in enumerate(state):
            for need, after in self.machines[i].moves[local]:
                if self.allowed(state, i, need):
                    yield i, (*state[:i], after, *state[i + 1 :])

    def is_open(self, state: tuple[int, ...], node: int, access: NodeAccess) -> bool:
        """Whether an access of a node may be performed in a state."""
        phase, machine = "" if self.opaque[node] else access.phase, self.machines[node]
        closed = self.h8 and phase in machine.released[state[node]]
        return phase in machine.issued[state[node]] and not closed


def _conflicting(graph: Graph, place: dict[str, int]) -> Iterator[tuple[int, int, NodeAccess, NodeAccess]]:
    table = list(accesses(graph).values())
    for i, j in product(range(len(table)), repeat=2):
        for a, b in product(table[i], table[j]) if i < j else ():
            if (a.write or b.write) and a.allocation == b.allocation and a.bytes.overlaps(b.bytes):
                yield place[a.node], place[b.node], a, b


def explore(graph: Graph, assumptions: Iterable[str] = (), *, limit: int = 1_000_000) -> Exploration:
    """Visit every reachable state once.

    Args:
        graph: A verified graph of few nodes: states multiply.
        assumptions: Opt-in rules. H6: a node starts only when its programmatic sources have triggered. H8: it does so
            if these triggers are fenced, and they close what comes before a barrier before them.
        limit: Most states to visit.

    Raises:
        Unsupported: If there are more states than the limit.
    """
    machine = _Graph(graph, assumptions)
    races: set[Pair] = set()
    undrained: set[str] = set()
    left = list(machine.pairs)
    seen = {machine.start}
    stack = [machine.start]
    while stack:
        state = stack.pop()
        caught = [p for p in left if machine.is_open(state, p[0], p[2]) and machine.is_open(state, p[1], p[3])]
        if caught:
            races.update((a, b) for _, _, a, b in caught)
            left = [pair for pair in left if pair not in caught]
        done = [local == m.complete for local, m in zip(state, machine.machines, strict=True)]
        if all(done[sink] for sink in machine.sinks):
            undrained.update(name for name, complete in zip(machine.names, done, strict=True) if not complete)
        for _, after in machine.following(state):
            if after not in seen:
                seen.add(after)
                stack.append(after)
        if len(seen) > limit:
            raise Unsupported(f"more than {limit} states", hint="explore a smaller graph")
    return Exploration(frozenset(races), frozenset(undrained), len(seen))


# The naive enumerator


def enumerate_orders(graph: Graph, assumptions: Iterable[str] = ()) -> frozenset[Pair]:
    """The races, found without memory and without the notion of an open access: to judge the explorer by.

    For each conflicting pair every schedule is run to its end, and in it the two accesses are performed at moments of
    their own, between the step that issues them and the completion of their node. They race if some schedule performs
    the one first, and another schedule the other. Takes time exponential in the steps of all nodes.
    """
    machine = _Graph(graph, assumptions)
    return frozenset((a, b) for i, j, a, b in machine.pairs if len(_orders(machine, ((i, a), (j, b)))) == 2)


def _orders(machine: _Graph, pair: tuple[tuple[int, NodeAccess], ...]) -> set[NodeAccess]:
    """Which of two accesses some schedule performs first."""
    first: set[NodeAccess] = set()

    def run(state: tuple[int, ...], performed: tuple[NodeAccess, ...]) -> None:
        pending = {i: x for i, x in pair if x not in performed and machine.is_open(state, i, x)}
        for access in pending.values():
            first.update(performed[:1] or [access])
            run(state, (*performed, access))
        for node, after in machine.following(state):
            if node not in pending or machine.is_open(after, node, pending[node]):
                run(after, performed)

    run(machine.start, ())
    return first
