"""Repairs: single changes that remove a race or drain a node, each applied to the graph and checked again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from forerun.ir.analysis import Analysis
from forerun.ir.explain.witness import chain_between, chain_to_sink
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Barrier, Kernel, Phase, Role, Wait
from forerun.ir.nodes import KernelNode
from forerun.ir.semantics.access import NodeAccess, accesses, with_tables
from forerun.ir.semantics.hazards import PhaseClashes
from forerun.ir.semantics.nested import body_at
from forerun.ir.semantics.order import order_under
from forerun.ir.semantics.races import Race, Undrained, is_ordered, open_clashes
from forerun.ir.types import DependencyKind
from forerun.ir.verify import verify
from forerun.ir.walk import BodyPath, bodies_in, bodies_of, with_bodies

__all__ = ["AddWait", "FullDependency", "MoveAccess", "Repair", "drain_repairs", "repairs"]

MOST_REPAIRS = 3


@dataclass(frozen=True, slots=True)
class FullDependency:
    """Makes the dependency between two nodes full, or adds a full one."""

    source: str
    target: str
    present: bool

    @property
    def sentence(self) -> str:
        """What to do."""
        what = "make the dependency" if self.present else "add a full dependency"
        return f"{what} '{self.source}' -> '{self.target}'" + (" full" if self.present else "")

    def apply(self, graph: Graph) -> Graph:
        """The graph with the dependency."""
        edit = graph.edit()
        edit.add_dependency(Dependency(self.source, self.target, DependencyKind.FULL))
        return edit.commit()


@dataclass(frozen=True, slots=True)
class AddWait:
    """Lets every role of a node that does not wait begin with a wait; other launches of the kernel stay as they are."""

    node: str

    @property
    def sentence(self) -> str:
        """What to do."""
        return f"let every role of '{self.node}' wait first"

    def apply(self, graph: Graph) -> Graph:
        """The graph with a variant of the kernel."""

        def waiting(kernel: Kernel) -> tuple[Role, ...]:
            return tuple(
                role if any(isinstance(s, Wait) for s in role.steps) else replace(role, steps=(Wait(), *role.steps))
                for role in kernel.roles or ()
            )

        return _with_body(graph, self.node, waiting, "wait")


@dataclass(frozen=True, slots=True)
class MoveAccess:
    """Moves a phase of a node to just after the wait of its role."""

    node: str
    phase: str

    @property
    def sentence(self) -> str:
        """What to do."""
        return f"move phase '{self.phase}' of '{self.node}' after the wait"

    def apply(self, graph: Graph) -> Graph:
        """The graph with a variant of the kernel."""
        return _with_body(graph, self.node, lambda kernel: tuple(map(self._moved, kernel.roles or ())), "late")

    def _moved(self, role: Role) -> Role:
        steps = list(role.steps)
        at = next((i for i, step in enumerate(steps) if isinstance(step, Phase) and step.name == self.phase), None)
        wait = next((i for i, step in enumerate(steps) if isinstance(step, Wait)), None)
        if at is None or wait is None or at > wait:
            return role
        return replace(role, steps=(*steps[:at], *steps[at + 1 : wait + 1], steps[at], *steps[wait + 1 :]))


Change: TypeAlias = FullDependency | AddWait | MoveAccess


@dataclass(frozen=True, slots=True)
class Repair:
    """A single change after which the check no longer finds what it is for, nor anything new.

    Attributes:
        proved: Whether nothing at all is left to repair after it.
        body: The nested graph that the change is made in; empty for the graph itself.
    """

    change: Change
    proved: bool
    body: BodyPath = ()

    @property
    def sentence(self) -> str:
        """What to do, for people."""
        where = "/".join(f"{name} (body {number + 1})" if number else name for name, number in self.body)
        return self.change.sentence + (f", inside '{where}'" if where else "")

    def apply(self, graph: Graph) -> Graph:
        """The repaired graph."""
        return _applied(graph, self.body, self.change)


def _applied(graph: Graph, path: BodyPath, change: Change) -> Graph:
    """A graph with a change made in one of its nested graphs; new kernels go to the table of the outermost."""
    if not path:
        return change.apply(graph)
    (name, number), *_ = path
    (body,) = [body for (step,), body in bodies_of(graph) if step == (name, number)]
    inner = _applied(with_tables(graph, body), path[1:], change)
    edit = graph.edit()
    for kernel in inner.kernels.values():
        edit.set_kernel(kernel)
    repaired = Graph(body.name, nodes=inner.nodes.values(), dependencies=inner.dependencies)
    node = graph.nodes[name]
    bodies = [repaired if i == number else body for i, body in enumerate(bodies_in(node))]
    edit.replace_node(with_bodies(node, bodies))
    edit.drop_unused_kernels()
    return edit.commit()


def repairs(graph: Graph, race: Race, assumptions: Iterable[str] = frozenset()) -> tuple[Repair, ...]:
    """Up to three ways to remove a race: a present dependency made full, a wait, a phase moved, a dependency added.

    Each was tried, under the assumptions of the check: the race is gone, the graph is valid, and nothing new is found.
    """
    inner = body_at(graph, race.body)
    u, v = race.earlier.node, race.later.node
    chain = chain_between(inner, u, v)
    found = [*_fuller(chain)]
    if race.later.early:
        found += _move(inner, race.later)
    found += [AddWait(name) for name in (v, *(d.target for d in chain[:-1])) if _may_wait(inner, name)]
    found.append(FullDependency(u, v, inner.dependency(u, v) is not None))
    return _tried(graph, race.body, found, frozenset(assumptions), race)


def drain_repairs(
    graph: Graph, node: str, assumptions: Iterable[str] = frozenset(), *, body: BodyPath = ()
) -> tuple[Repair, ...]:
    """Up to three ways to let an undrained node, in the graph or in a body of it, complete before a sink does."""
    inner = body_at(graph, body)
    chain = chain_to_sink(inner, node)
    found = [*_fuller(chain)]
    found += [AddWait(d.target) for d in chain if _may_wait(inner, d.target)]
    if chain:
        sink = chain[-1].target
        found.append(FullDependency(node, sink, inner.dependency(node, sink) is not None))
    return _tried(graph, body, found, frozenset(assumptions), Undrained(node, body))


# Candidates


def _fuller(chain: tuple[Dependency, ...]) -> Iterator[Change]:
    for dependency in chain:
        if dependency.kind is not DependencyKind.FULL:
            yield FullDependency(*dependency.pair, present=True)


def _may_wait(graph: Graph, name: str) -> bool:
    """Whether the compiler can put a wait into a node: some role has none, and the machine code is the compiler's."""
    return any(not any(isinstance(step, Wait) for step in role.steps) for role in _own_roles(graph, name))


