"""Invariants of the topology: names, ends, cycles, launch order, edge kinds, nesting."""

from __future__ import annotations

from collections.abc import Iterator

from forerun.ir.graph import Dependency, Graph
from forerun.ir.nodes import KernelNode, is_host_work
from forerun.ir.types import DependencyKind
from forerun.ir.walk import bodies_in
from forerun.support.diagnostics import Diagnostic, Location, did_you_mean

__all__ = ["check"]


def check(graph: Graph) -> Iterator[Diagnostic]:
    """Yield violations of G1 to G6."""
    if not all([graph.name, *graph.nodes]):
        yield Diagnostic("G1", "the graph or a node has no name", Location("graph", graph.name))
    yield from _ends(graph)
    yield from _order(graph)
    for dependency in graph.dependencies:
        if dependency.kind is not DependencyKind.FULL:
            yield from _kernel_ends(graph, dependency)
    for node in graph:
        for body in bodies_in(node):
            yield from _body(graph, node.name, body)


def _location(dependency: Dependency) -> Location:
    return Location("dependency", f"{dependency.source} -> {dependency.target}")


def _ends(graph: Graph) -> Iterator[Diagnostic]:
    nodes = graph.nodes
    for dependency in graph.dependencies:
        for name in dict.fromkeys(dependency.pair):
            if name not in nodes:
                hint = did_you_mean(name, nodes, sigil="#")
                yield Diagnostic("G2", f"no node '{name}'", _location(dependency), hint)


def _order(graph: Graph) -> Iterator[Diagnostic]:
    """A backward dependency is part of a cycle (G3), or the nodes are listed in the wrong order (G4)."""
    place = {name: i for i, name in enumerate(graph.nodes)}
    backward = [d for d in graph.dependencies if place.get(d.source, -1) >= place.get(d.target, len(place))]
    if not backward:
        return
    import networkx as nx

    try:
        cycle = nx.find_cycle(graph.topology)
    except nx.NetworkXNoCycle:
        for dependency in backward:
            hint = f"list '{dependency.source}' before '{dependency.target}'"
            yield Diagnostic("G4", "points against the launch order", _location(dependency), hint)
        return
    names = [source for source, _ in cycle] + [cycle[0][0]]
    shown = names if len(names) <= 12 else [*names[:6], "...", *names[-5:]]
    # One through a node that is not there is in no order, so the whole of the cycle may seem to point forwards.
    dependency = next(d for d in (*backward, *graph.dependencies) if d.pair in {(u, v) for u, v in cycle})
    message = f"cycle of {len(cycle)}: " + " -> ".join(f"#{n}" if n != "..." else n for n in shown)
    yield Diagnostic("G3", message, _location(dependency), "remove one of these dependencies")


def _kernel_ends(graph: Graph, dependency: Dependency) -> Iterator[Diagnostic]:
    ends = [graph.nodes.get(name) for name in dependency.pair]
    if None in ends:
        return
    for node in ends:
        if node is not None and not isinstance(node, KernelNode):
            message = f"{dependency.kind} dependencies join kernel nodes; '{node.name}' is a {type(node).__name__}"
            yield Diagnostic("G5", message, _location(dependency), "make it full")
        elif node is not None and is_host_work(node):
            message = f"{dependency.kind} dependencies join kernel nodes of a device; '{node.name}' runs on the host"
            yield Diagnostic("G5", message, _location(dependency), "make it full")
    places = sorted({str(node.place) for node in ends if node is not None})
    if len(places) > 1:
        message = f"{dependency.kind} dependencies join nodes of one device, not {' and '.join(places)}"
        yield Diagnostic("G5", message, _location(dependency), "make it full")


def _body(graph: Graph, owner: str, body: Graph) -> Iterator[Diagnostic]:
    from forerun.ir.semantics.access import with_tables
    from forerun.ir.verify import field_types, nodes

    at = Location("node", owner)
    if body.allocations or body.buffers or body.kernels:
        yield Diagnostic("G6", f"body '{body.name}' declares tables of its own", at)
        return
    inner = with_tables(graph, body)
    for d in list(field_types.check(inner)) or [*check(inner), *nodes.check(inner)]:
        yield Diagnostic("G6", f"in body '{body.name}': {d.location}: {d.message} ({d.code})", at, d.hint)
