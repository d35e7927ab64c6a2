"""Random changes of random graphs, right and wrong ones, in bodies too: what certificates and checks are tried on."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from forerun.ir.graph import Dependency, Graph
from forerun.ir.nodes import ChildGraphNode, ConditionalNode, EmptyNode, KernelNode, MemsetNode, Node
from forerun.ir.region import BufferView
from forerun.ir.types import DependencyKind

__all__ = ["changed"]


def changed(graph: Graph, chooser: Random) -> tuple[Graph, str]:
    """The graph with one change somewhere, and what was changed; names of changes in bodies begin with ``in ``."""
    body, what = _changed(graph, chooser, list(graph.buffers))
    tables = graph.allocations.values(), graph.buffers.values(), graph.kernels.values()
    return Graph(graph.name, *tables, body.nodes.values(), body.dependencies), what


def _changed(graph: Graph, chooser: Random, buffers: list[str]) -> tuple[Graph, str]:
    owners = [node for node in graph if isinstance(node, ChildGraphNode | ConditionalNode)]
    if owners and chooser.random() < 0.6:
        owner = chooser.choice(owners)
        inside, what = _inside(owner, chooser, buffers)
        nodes: list[Node] = [inside if node is owner else node for node in graph]
        return Graph(graph.name, nodes=nodes, dependencies=graph.dependencies), what
    change = chooser.choice([_reordered, _reordered, _cut, _cut, _swapped, _removed, _refilled, _inserted])
    nodes, dependencies = change(graph, chooser, buffers)
    return Graph(graph.name, nodes=nodes, dependencies=dependencies), change.__name__.strip("_")


def _inside(owner: ChildGraphNode | ConditionalNode, chooser: Random, buffers: list[str]) -> tuple[Node, str]:
    if isinstance(owner, ChildGraphNode):
        body, what = _changed(owner.body, chooser, buffers)
        return replace(owner, body=body), f"in child: {what}"
    way = chooser.random()
    if way < 0.15 and len(owner.bodies) > 1:
        return replace(owner, bodies=owner.bodies[::-1]), "bodies swapped"
    if way < 0.25:
        return replace(owner, condition="row" if owner.condition == "c" else "c"), "condition"
    bodies = list(owner.bodies)
    number = chooser.randrange(len(bodies))
    bodies[number], what = _changed(bodies[number], chooser, buffers)
    return replace(owner, bodies=tuple(bodies)), f"in {owner.kind}: {what}"


_Parts = tuple[list[Node], list[Dependency]]


def _reordered(graph: Graph, chooser: Random, buffers: list[str]) -> _Parts:
    """One dependency of another kind."""
    dependencies = list(graph.dependencies)
    if dependencies:
        at = chooser.randrange(len(dependencies))
        if all(isinstance(graph.nodes[name], KernelNode) for name in dependencies[at].pair):
            dependencies[at] = replace(dependencies[at], kind=chooser.choice(list(DependencyKind)))
    return list(graph), dependencies


def _cut(graph: Graph, chooser: Random, buffers: list[str]) -> _Parts:
    """One dependency less."""
    dependencies = list(graph.dependencies)
    if dependencies:
        dependencies.remove(chooser.choice(dependencies))
    return list(graph), dependencies


def _swapped(graph: Graph, chooser: Random, buffers: list[str]) -> _Parts:
    """Two neighbours in the other launch order; perhaps with a dependency that says so."""
    nodes = list(graph)
    if len(nodes) < 2:
        return nodes, list(graph.dependencies)
    at = chooser.randrange(len(nodes) - 1)
    nodes[at : at + 2] = nodes[at + 1], nodes[at]
    later, earlier = nodes[at + 1].name, nodes[at].name
    dependencies = [d for d in graph.dependencies if d.pair != (later, earlier)]
    return nodes, [*dependencies, Dependency(earlier, later)] if chooser.random() < 0.5 else dependencies


def _removed(graph: Graph, chooser: Random, buffers: list[str]) -> _Parts:
    """One node less; what it joined is connected."""
    gone = chooser.choice(list(graph.nodes))
    kept = {d.pair: d for d in graph.dependencies if gone not in d.pair}
    for source in graph.incoming(gone):
        for target in graph.outgoing(gone):
            kept.setdefault((source.source, target.target), Dependency(source.source, target.target))
    return [node for node in graph if node.name != gone], list(kept.values())


def _refilled(graph: Graph, chooser: Random, buffers: list[str]) -> _Parts:
    """Another value in one fill."""
    fills = [node for node in graph if isinstance(node, MemsetNode)]
    chosen = chooser.choice(fills) if fills else None
    nodes = [
        replace(node, value=(node.value + 1) % 3) if isinstance(node, MemsetNode) and node is chosen else node
        for node in graph
    ]
    return list(nodes), list(graph.dependencies)


def _inserted(graph: Graph, chooser: Random, buffers: list[str]) -> _Parts:
    """One node more that does nothing, or fills something; perhaps tied to its neighbours."""
    nodes, dependencies = list(graph), list(graph.dependencies)
    at = chooser.randrange(len(nodes) + 1)
    fill = MemsetNode("new", BufferView(chooser.choice(buffers)), 1) if buffers else EmptyNode("new")
    nodes.insert(at, chooser.choice([EmptyNode("new"), fill]))
    if chooser.random() < 0.7:
        dependencies += [Dependency(nodes[at - 1].name, "new")] if at else []
        dependencies += [Dependency("new", nodes[at + 1].name)] if at + 1 < len(nodes) else []
    return nodes, dependencies
