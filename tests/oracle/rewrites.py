"""Random rewrites of random graphs, right and wrong; whether one is right, nobody knows beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from forerun.ir.buffer import Allocation, Buffer
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Access, Barrier, Kernel, Parameter, Phase, Role, ScalarParameter, Step, Trigger, Wait
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
    Node,
    ScalarLoad,
)
from forerun.ir.region import WHOLE, Region, region
from forerun.ir.types import BufferRole, DependencyKind
from forerun.passes import registry
from forerun.testing.subject import applied, pipeline_of
from tests.oracle.programs import CONSTANTS
from tests.oracle.runs import bodies_of

__all__ = ["PASSES", "REWRITES", "Rewritten"]


@dataclass(frozen=True)
class Rewritten:
    """A graph, and the nodes of before that some of its nodes are said to stand for."""

    graph: Graph
    fusions: dict[str, tuple[str, ...]] = field(default_factory=dict)


Rewrite = Callable[[Random, Graph], Graph | Rewritten | None]


def _rebuilt(
    graph: Graph,
    nodes: Iterable[Node] | None = None,
    edges: Iterable[Dependency] | None = None,
    kernels: Iterable[Kernel] | None = None,
    buffers: Iterable[Buffer] | None = None,
    allocations: Iterable[Allocation] | None = None,
) -> Graph:
    """The graph with other parts; dependencies that would point backwards, or to nothing, are left out."""
    found = list(graph.nodes.values() if nodes is None else nodes)
    place = {node.name: i for i, node in enumerate(found)}
    wanted = graph.dependencies if edges is None else edges
    once = {d.pair: d for d in wanted if place.get(d.source, 1 << 30) < place.get(d.target, -1)}
    return Graph(
        graph.name,
        graph.allocations.values() if allocations is None else allocations,
        graph.buffers.values() if buffers is None else buffers,
        graph.kernels.values() if kernels is None else kernels,
        found,
        once.values(),
    )


def _one(chooser: Random, graph: Graph, kind: type | tuple[type, ...]) -> Node | None:
    found = [node for node in graph if isinstance(node, kind)]
    return chooser.choice(found) if found else None


# Dependencies


def _drop_edge(chooser: Random, graph: Graph) -> Graph | None:
    edges = list(graph.dependencies)
    if edges:
        edges.remove(chooser.choice(edges))
        return _rebuilt(graph, edges=edges)
    return None


def _drop_edges(chooser: Random, graph: Graph) -> Graph:
    return _rebuilt(graph, edges=[d for d in graph.dependencies if chooser.random() < 0.7])


def _add_edge(chooser: Random, graph: Graph) -> Graph | None:
    if len(graph) < 2:
        return None
    u, v = sorted(chooser.sample(range(len(graph)), 2))
    names = list(graph.nodes)
    return _rebuilt(graph, edges=[*graph.dependencies, Dependency(names[u], names[v])])


def _change_edge(chooser: Random, graph: Graph) -> Graph | None:
    both = [d for d in graph.dependencies if all(isinstance(graph.nodes[n], KernelNode) for n in d.pair)]
    if not both:
        return None
    edge = chooser.choice(both)
    kind = chooser.choice([DependencyKind.PROGRAMMATIC] * 4 + [DependencyKind.FULL, DependencyKind.LAUNCH_ORDER])
    return _rebuilt(graph, edges=[replace(d, kind=kind) if d is edge else d for d in graph.dependencies])


def _weaken_all(chooser: Random, graph: Graph) -> Graph:
    edges = []
    for d in graph.dependencies:
        both = all(isinstance(graph.nodes[n], KernelNode) for n in d.pair)
        edges.append(replace(d, kind=DependencyKind.PROGRAMMATIC) if both and chooser.random() < 0.6 else d)
    return _rebuilt(graph, edges=edges)


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
    return _rebuilt(graph, nodes, edges)


def _move_node(chooser: Random, graph: Graph) -> Graph:
    return _moved(chooser, graph, chooser.choice(list(graph.nodes)), rewired=chooser.random() < 0.7)


def _move_outsider(chooser: Random, graph: Graph) -> Graph | None:
    kinds = (HostCallbackNode, EventRecordNode, EventWaitNode, AllocNode, FreeNode)
    node = _one(chooser, graph, kinds)
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
    return _rebuilt(graph, nodes, edges)


def _drop_node(chooser: Random, graph: Graph) -> Graph | None:
    if len(graph) < 2:
        return None
    gone = chooser.choice(list(graph.nodes))
    around = [Dependency(u.source, v.target) for u in graph.incoming(gone) for v in graph.outgoing(gone)]
    nodes = [node for node in graph if node.name != gone]
    return _rebuilt(graph, nodes, [*around, *graph.dependencies])


def _duplicate_node(chooser: Random, graph: Graph) -> Graph:
    name = chooser.choice(list(graph.nodes))
    nodes = list(graph.nodes.values())
    at = nodes.index(graph.nodes[name])
    twin = replace(nodes[at], name="twin")
    edges = [Dependency(name, "twin"), *(replace(d, source="twin") for d in graph.outgoing(name))]
    return _rebuilt(graph, [*nodes[: at + 1], twin, *nodes[at + 1 :]], [*graph.dependencies, *edges])


def _with_node(graph: Graph, node: Node, kernels: Iterable[Kernel] | None = None) -> Graph:
    return _rebuilt(graph, [node if old.name == node.name else old for old in graph], kernels=kernels)


def _change_constant(chooser: Random, graph: Graph) -> Graph | None:
    node = _one(chooser, graph, (KernelNode, MemsetNode))
    if isinstance(node, MemsetNode):
        return _with_node(graph, replace(node, value=chooser.randint(0, 1)))
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
    return _with_node(graph, replace(node, arguments=tuple(arguments)))


def _change_argument(chooser: Random, graph: Graph) -> Graph | None:
    node = _one(chooser, graph, KernelNode)
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
    return _with_node(graph, replace(node, arguments=tuple(arguments)))


def _change_launch(chooser: Random, graph: Graph) -> Graph | None:
    node = _one(chooser, graph, KernelNode)
    if not isinstance(node, KernelNode):
        return None
    change = chooser.choice([{"grid": (2, 1, 1)}, {"block": (256, 1, 1)}, {"shared_bytes": 64}])
    return _with_node(graph, replace(node, launch=replace(node.launch, **change)))


def _add_programmatic_path(chooser: Random, graph: Graph) -> Graph | None:
    kernels = [node.name for node in graph if isinstance(node, KernelNode)]
    if len(kernels) < 2:
        return None
    u, v = sorted(chooser.sample(range(len(kernels)), 2))
    edge = Dependency(kernels[u], kernels[v], DependencyKind.PROGRAMMATIC)
    return _rebuilt(graph, edges=[*graph.dependencies, edge])


# Bodies of kernels


def _body(chooser: Random, graph: Graph, change: Callable[[list[list[Step]]], bool]) -> Graph | None:
    """A node with a changed body, under the kernel's old name or under a new one."""
    found = [n for n in graph if isinstance(n, KernelNode) and graph.kernels[n.kernel].roles]
    if not found:
        return None
    node = chooser.choice(found)
    kernel = graph.kernels[node.kernel]
    assert isinstance(node, KernelNode)
    assert kernel.roles is not None
    steps = [list(role.steps) for role in kernel.roles]
    if not change(steps):
        return None
    roles = tuple(replace(role, steps=tuple(s)) for role, s in zip(kernel.roles, steps, strict=True))
    kernels = {k.name: k for k in graph.kernels.values()}
    name = kernel.name if chooser.random() < 0.5 else f"{kernel.name}_new"
    kernels[name] = replace(kernel, name=name, roles=roles)
    return _with_node(graph, replace(node, kernel=name), kernels.values())