def _own_roles(graph: Graph, name: str, *, moves: bool = False) -> tuple[Role, ...]:
    """The body of a node, if the compiler can put a wait into its code, or can move what is there; else nothing."""
    node = graph.nodes[name]
    kernel = graph.kernels.get(node.kernel) if isinstance(node, KernelNode) else None
    if kernel is None or kernel.has_fixed_code or (moves and kernel.has_foreign_code):
        return ()
    return kernel.roles or ()


def _move(graph: Graph, access: NodeAccess) -> list[Change]:
    """Moving a phase over others is legal if it touches nothing that they write, and the other way round.

    What it gives may not be taken on the way, and it crosses no barrier: the verifier would find the former (K6), and
    with the latter it could miss what other roles do.
    """
    for role in _own_roles(graph, access.node, moves=True):
        names = [step.name if isinstance(step, Phase) else "" for step in role.steps]
        wait = next((i for i, step in enumerate(role.steps) if isinstance(step, Wait)), -1)
        if access.phase not in names[: max(wait, 0)]:
            continue
        crossed = role.steps[names.index(access.phase) + 1 : wait]
        if any(isinstance(step, Barrier) for step in crossed):
            return []
        others = {step.name for step in crossed if isinstance(step, Phase)}
        clashes = PhaseClashes(graph, access.node)
        held = any(clashes.between(access.phase, other) for other in others)
        return [] if held else [MoveAccess(access.node, access.phase)]
    return []


def _with_body(graph: Graph, name: str, body: Callable[[Kernel], tuple[Role, ...]], suffix: str) -> Graph:
    node = graph.nodes[name]
    if not isinstance(node, KernelNode):
        return graph
    edit = graph.edit()
    kernel = graph.kernels[node.kernel]
    edit.replace_node(replace(node, kernel=edit.kernel_variant(kernel, body(kernel), suffix).name))
    edit.drop_unused_kernels()
    return edit.commit()


# Trying


_Key: TypeAlias = tuple[object, ...] | Undrained


def _end(access: NodeAccess) -> tuple[object, ...]:
    """What an access is, whatever is known of its order."""
    return access.node, access.allocation, access.buffer, access.bytes, access.write, access.phase


def _tried(
    graph: Graph, body: BodyPath, candidates: list[Change], assumptions: frozenset[str], target: Race | Undrained
) -> tuple[Repair, ...]:
    known = _findings(graph, assumptions)
    good: list[Repair] = []
    for change in dict.fromkeys(candidates):
        if len(good) == MOST_REPAIRS:
            break
        repaired = _applied(graph, body, change)
        left = _findings(repaired, assumptions)
        new = any(nodes & ~known.get(key, 0) for key, nodes in left.items())
        if not new and not _is_left(repaired, assumptions, target, left) and not verify(repaired):
            good.append(Repair(change, not left, body))
    return tuple(good)


def _findings(graph: Graph, assumptions: frozenset[str]) -> dict[_Key, int]:
    """What a check finds, those undrained included: for each later access, and bytes of earlier ones, their nodes.

    Nodes are sets of launch positions, since there may be as many races as pairs of nodes.
    """
    known = _kept_findings(graph)
    if assumptions not in known:
        found: dict[_Key, int] = {}
        known[assumptions] = found
        _collect(graph, (), assumptions, found)
    return known[assumptions]


_kept_findings: Analysis[dict[frozenset[str], dict[_Key, int]]] = Analysis(
    {"nodes", "dependencies", "kernels", "buffers", "allocations"}, lambda _: {}
)


def _collect(graph: Graph, path: BodyPath, assumptions: frozenset[str], found: dict[_Key, int]) -> None:
    order = order_under(graph, assumptions)
    for clash, unordered in open_clashes(graph, order):
        later = _end(clash.later)
        for alike, nodes in unordered:
            earlier = alike.first
            key = path, later, earlier.bytes, earlier.write, earlier.buffer if earlier.certain else ""
            found[key] = found.get(key, 0) | nodes << alike.base
    found.update((Undrained(name, path), 1) for name in order.undrained(graph))
    for inner_path, body in bodies_of(graph, path):
        _collect(with_tables(graph, body), inner_path, assumptions, found)


def _is_left(graph: Graph, assumptions: frozenset[str], target: Race | Undrained, left: dict[_Key, int]) -> bool:
    """Whether a change has not removed what it is for."""
    if isinstance(target, Undrained):
        return target in left
    inner = body_at(graph, target.body)
    order, table = order_under(inner, assumptions), accesses(inner)
    first, second = ([a for a in table[end.node] if _end(a) == _end(end)] for end in (target.earlier, target.later))
    return not all(is_ordered(order, a, b) for a in first for b in second)
