"""Random rewrites of random graphs, right and wrong; whether one is right, nobody knows beforehand."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from forerun.ir.buffer import Allocation
from forerun.ir.graph import Dependency, Graph
from forerun.ir.nodes import (
    AllocNode,
    Argument,
    BufferArgument,
    ChildGraphNode,
    ConditionalNode,
    ConstantArgument,
    EventRecordNode,
    EventWaitNode,
    FreeNode,
    HostCallbackNode,
    KernelNode,
    MemsetNode,
    ScalarLoad,
)
from forerun.ir.refinement.fused import claims
from forerun.ir.types import BufferRole, DependencyKind
from forerun.passes.infra import registry
from forerun.testing.subject import applied, pipeline_of
from tests.oracle.kernel_rewrites import change_barrier, change_events, change_phase, fuse, move_step, swap_phases
from tests.oracle.parts import Rewrite, Rewritten, one, rebuilt, with_node
from tests.oracle.programs import CONSTANTS
from tests.oracle.runs import bodies_of

__all__ = ["PASSES", "REWRITES", "Rewritten"]


# Dependencies


def _drop_edge(chooser: Random, graph: Graph) -> Graph | None:
    edges = list(graph.dependencies)
    if edges:
        edges.remove(chooser.choice(edges))
        return rebuilt(graph, edges=edges)
    return None


def _drop_edges(chooser: Random, graph: Graph) -> Graph:
    return rebuilt(graph, edges=[d for d in graph.dependencies if chooser.random() < 0.7])


def _add_edge(chooser: Random, graph: Graph) -> Graph | None:
    if len(graph) < 2:
        return None
    u, v = sorted(chooser.sample(range(len(graph)), 2))
    names = list(graph.nodes)
    return rebuilt(graph, edges=[*graph.dependencies, Dependency(names[u], names[v])])


def _change_edge(chooser: Random, graph: Graph) -> Graph | None:
    both = [d for d in graph.dependencies if all(isinstance(graph.nodes[n], KernelNode) for n in d.pair)]
    if not both:
        return None
    edge = chooser.choice(both)
    kind = chooser.choice([DependencyKind.PROGRAMMATIC] * 4 + [DependencyKind.FULL, DependencyKind.LAUNCH_ORDER])
    return rebuilt(graph, edges=[replace(d, kind=kind) if d is edge else d for d in graph.dependencies])


def _weaken_all(chooser: Random, graph: Graph) -> Graph:
    edges = []
    for d in graph.dependencies:
        both = all(isinstance(graph.nodes[n], KernelNode) for n in d.pair)
        edges.append(replace(d, kind=DependencyKind.PROGRAMMATIC) if both and chooser.random() < 0.6 else d)
    return rebuilt(graph, edges=edges)


# Nodes


def _moved(chooser: Random, graph: Graph, name: str, *, rewired: bool) -> Graph:
    """A node elsewhere in launch order; at times with dependencies that keep it between its neighbours."""
    nodes = list(graph.nodes.values())
    node = graph.nodes[name]
    nodes.remove(node)
    at = chooser.randint(0, len(nodes))
    nodes.insert(at, node)
    edges = list(graph.dependencies)
    if rewired:
        edges += [Dependency(u.name, name) for u in nodes[:at]] + [Dependency(name, v.name) for v in nodes[at + 1 :]]
    return rebuilt(graph, nodes, edges)


def _move_node(chooser: Random, graph: Graph) -> Graph:
    return _moved(chooser, graph, chooser.choice(list(graph.nodes)), rewired=chooser.random() < 0.7)


def _move_outsider(chooser: Random, graph: Graph) -> Graph | None:
    kinds = (HostCallbackNode, EventRecordNode, EventWaitNode, AllocNode, FreeNode)
    node = one(chooser, graph, kinds)
    return _moved(chooser, graph, node.name, rewired=chooser.random() < 0.8) if node is not None else None


def _swap_nodes(chooser: Random, graph: Graph) -> Graph | None:
    nodes = list(graph.nodes.values())
    if len(nodes) < 2:
        return None
    i = chooser.randint(0, len(nodes) - 2)
    nodes[i], nodes[i + 1] = nodes[i + 1], nodes[i]
    first, second = nodes[i].name, nodes[i + 1].name
    edges = list(graph.dependencies)
    if chooser.random() < 0.7:  # in the place of each other in the chain, too
        edges += [Dependency(first, second)]
        edges += [replace(d, target=first) for d in graph.incoming(second) if d.source != first]
        edges += [replace(d, source=second) for d in graph.outgoing(first) if d.target != second]
        edges += [Dependency(first, d.target) for d in graph.outgoing(second) if d.target != first]
    return rebuilt(graph, nodes, edges)


def _drop_node(chooser: Random, graph: Graph) -> Graph | None:
    if len(graph) < 2:
        return None
    gone = chooser.choice(list(graph.nodes))
    around = [Dependency(u.source, v.target) for u in graph.incoming(gone) for v in graph.outgoing(gone)]
    nodes = [node for node in graph if node.name != gone]
    return rebuilt(graph, nodes, [*around, *graph.dependencies])


def _duplicate_node(chooser: Random, graph: Graph) -> Graph:
    name = chooser.choice(list(graph.nodes))
    nodes = list(graph.nodes.values())
    at = nodes.index(graph.nodes[name])
    twin = replace(nodes[at], name="twin")
    edges = [Dependency(name, "twin"), *(replace(d, source="twin") for d in graph.outgoing(name))]
    return rebuilt(graph, [*nodes[: at + 1], twin, *nodes[at + 1 :]], [*graph.dependencies, *edges])


def _change_constant(chooser: Random, graph: Graph) -> Graph | None:
    node = one(chooser, graph, (KernelNode, MemsetNode))
    if isinstance(node, MemsetNode):
        return with_node(graph, replace(node, value=chooser.randint(0, 1)))
    if not isinstance(node, KernelNode):
        return None
    arguments = list(node.arguments)
    places = [i for i, (_, a) in enumerate(arguments) if isinstance(a, ConstantArgument | ScalarLoad)]
    if not places:
        return None
    i = chooser.choice(places)
    name, old = arguments[i]
    if isinstance(old, ScalarLoad):
        new: Argument = chooser.choice([replace(old, offset=1), ConstantArgument(0)])
    elif isinstance(old.value, float):
        new = ConstantArgument(chooser.choice(CONSTANTS))
    else:
        new = ConstantArgument(chooser.randint(0, 3))
    arguments[i] = name, new
    return with_node(graph, replace(node, arguments=tuple(arguments)))


def _change_argument(chooser: Random, graph: Graph) -> Graph | None:
    node = one(chooser, graph, KernelNode)
    if not isinstance(node, KernelNode):
        return None
    places = [i for i, (_, a) in enumerate(node.arguments) if isinstance(a, BufferArgument)]
    if not places:
        return None
    i = chooser.choice(places)
    name, old = node.arguments[i]
    assert isinstance(old, BufferArgument)
    shape = graph.buffers[old.buffer].shape
    others = [b.name for b in graph.buffers.values() if b.shape == shape]
    arguments = list(node.arguments)
    arguments[i] = name, BufferArgument(chooser.choice(others))
    return with_node(graph, replace(node, arguments=tuple(arguments)))


def _change_launch(chooser: Random, graph: Graph) -> Graph | None:
    node = one(chooser, graph, KernelNode)
    if not isinstance(node, KernelNode):
        return None
    change = chooser.choice([{"grid": (2, 1, 1)}, {"block": (256, 1, 1)}, {"shared_bytes": 64}])
    return with_node(graph, replace(node, launch=replace(node.launch, **change)))


def _add_programmatic_path(chooser: Random, graph: Graph) -> Graph | None:
    kernels = [node.name for node in graph if isinstance(node, KernelNode)]
    if len(kernels) < 2:
        return None
    u, v = sorted(chooser.sample(range(len(kernels)), 2))
    edge = Dependency(kernels[u], kernels[v], DependencyKind.PROGRAMMATIC)
    return rebuilt(graph, edges=[*graph.dependencies, edge])


# Memory


def _relocate(chooser: Random, graph: Graph) -> Graph | None:
    """Temporaries at other places, most of them in one arena, where they may share bytes."""
    outside = {node.allocation for node in graph if isinstance(node, AllocNode | FreeNode)}
    found = [b for b in graph.buffers.values() if b.role is BufferRole.TEMP and b.allocation not in outside]
    if not found:
        return None
    chosen = chooser.sample(found, chooser.randint(1, len(found)))
    width = found[0].dtype.itemsize
    size = sum(b.size for b in found) + 16
    moved = {}
    for buffer in chosen:
        at = chooser.randint(0, (size - buffer.size) // width) * width
        at = at // (4 * width) * 4 * width if chooser.random() < 0.7 else at
        moved[buffer.name] = replace(buffer, allocation="arena", offset=at)
    buffers = [moved.get(b.name, b) for b in graph.buffers.values()]
    homes = {b.allocation for b in buffers}
    allocations = [a for a in graph.allocations.values() if a.name in homes] + [Allocation("arena", size)]
    return rebuilt(graph, buffers=buffers, allocations=allocations)


# Nested graphs, passes


def _inside(chooser: Random, graph: Graph) -> Graph | None:
    """A change in a body."""
    node = one(chooser, graph, (ChildGraphNode, ConditionalNode))
    if node is None:
        return None
    bodies = list(bodies_of(node))
    number = chooser.randrange(len(bodies))
    inner = bodies[number].with_tables_of(graph)
    changed = chooser.choice([_drop_edge, _change_edge, _swap_nodes, move_step, swap_phases])(chooser, inner)
    if changed is None:
        return None
    bodies[number] = Graph(inner.name, nodes=changed.nodes.values(), dependencies=changed.dependencies)
    kernels = changed.kernels.values()
    if isinstance(node, ConditionalNode):
        return with_node(graph, replace(node, bodies=tuple(bodies)), kernels)
    assert isinstance(node, ChildGraphNode)
    return with_node(graph, replace(node, body=bodies[0]), kernels)


def _pass(name: str) -> Rewrite:
    pipeline = pipeline_of(name)

    def rewrite(chooser: Random, graph: Graph) -> Rewritten:
        result = applied(pipeline, graph)
        return Rewritten(result, {f: parts for f, parts in claims(result).items() if f not in graph.nodes})

    return rewrite


def _as_is(chooser: Random, graph: Graph) -> Graph:
    return rebuilt(graph)


PASSES = tuple(
    name
    for name, cls in registry.available().items()
    if name != "apply-tuning" and cls.__module__.startswith("forerun.passes.")  # not those that other tests register
)
"""The passes that are rewrites, too."""

REWRITES: dict[str, tuple[float, Rewrite]] = {
    "nothing": (1, _as_is),
    "drop an edge": (5, _drop_edge),
    "drop edges": (3, _drop_edges),
    "add an edge": (2, _add_edge),
    "change an edge": (4, _change_edge),
    "weaken edges": (3, _weaken_all),
    "add a programmatic edge": (2, _add_programmatic_path),
    "move a node": (4, _move_node),
    "move a host call, an event or an allocation": (3, _move_outsider),
    "swap nodes": (5, _swap_nodes),
    "drop a node": (4, _drop_node),
    "duplicate a node": (2, _duplicate_node),
    "change a constant": (3, _change_constant),
    "change an argument": (2, _change_argument),
    "change a launch": (2, _change_launch),
    "move a step": (6, move_step),
    "swap phases": (5, swap_phases),
    "change waits and triggers": (4, change_events),
    "change barriers": (2, change_barrier),
    "change a phase": (3, change_phase),
    "relocate temporaries": (8, _relocate),
    "fuse": (10, fuse),
    "inside a body": (3, _inside),
    **{name: (2.0, _pass(name)) for name in PASSES},
}
"""The rewrites, with how often they are chosen."""