def _move_step(chooser: Random, graph: Graph) -> Graph | None:
    def change(roles: list[list[Step]]) -> bool:
        steps = chooser.choice(roles)
        if len(steps) < 2:
            return False
        steps.insert(chooser.randint(0, len(steps) - 1), steps.pop(chooser.randint(0, len(steps) - 1)))
        return True

    return _body(chooser, graph, change)


def _swap_phases(chooser: Random, graph: Graph) -> Graph | None:
    def change(roles: list[list[Step]]) -> bool:
        steps = chooser.choice(roles)
        places = [i for i, step in enumerate(steps) if isinstance(step, Phase)]
        if len(places) < 2:
            return False
        k = chooser.randint(0, len(places) - 2)
        i, j = places[k], places[k + 1]
        steps[i], steps[j] = steps[j], steps[i]
        return True

    return _body(chooser, graph, change)


def _change_events(chooser: Random, graph: Graph) -> Graph | None:
    def change(roles: list[list[Step]]) -> bool:
        steps = chooser.choice(roles)
        kind = chooser.choice([Wait, Trigger])
        present = [i for i, step in enumerate(steps) if isinstance(step, kind)]
        if present:
            steps.pop(chooser.choice(present))
        if not present or chooser.random() < 0.3:
            steps.insert(chooser.randint(0, len(steps)), kind())
        return True

    return _body(chooser, graph, change)


