"""Wrong checkers that get wrong what a node accesses, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from forerun.ir.graph import Graph
from forerun.ir.kernel import Barrier, Phase, Role, Wait
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
from forerun.ir.semantics.access import NodeAccess
from forerun.ir.semantics.byteset import ByteSet
from tests.wrong.mutant import Patch, accessing, collector, roles_of

__all__ = ["ACCESS_MUTANTS"]

ACCESS_MUTANTS, mutant = collector()


def _early(graph: Graph, a: NodeAccess, rule: Callable[[Role, int, tuple[Role, ...]], bool]) -> NodeAccess:
    """The access, with ``early`` decided by its role, its position there, and all roles."""
    roles = roles_of(graph, a.node)
    for role in roles:
        for i, step in enumerate(role.steps):
            if isinstance(step, Phase) and step.name == a.phase:
                return replace(a, early=rule(role, i, roles))
    return a


def _has(steps: Iterable[Any], kind: type) -> bool:
    return any(isinstance(step, kind) for step in steps)


def _timing(rule: Callable[[Role, int, tuple[Role, ...]], bool]) -> Patch:
    return accessing(lambda graph, a: _early(graph, a, rule))


mutant(
    "one-wait-for-all-roles",
    "a wait anywhere covers all warps",
    _timing(lambda role, i, roles: not any(_has(r.steps, Wait) for r in roles)),
)
mutant(
    "wait-covers-what-precedes-it",
    "position does not matter",
    _timing(lambda role, i, roles: not _has(role.steps, Wait)),
)
mutant("waits-guard-nothing", "every access is before the wait", _timing(lambda role, i, roles: True))
mutant(
    "barrier-ignored",
    "only a thread's own wait counts",
    _timing(lambda role, i, roles: not _has(role.steps[:i], Wait)),
)
mutant(
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
mutant(
    "early-and-late-swapped", "before and after are exchanged", accessing(lambda g, a: replace(a, early=not a.early))
)
mutant("all-late", "even nodes without a wait access after one", accessing(lambda g, a: replace(a, early=False)))


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


def _dropping(where: Callable[[Graph, NodeAccess], bool]) -> Patch:
    return accessing(lambda graph, a: None if where(graph, a) else a)


mutant(
    "page-table-not-read",
    "the page table is not an access",
    _dropping(lambda g, a: a.buffer == "table" and _is_kernel(g, a) and not _bound(g, a)),
)
mutant(
    "scalar-load-not-an-access",
    "a scalar from memory is a constant",
    _dropping(lambda g, a: not _bound(g, a) and _loads(g, a)),
)


def _renamed(change: Callable[[str], str]) -> Patch:
    """The symbols of all byte sets renamed."""

    def terms(found: Any) -> Any:
        return tuple((change(symbol), coefficient) for symbol, coefficient in found)

    def rename(graph: Graph, a: NodeAccess) -> NodeAccess:
        found = a.bytes
        new = replace(found, start_terms=terms(found.start_terms), stop_terms=terms(found.stop_terms))
        return replace(a, bytes=new)

    return accessing(rename)


mutant(
    "all-scalars-equal",
    "scalars of equal index from different buffers are one",
    _renamed(lambda s: s.replace("%other[", "%pos[")),
)
mutant(
    "no-two-scalars-equal",
    "two loads of one element are never known to agree",
    accessing(
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


def _of_graph(change: Callable[[Graph], Graph]) -> Patch:
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


mutant("scalar-offset-ignored", "load(p + 1) is load(p)", _of_graph(_without_offsets))
mutant("pages-are-rows", "page i of a paged buffer is at row i", _of_graph(_without_pages))


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


mutant("black-box-never-writes", "a black box only reads", _dropping(lambda g, a: a.write and _is_black_box(g, a)))
mutant("black-box-stays-in-its-view", "a black box keeps to the buffers it is given", accessing(_view_only))
mutant(
    "suspicion-is-evidence",
    "what is not known is taken as seen",
    accessing(lambda g, a: replace(a, certain=True, bytes=replace(a.bytes, exact=True))),
)
mutant(
    "bodies-ignored",
    "child graphs and conditionals access nothing",
    _dropping(lambda g, a: _is(g, a, ChildGraphNode, ConditionalNode) and (a.write or a.buffer != "pos")),
)
mutant(
    "condition-not-read",
    "a conditional does not read its condition",
    _dropping(lambda g, a: _is(g, a, ConditionalNode) and not a.write and a.buffer == "pos"),
)
mutant("copy-reads-nothing", "a copy only writes", _dropping(lambda g, a: _is(g, a, MemcpyNode) and not a.write))
mutant("copy-writes-nothing", "a copy only reads", _dropping(lambda g, a: _is(g, a, MemcpyNode) and a.write))
mutant("fill-writes-nothing", "a fill is not an access", _dropping(lambda g, a: _is(g, a, MemsetNode)))


def _first_phase(graph: Graph, a: NodeAccess) -> bool:
    roles = roles_of(graph, a.node)
    return not roles or any(role.phases and role.phases[0].name == a.phase for role in roles)


mutant("first-phases-only", "later phases of a role are forgotten", _dropping(lambda g, a: not _first_phase(g, a)))
mutant(
    "first-role-only",
    "further roles of a kernel are forgotten",
    _dropping(
        lambda g, a: bool(roles_of(g, a.node)) and a.phase not in {p.name for p in roles_of(g, a.node)[0].phases}
    ),
)
