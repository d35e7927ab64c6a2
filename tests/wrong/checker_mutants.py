"""Wrong checkers: each forgets a rule, or believes one that does not hold. The list is data; the tests must kill all.

A mutant is made by patching: what a node accesses (the result of ``accesses``), which accesses conflict
(``conflicts``), the graph that the event order sees, or a method of ``ByteSet``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import networkx as nx
import pytest

from forerun.ir.graph import Graph
from forerun.ir.kernel import Barrier, Phase, Role, Trigger, Wait
from forerun.ir.nodes import (
    BufferArgument,
    ChildGraphNode,
    ConditionalNode,
    KernelNode,
    MemcpyNode,
    MemsetNode,
    ScalarLoad,
)
from forerun.ir.semantics import access as access_module
from forerun.ir.semantics import hazards, order, races
from forerun.ir.semantics.access import NodeAccess
from forerun.ir.semantics.byteset import ByteSet
from forerun.ir.semantics.hazards import Conflict
from forerun.ir.semantics.order import EventOrder
from forerun.ir.types import DependencyKind

__all__ = ["MUTANTS", "CheckerMutant"]

_Patch = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class CheckerMutant:
    """A wrong checker: what is wrong with it, and how it is made."""

    name: str
    wrong: str
    patch: _Patch

    @contextmanager
    def active(self) -> Iterator[None]:
        """While it is in force, ``check`` is the wrong checker for every graph that is new."""
        with pytest.MonkeyPatch.context() as monkeypatch:
            self.patch(monkeypatch)
            yield


MUTANTS: list[CheckerMutant] = []


def _mutant(name: str, wrong: str, patch: _Patch) -> None:
    MUTANTS.append(CheckerMutant(name, wrong, patch))


# How mutants are made


def _ordering(change: Callable[[Graph], Graph]) -> _Patch:
    """The event order of another graph."""
    original = EventOrder.__init__

    def init(self: EventOrder, graph: Graph, licences: Iterable[str] = ()) -> None:
        original(self, change(graph), licences)

    return lambda monkeypatch: monkeypatch.setattr(EventOrder, "__init__", init)


def _adjusting(change: Callable[[EventOrder, Graph], None]) -> _Patch:
    """The event order with its sets changed."""
    original = EventOrder.__init__

    def init(self: EventOrder, graph: Graph, licences: Iterable[str] = ()) -> None:
        original(self, graph, licences)
        change(self, graph)

    return lambda monkeypatch: monkeypatch.setattr(EventOrder, "__init__", init)


def _accessing(change: Callable[[Graph, NodeAccess], NodeAccess | None]) -> _Patch:
    """Each access changed, or left out."""
    original = access_module.accesses.compute

    def compute(graph: Graph) -> Any:
        table = original(graph)
        return {
            name: tuple(new for old in found if (new := change(graph, old)) is not None)
            for name, found in table.items()
        }

    return lambda monkeypatch: monkeypatch.setattr(access_module.accesses, "compute", compute)


def _sweeping(
    conflict: Callable[[NodeAccess, NodeAccess], bool] = lambda a, b: _meets(a, b),
    kills: Callable[[NodeAccess, NodeAccess], bool] = lambda a, b: a.write and a.bytes.covers(b.bytes),
    near: Callable[[int, int], bool] = lambda i, j: True,
) -> _Patch:
    """The conflicts from a plain sweep, with other ideas of what conflicts and what a later access hides."""

    def compute(graph: Graph) -> tuple[Conflict, ...]:
        found: list[Conflict] = []
        exposed: list[tuple[int, NodeAccess]] = []
        for j, own in enumerate(access_module.accesses(graph).values()):
            for a in own:
                found += [Conflict(b, a) for i, b in exposed if near(i, j) and conflict(b, a)]
            exposed = [(i, b) for i, b in exposed if not any(a.allocation == b.allocation and kills(a, b) for a in own)]
            exposed += [(j, a) for a in own]
        return tuple(found)

    return lambda monkeypatch: monkeypatch.setattr(hazards.conflicts, "compute", compute)


def _meets(a: NodeAccess, b: NodeAccess) -> bool:
    return (a.write or b.write) and a.allocation == b.allocation and a.bytes.overlaps(b.bytes)


def _method(name: str, function: Callable[..., Any]) -> _Patch:
    return lambda monkeypatch: monkeypatch.setattr(ByteSet, name, function)


def _always_waits(answer: Callable[[Graph, Any], bool]) -> _Patch:
    return lambda monkeypatch: monkeypatch.setattr(order, "always_waits", answer)


# The order of events

FULL, PROGRAMMATIC, LAUNCH_ORDER = DependencyKind


def _retyped(change: Callable[[Graph, Any], DependencyKind]) -> Callable[[Graph], Graph]:
    def retype(graph: Graph) -> Graph:
        tables = graph.allocations.values(), graph.buffers.values(), graph.kernels.values()
        edges = [replace(d, kind=change(graph, d)) for d in graph.dependencies]
        return Graph(graph.name, *tables, graph.nodes.values(), edges)

    return retype


def _roles(graph: Graph, name: str) -> tuple[Role, ...]:
    node = graph.nodes.get(name)
    return graph.kernels[node.kernel].roles or () if isinstance(node, KernelNode) else ()


def _triggers(graph: Graph, name: str) -> bool:
    return any(isinstance(step, Trigger) for role in _roles(graph, name) for step in role.steps)


def _triggers_last(graph: Graph, name: str) -> bool:
    return any(role.steps and isinstance(role.steps[-1], Trigger) for role in _roles(graph, name))


def _as(kind: DependencyKind, where: Callable[[Graph, Any], bool]) -> _Patch:
    return _ordering(_retyped(lambda graph, d: kind if where(graph, d) else d.kind))


_mutant("programmatic-is-full", "a programmatic edge orders the start", _as(FULL, lambda g, d: d.kind is PROGRAMMATIC))
_mutant("launch-order-is-full", "a launch-order edge orders data", _as(FULL, lambda g, d: d.kind is LAUNCH_ORDER))
_mutant(
    "launch-order-is-programmatic",
    "the wait covers launch-order edges",
    _as(PROGRAMMATIC, lambda g, d: d.kind is LAUNCH_ORDER),
)
_mutant("full-is-programmatic", "a full edge orders only the wait", _as(PROGRAMMATIC, lambda g, d: d.kind is FULL))
_mutant("no-edges", "edges order nothing", _as(LAUNCH_ORDER, lambda g, d: True))
_mutant(
    "trigger-is-flush",
    "what comes before the dependents' start was flushed by the trigger",
    _as(FULL, lambda g, d: d.kind is PROGRAMMATIC and _triggers(g, d.source)),
)
_mutant(
    "last-trigger-is-flush",
    "a trigger behind all stores is as good as completion",
    _as(FULL, lambda g, d: d.kind is PROGRAMMATIC and _triggers_last(g, d.source)),
)
_mutant(
    "no-trigger-is-full",
    "without a trigger the dependents start after completion",
    _as(FULL, lambda g, d: d.kind is PROGRAMMATIC and not _triggers(g, d.source)),
)
_mutant("everyone-waits", "H4 holds for kernels that never wait (two hops)", _always_waits(lambda g, n: True))
_mutant("nobody-waits", "H4 is forgotten", _always_waits(lambda g, n: False))
_mutant(
    "first-role-waits",
    "H4 holds only if the first role waits",
    _always_waits(lambda g, n: any(isinstance(s, Wait) for role in _roles(g, n.name)[:1] for s in role.steps)),
)
_mutant(
    "black-boxes-wait",
    "H4 holds for kernels of which nothing is known",
    _always_waits(lambda g, n: isinstance(n, KernelNode) and (not _roles(g, n.name) or g.kernels[n.kernel].has(Wait))),
)


def _ancestors(graph: Graph, name: str, position: dict[str, int]) -> int:
    return sum(1 << position[u] for u in nx.ancestors(graph.topology, name))


def _wait_covers_ancestors(found: EventOrder, graph: Graph) -> None:
    for v, name in enumerate(graph.nodes):
        found.before_wait[v] |= _ancestors(graph, name, found.position)


def _full_covers_ancestors(found: EventOrder, graph: Graph) -> None:
    for v, name in enumerate(graph.nodes):
        for d in graph.incoming(name):
            if d.kind is FULL:
                bits = _ancestors(graph, d.source, found.position)
                found.before_start[v] |= bits
                found.before_wait[v] |= bits
                found.before_completion[v] |= bits


def _starts_in_launch_order(found: EventOrder, graph: Graph) -> None:
    for v in range(len(graph)):
        found.before_start[v] |= (1 << max(v - 2, 0)) - 1


_mutant("wait-is-transitive", "the wait covers all ancestors", _adjusting(_wait_covers_ancestors))
_mutant("full-is-transitive", "a full edge covers all ancestors of its source", _adjusting(_full_covers_ancestors))
_mutant("overlap-is-one-deep", "no kernel meets the one before the one before", _adjusting(_starts_in_launch_order))


def _sinks_by_path(self: EventOrder, graph: Graph) -> list[str]:
    return []


def _only_sinks(self: EventOrder, graph: Graph) -> list[str]:
    """Drained only with a direct full edge to a sink, or as a sink."""
    sinks = {name for name in graph.nodes if not graph.has_outgoing(name)}
    ends = {d.source for d in graph.dependencies if d.target in sinks and d.kind is FULL}
    return [name for name in graph.nodes if name not in sinks | ends]


def _undrained(function: Callable[..., list[str]]) -> _Patch:
    return lambda monkeypatch: monkeypatch.setattr(EventOrder, "undrained", function)


_mutant("wrap-around-ignored", "nodes need not be complete at the end of the replay", _undrained(_sinks_by_path))
_mutant("drained-by-full-edges-only", "only full edges to a sink drain", _undrained(_only_sinks))


def _h5(answer: bool) -> _Patch:
    return lambda monkeypatch: monkeypatch.setattr(order, "triggers_after_wait", lambda kernel: answer)


def _with_h6(monkeypatch: pytest.MonkeyPatch) -> None:
    original = EventOrder.__init__
    monkeypatch.setattr(EventOrder, "__init__", lambda self, graph, licences=(): original(self, graph, {"H6"}))


def _without_h6(monkeypatch: pytest.MonkeyPatch) -> None:
    original = EventOrder.__init__
    monkeypatch.setattr(EventOrder, "__init__", lambda self, graph, licences=(): original(self, graph))


_mutant("h6-without-licence", "triggers order starts in strict mode", _with_h6)
_mutant("licences-ignored", "H6 is never granted", _without_h6)
_mutant("h5-assumed", "every kernel waits before it triggers", _h5(True))
_mutant("h5-forgotten", "no kernel waits before it triggers", _h5(False))


# What a node accesses


def _early(graph: Graph, a: NodeAccess, rule: Callable[[Role, int, tuple[Role, ...]], bool]) -> NodeAccess:
    """The access, with ``early`` decided by its role, its position there, and all roles."""
    roles = _roles(graph, a.node)
    for role in roles:
        for i, step in enumerate(role.steps):
            if isinstance(step, Phase) and step.name == a.phase:
                return replace(a, early=rule(role, i, roles))
    return a


def _has(steps: Iterable[Any], kind: type) -> bool:
    return any(isinstance(step, kind) for step in steps)


def _timing(rule: Callable[[Role, int, tuple[Role, ...]], bool]) -> _Patch:
    return _accessing(lambda graph, a: _early(graph, a, rule))


_mutant(
    "one-wait-for-all-roles",
    "a wait anywhere covers all warps",
    _timing(lambda role, i, roles: not any(_has(r.steps, Wait) for r in roles)),
)
_mutant(
    "wait-covers-what-precedes-it",
    "position does not matter",
    _timing(lambda role, i, roles: not _has(role.steps, Wait)),
)
_mutant("waits-guard-nothing", "every access is before the wait", _timing(lambda role, i, roles: True))
_mutant(
    "barrier-ignored",
    "only a thread's own wait counts",
    _timing(lambda role, i, roles: not _has(role.steps[:i], Wait)),
)
_mutant(
    "barrier-always-trusted",
    "behind any barrier all have waited if one waits at all",
    _timing(
        lambda role, i, roles: (
            not (
                _has(role.steps[:i], Wait)
                or (_has(role.steps[:i], Barrier) and any(_has(r.steps, Wait) for r in roles))
            )
        )
    ),
)
_mutant(
    "early-and-late-swapped", "before and after are exchanged", _accessing(lambda g, a: replace(a, early=not a.early))
)
_mutant("all-late", "even nodes without a wait access after one", _accessing(lambda g, a: replace(a, early=False)))


def _bound(graph: Graph, a: NodeAccess) -> bool:
    """Whether a node is given the buffer itself, rather than an index or a scalar in it."""
    node = graph.nodes[a.node]
    arguments = [x for _, x in node.arguments] if isinstance(node, KernelNode) else []
    return any(isinstance(x, BufferArgument) and x.buffer == a.buffer for x in arguments)


def _is_kernel(graph: Graph, a: NodeAccess) -> bool:
    return isinstance(graph.nodes[a.node], KernelNode)


def _loads(graph: Graph, a: NodeAccess) -> bool:
    node = graph.nodes[a.node]
    arguments = [x for _, x in node.arguments] if isinstance(node, KernelNode) else []
    return any(isinstance(x, ScalarLoad) and x.buffer == a.buffer for x in arguments)


def _dropping(where: Callable[[Graph, NodeAccess], bool]) -> _Patch:
    return _accessing(lambda graph, a: None if where(graph, a) else a)


_mutant(
    "page-table-not-read",
    "the page table is no access",
    _dropping(lambda g, a: a.buffer == "table" and _is_kernel(g, a) and not _bound(g, a)),
)
_mutant(
    "scalar-load-not-an-access",
    "a scalar from memory is a constant",
    _dropping(lambda g, a: not _bound(g, a) and _loads(g, a)),
)


def _renamed(change: Callable[[str], str]) -> _Patch:
    """The symbols of all byte sets renamed."""

    def terms(found: Any) -> Any:
        return tuple((change(symbol), coefficient) for symbol, coefficient in found)

    def rename(graph: Graph, a: NodeAccess) -> NodeAccess:
        found = a.bytes
        new = replace(found, start_terms=terms(found.start_terms), stop_terms=terms(found.stop_terms))
        return replace(a, bytes=new)

    return _accessing(rename)


_mutant(
    "all-scalars-equal",
    "scalars of equal index from different buffers are one",
    _renamed(lambda s: s.replace("%other[", "%pos[")),
)
_mutant(
    "written-scalars-equal",
    "a scalar keeps its value although the graph writes it",
    _renamed(lambda s: s.partition("@")[0]),
)
_mutant(
    "no-two-scalars-equal",
    "two loads of one element are never known to agree",
    _accessing(
        lambda g, a: replace(
            a,
            bytes=replace(
                a.bytes,
                start_terms=tuple((f"{s}{a.node}{a.phase}", c) for s, c in a.bytes.start_terms),
                stop_terms=tuple((f"{s}{a.node}{a.phase}", c) for s, c in a.bytes.stop_terms),
            ),
        )
    ),
)


def _of_graph(change: Callable[[Graph], Graph]) -> _Patch:
    """The accesses of another graph."""
    original = access_module.accesses.compute
    return lambda monkeypatch: monkeypatch.setattr(
        access_module.accesses, "compute", lambda graph: original(change(graph))
    )


def _without_offsets(graph: Graph) -> Graph:
    tables = graph.allocations.values(), graph.buffers.values(), graph.kernels.values()
    nodes = [
        replace(
            node,
            arguments=tuple((n, replace(x, offset=0) if isinstance(x, ScalarLoad) else x) for n, x in node.arguments),
        )
        if isinstance(node, KernelNode)
        else node
        for node in graph
    ]
    return Graph(graph.name, *tables, nodes, graph.dependencies)


def _without_pages(graph: Graph) -> Graph:
    buffers = [replace(buffer, index=None) for buffer in graph.buffers.values()]
    kernels = graph.kernels.values()
    return Graph(graph.name, graph.allocations.values(), buffers, kernels, graph.nodes.values(), graph.dependencies)


_mutant("scalar-offset-ignored", "load(p + 1) is load(p)", _of_graph(_without_offsets))
_mutant("pages-are-rows", "page i of a paged buffer is at row i", _of_graph(_without_pages))


def _is_black_box(graph: Graph, a: NodeAccess) -> bool:
    node = graph.nodes[a.node]
    return isinstance(node, KernelNode) and graph.kernels[node.kernel].is_black_box


def _view_only(graph: Graph, a: NodeAccess) -> NodeAccess:
    view = graph.buffers.get(a.buffer)
    if view is None or not _is_black_box(graph, a):
        return a
    return replace(a, bytes=ByteSet(view.offset, view.stop, exact=False))


def _is(graph: Graph, a: NodeAccess, *kinds: type) -> bool:
    return isinstance(graph.nodes[a.node], kinds)


_mutant("black-box-never-writes", "a black box only reads", _dropping(lambda g, a: a.write and _is_black_box(g, a)))
_mutant("black-box-stays-in-its-view", "a black box keeps to the buffers it is given", _accessing(_view_only))
_mutant(
    "suspicion-is-evidence",
    "what is not known is taken as seen",
    _accessing(lambda g, a: replace(a, certain=True, bytes=replace(a.bytes, exact=True))),
)
_mutant(
    "bodies-ignored",
    "child graphs and conditionals access nothing",
    _dropping(lambda g, a: _is(g, a, ChildGraphNode, ConditionalNode) and (a.write or a.buffer != "pos")),
)
_mutant(
    "condition-not-read",
    "a conditional does not read its condition",
    _dropping(lambda g, a: _is(g, a, ConditionalNode) and not a.write and a.buffer == "pos"),
)
_mutant("copy-reads-nothing", "a copy only writes", _dropping(lambda g, a: _is(g, a, MemcpyNode) and not a.write))
_mutant("copy-writes-nothing", "a copy only reads", _dropping(lambda g, a: _is(g, a, MemcpyNode) and a.write))
_mutant("fill-writes-nothing", "a fill is no access", _dropping(lambda g, a: _is(g, a, MemsetNode)))


def _first_phase(graph: Graph, a: NodeAccess) -> bool:
    roles = _roles(graph, a.node)
    return not roles or any(role.phases and role.phases[0].name == a.phase for role in roles)


_mutant("first-phases-only", "later phases of a role are forgotten", _dropping(lambda g, a: not _first_phase(g, a)))
_mutant(
    "first-role-only",
    "further roles of a kernel are forgotten",
    _dropping(lambda g, a: bool(_roles(g, a.node)) and a.phase not in {p.name for p in _roles(g, a.node)[0].phases}),
)


# Conflicts

_mutant(
    "war-ignored",
    "reading before writing needs no order",
    _sweeping(lambda a, b: _meets(a, b) and (a.write or not b.write)),
)
_mutant(
    "waw-ignored", "writing twice needs no order", _sweeping(lambda a, b: _meets(a, b) and not (a.write and b.write))
)
_mutant("raw-ignored", "reading what was written needs no order", _sweeping(lambda a, b: _meets(a, b) and b.write))
_mutant(
    "reads-conflict",
    "reading twice needs an order",
    _sweeping(lambda a, b: a.allocation == b.allocation and a.bytes.overlaps(b.bytes)),
)
_mutant(
    "arena-reuse-ignored", "buffers conflict by name", _sweeping(lambda a, b: _meets(a, b) and a.buffer == b.buffer)
)
_mutant(
    "allocations-conflict",
    "any two accesses of one allocation meet",
    _sweeping(lambda a, b: (a.write or b.write) and a.allocation == b.allocation),
)
_mutant("neighbours-only", "only adjacent nodes are compared", _sweeping(near=lambda i, j: j == i + 1))
_mutant("reads-hide", "a read hides earlier accesses", _sweeping(kills=lambda a, b: a.bytes.covers(b.bytes)))
_mutant(
    "overlap-hides",
    "a write hides all that it overlaps",
    _sweeping(kills=lambda a, b: a.write and a.bytes.overlaps(b.bytes)),
)
_mutant(
    "hull-hides",
    "a write of some columns hides all of its rows",
    _sweeping(kills=lambda a, b: a.write and replace(a.bytes, levels=(), run=0).covers(b.bytes)),
)
_mutant(
    "unknown-write-hides",
    "a write of unknown extent hides all that it may touch",
    _sweeping(kills=lambda a, b: a.write and replace(a.bytes, exact=True).covers(b.bytes)),
)
_mutant("any-write-hides", "a write hides all of the allocation", _sweeping(kills=lambda a, b: a.write))


# Bytes

_overlaps = ByteSet.overlaps


def _hull(found: ByteSet) -> ByteSet:
    return replace(found, levels=(), run=0)


def _plain_terms(found: ByteSet) -> ByteSet:
    return replace(found, start_terms=(), stop_terms=())


_mutant(
    "closed-intervals",
    "ranges that touch overlap",
    _method("overlaps", lambda a, b: _overlaps(a, b) or _overlaps(replace(a, stop=a.stop + 1), b)),
)
_mutant(
    "last-element-forgotten",
    "the last element of a range is not in it",
    _method("overlaps", lambda a, b: _overlaps(replace(a, stop=a.stop - 4), b) if not a.levels else _overlaps(a, b)),
)
_mutant(
    "columns-by-hull", "columns of one matrix overlap", _method("overlaps", lambda a, b: _overlaps(_hull(a), _hull(b)))
)
_mutant(
    "unknown-is-disjoint",
    "ranges that cannot be compared do not overlap",
    _method(
        "overlaps", lambda a, b: a.start_terms == b.start_terms and a.stop_terms == b.stop_terms and _overlaps(a, b)
    ),
)
_mutant(
    "symbols-are-zero",
    "scalars count as zero",
    _method("overlaps", lambda a, b: _overlaps(_plain_terms(a), _plain_terms(b))),
)


def _relative(graph: Graph, a: NodeAccess) -> NodeAccess:
    view = graph.buffers.get(a.buffer)
    shift = view.offset if view is not None else 0
    found = replace(a.bytes, start=a.bytes.start - shift, stop=a.bytes.stop - shift)
    return replace(a, bytes=found)


_mutant("view-offset-ignored", "every buffer begins at its allocation's first byte", _accessing(_relative))


# The verdict

_check = races.check


def _verdict(change: Callable[[races.Verdict], races.Verdict]) -> _Patch:
    def wrong(graph: Graph, licences: Iterable[str] = frozenset()) -> races.Verdict:
        return change(_check(graph, licences=frozenset(licences)))

    return lambda monkeypatch: monkeypatch.setattr(races, "check", wrong)


_mutant(
    "silent-yes",
    "what is not known to be wrong is proved",
    _verdict(lambda v: replace(v, status="proved") if v.status == "unsupported" else v),
)
_mutant(
    "one-finding-is-none",
    "a single finding is let through",
    _verdict(lambda v: replace(v, status="proved") if len(v.findings) == 1 else v),
)
_mutant(
    "inside-not-checked",
    "bodies are not checked inside",
    lambda monkeypatch: monkeypatch.setattr(races, "with_tables", lambda graph, body: Graph("nothing")),
)