def _change_barrier(chooser: Random, graph: Graph) -> Graph | None:
    def change(roles: list[list[Step]]) -> bool:
        if chooser.random() < 0.4 and any(isinstance(step, Barrier) for step in roles[0]):
            for steps in roles:
                steps[:] = [step for step in steps if not isinstance(step, Barrier)]
        else:
            for steps in roles:
                steps.insert(chooser.randint(0, len(steps)), Barrier())
        return True

    return _body(chooser, graph, change)


def _change_phase(chooser: Random, graph: Graph) -> Graph | None:
    def change(roles: list[list[Step]]) -> bool:
        steps = chooser.choice(roles)
        places = [i for i, step in enumerate(steps) if isinstance(step, Phase)]
        if not places:
            return False
        i = chooser.choice(places)
        phase = steps[i]
        assert isinstance(phase, Phase)
        kind = chooser.random()
        if kind < 0.4:
            steps[i] = replace(phase, asynchronous=not phase.asynchronous)
        elif kind < 0.6 and phase.writes:
            steps[i] = replace(phase, writes=tuple(_other_part(chooser, a) for a in phase.writes))
        elif kind < 0.8 and phase.reads:
            steps[i] = replace(phase, reads=tuple(_other_part(chooser, a) for a in phase.reads))
        else:
            steps[i] = replace(phase, reference="m:f0")
        return True

    return _body(chooser, graph, change)


def _other_part(chooser: Random, access: Access) -> Access:
    parts: list[Region] = [WHOLE, region((0, 2)), region((1, 3)), region((0, 1))]
    return replace(access, region=chooser.choice(parts))


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
    return _rebuilt(graph, buffers=buffers, allocations=allocations)


# Fusion


def _fuse(chooser: Random, graph: Graph) -> Rewritten | None:
    """One kernel for two or three in a row, with all of their phases, or without some accesses."""
    names = [n.name for n in graph if isinstance(n, KernelNode) and graph.kernels[n.kernel].roles]
    if len(names) < 2:
        return None
    count = min(len(names), chooser.choice([2, 2, 2, 3]))
    at = chooser.randint(0, len(names) - count)
    parts = names[at : at + count] if chooser.random() < 0.8 else sorted(chooser.sample(names, count), key=names.index)
    parameters: list[Parameter] = []
    bound: list[tuple[str, Argument]] = []
    steps: list[Step] = []
    for number, part in enumerate(parts):
        node = graph.nodes[part]
        assert isinstance(node, KernelNode)
        kernel = graph.kernels[node.kernel]
        own = f"_{number}"
        parameters += [replace(p, name=p.name + own) for p in kernel.parameters]
        bound += [(name + own, argument) for name, argument in node.arguments]
        scalars = {p.name for p in kernel.parameters if isinstance(p, ScalarParameter)}
        steps += [_renamed(phase, own, scalars) for phase in _in_epochs(kernel)]
    steps = [_pruned(chooser, graph, step, dict(bound), parts) for step in steps]
    if chooser.random() < 0.3:
        steps.insert(0, Wait())
    kernel = Kernel("fusedk", tuple(parameters), (Role("main", tuple(steps)),))
    node = KernelNode("fused", "fusedk", tuple(bound))
    nodes = [n for n in graph if n.name not in parts]
    where = chooser.choice([parts[0], parts[-1], parts[-1]])
    later = list(graph.nodes)[list(graph.nodes).index(where) + 1 :]
    index = next((i for i, n in enumerate(nodes) if n.name in later), len(nodes))
    nodes.insert(index, node)
    edges = []
    for d in graph.dependencies:
        ends = ["fused" if end in parts else end for end in d.pair]
        if ends[0] != ends[1]:
            edges.append(Dependency(*ends, d.kind if "fused" not in ends else DependencyKind.FULL))
    if chooser.random() < 0.7:
        order = [n.name for n in nodes]
        at = order.index("fused")
        edges += [Dependency(u, "fused") for u in order[:at]] + [Dependency("fused", v) for v in order[at + 1 :]]
    kernels = [*graph.kernels.values(), kernel]
    return Rewritten(_rebuilt(graph, nodes, edges, kernels), {"fused": tuple(parts)})


def _in_epochs(kernel: Kernel) -> list[Phase]:
    """The phases of all roles in an order that they may have."""
    found: list[tuple[int, int, int, Phase]] = []
    for number, role in enumerate(kernel.roles or ()):
        epoch = 0
        for at, step in enumerate(role.steps):
            epoch += isinstance(step, Barrier)
            if isinstance(step, Phase):
                found.append((epoch, number, at, step))
    return [phase for *_, phase in sorted(found, key=lambda entry: entry[:3])]


def _renamed(phase: Phase, own: str, scalars: set[str]) -> Phase:
    symbols = {s: s + own for s in scalars}

    def access(found: Access) -> Access:
        return Access(found.parameter + own, found.region.substitute(symbols))

    return Phase(
        phase.name + own,
        tuple(map(access, phase.reads)),
        tuple(map(access, phase.writes)),
        tuple(t + own for t in phase.takes),
        tuple(g + own for g in phase.gives),
        tuple(s + own for s in phase.scalars),
        phase.asynchronous,
    )


def _pruned(chooser: Random, graph: Graph, step: Step, bound: dict[str, Argument], parts: Sequence[str]) -> Step:
    """A phase without accesses of temporaries, which a fused kernel keeps to itself; or without others, wrongly."""
    assert isinstance(step, Phase)

    def stays(access: Access, likely: float) -> bool:
        argument = bound[access.parameter]
        assert isinstance(argument, BufferArgument)
        temporary = graph.buffers[argument.buffer].role is BufferRole.TEMP
        return chooser.random() < (likely if temporary else 0.97)

    return replace(
        step,
        reads=tuple(a for a in step.reads if stays(a, 0.5)),
        writes=tuple(a for a in step.writes if stays(a, 0.6)),
    )


# Nested graphs, passes


def _inside(chooser: Random, graph: Graph) -> Graph | None:
    """A change in a body."""
    node = _one(chooser, graph, (ChildGraphNode, ConditionalNode))
    if node is None:
        return None
    bodies = list(bodies_of(node))
    number = chooser.randrange(len(bodies))
    inner = bodies[number].with_tables_of(graph)
    changed = chooser.choice([_drop_edge, _change_edge, _swap_nodes, _move_step, _swap_phases])(chooser, inner)
    if changed is None:
        return None
    bodies[number] = Graph(inner.name, nodes=changed.nodes.values(), dependencies=changed.dependencies)
    kernels = changed.kernels.values()
    if isinstance(node, ConditionalNode):
        return _with_node(graph, replace(node, bodies=tuple(bodies)), kernels)
    assert isinstance(node, ChildGraphNode)
    return _with_node(graph, replace(node, body=bodies[0]), kernels)


def _pass(name: str) -> Rewrite:
    pipeline = pipeline_of(name)

    def rewrite(chooser: Random, graph: Graph) -> Rewritten:
        result = applied(pipeline, graph)
        return Rewritten(result, dict(result.delta.fusions) if result.delta is not None else {})

    return rewrite


def _as_is(chooser: Random, graph: Graph) -> Graph:
    return _rebuilt(graph)


PASSES = tuple(name for name in registry.available() if name != "apply-tuning")
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
    "move a step": (6, _move_step),
    "swap phases": (5, _swap_phases),
    "change waits and triggers": (4, _change_events),
    "change barriers": (2, _change_barrier),
    "change a phase": (3, _change_phase),
    "relocate temporaries": (8, _relocate),
    "fuse": (10, _fuse),
    "inside a body": (3, _inside),
    **{name: (2.0, _pass(name)) for name in PASSES},
}
"""The rewrites, with how often they are chosen."""
