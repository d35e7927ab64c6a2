"""Binds a graph to memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from forerun.ir.affine import AffineLike
from forerun.ir.bound_kernel import BoundParameters, bind_kernel
from forerun.ir.graph import Graph
from forerun.ir.kernel import Access, Phase, Role
from forerun.ir.nodes import ChildGraphNode, ConditionalNode, KernelNode, Node, ScalarLoad
from forerun.ir.types import DependencyKind
from forerun.runtime.reference.bound import (
    BoundControl,
    BoundGraph,
    BoundKernel,
    BoundNode,
    BoundOperation,
    BoundPhase,
    BoundStep,
    Links,
    Reach,
    ScalarSource,
    linear,
)
from forerun.runtime.reference.functions import check_arity, find_function
from forerun.runtime.reference.memory import BufferMemory, Memory
from forerun.runtime.reference.operations import bind_operation
from forerun.support.diagnostics import Unsupported

__all__ = ["bind_graph", "bind_node", "rebind_nodes"]


def bind_graph(graph: Graph, memory: Memory) -> BoundGraph:
    """Bind a valid graph to the memory of its buffers.

    Raises:
        InvalidInput: If a function cannot be found, or cannot take the arguments that the kernel gives it.
        Unsupported: If a kernel is a black box, or a phase has no reference function.
    """
    return _Binder(graph, memory).graph(graph, "")


def bind_node(graph: Graph, node: KernelNode, buffers: Mapping[str, BufferMemory], place: str) -> BoundGraph:
    """Bind one kernel node of a valid graph to the memory of the buffers that it uses: a graph of this node alone.

    Raises:
        InvalidInput: If a function cannot be found, or cannot take the arguments that the kernel gives it.
        Unsupported: If the kernel is a black box, or a phase has no reference function.
    """
    return BoundGraph(node.name, (_bound_kernel(graph, node, buffers, place),), (Links(0, 0, (), (), True),))


def _bound_kernel(tables: Graph, node: KernelNode, buffers: Mapping[str, BufferMemory], place: str) -> BoundKernel:
    kernel = tables.kernels[node.kernel]
    if kernel.roles is None:
        hint = "the reference target, and the host, run kernels whose bodies are phases with NumPy functions"
        raise Unsupported(f"{place}: kernel '{kernel.name}' is a black box", hint=hint)
    binding = _KernelBinding(buffers, bind_kernel(tables, node), f"{place}, kernel '{kernel.name}'")
    return BoundKernel(node.name, tuple(binding.role(role) for role in kernel.roles), len(binding.slots))


def rebind_nodes(bound: BoundGraph, graph: Graph, memory: Memory, positions: Iterable[int]) -> BoundGraph:
    """The bound form of a graph that differs from a bound one in the nodes at some launch positions alone.

    Raises:
        InvalidInput: If a function cannot be found, or cannot take the arguments that the kernel gives it.
        Unsupported: If a kernel is a black box, or a phase has no reference function.
    """
    nodes, given, binder = list(bound.nodes), list(graph), _Binder(graph, memory)
    for position in positions:
        nodes[position] = binder.node(given[position], "")
    return BoundGraph(graph.name, tuple(nodes), bound.links)


class _Binder:
    """Holds the tables: bodies of child graphs and conditionals name the enclosing graph's."""

    def __init__(self, tables: Graph, memory: Memory) -> None:
        self.tables = tables
        self.memory = memory

    def graph(self, graph: Graph, path: str) -> BoundGraph:
        nodes = tuple(self.node(node, path) for node in graph)
        return BoundGraph(graph.name, nodes, _links(graph))

    def node(self, node: Node, path: str) -> BoundNode:
        place = f"node '{path}{node.name}'"
        inside = f"{path}{node.name}/"
        match node:
            case KernelNode():
                return _bound_kernel(self.tables, node, self.memory.buffers, place)
            case ChildGraphNode():
                return BoundControl(node.name, place, "child", None, (self.graph(node.body, inside),))
            case ConditionalNode():
                bodies = tuple(self.graph(body, inside) for body in node.bodies)
                condition = self.memory.buffers[node.condition].readable.reshape(-1)[0:1].reshape(())
                return BoundControl(node.name, place, node.kind, condition, bodies)
            case _:
                return BoundOperation(node.name, place, bind_operation(node, place, self.memory))


class _KernelBinding:
    """One kernel node while it is bound."""

    def __init__(self, buffers: Mapping[str, BufferMemory], bound: BoundParameters, place: str) -> None:
        kernel = bound.kernel
        self.place = place
        self.buffers = {name: buffers[buffer.name] for name, buffer in bound.buffers.items()}
        self.sources = {name: _scalar_source(buffers, load) for name, load in bound.loads.items()}
        floats = {p.name for p in kernel.parameters if p.dtype.is_float}
        self.constants = {name: float(v) if name in floats else v for name, v in bound.constants.items()}
        self.symbols: dict[str, AffineLike] = {**bound.integers}
        given = dict.fromkeys(name for phase in kernel.phases for name in phase.defines)
        self.slots = {name: i for i, name in enumerate(given)}

    def role(self, role: Role) -> tuple[BoundStep, ...]:
        return tuple(self.phase(step) if isinstance(step, Phase) else step for step in role.steps)

    def phase(self, phase: Phase) -> BoundPhase:
        place = f"{self.place}, phase '{phase.name}'"
        if phase.reference is None:
            hint = "give the phase a NumPy function: Phase(..., reference='module:function')"
            raise Unsupported(f"{place} has no reference function", hint=hint)
        place += f", function '{phase.reference}'"
        function = find_function(phase.reference, place)
        check_arity(function, len(phase.reads) + len(phase.uses) + len(phase.scalars), place)
        loads = self.loaded(phase)
        return BoundPhase(
            name=phase.name,
            place=place,
            function=function,
            reads=tuple(self.reach(access, loads, place, write=False) for access in phase.reads),
            uses=tuple(self.slots[name] for name in phase.uses),
            scalars=tuple((loads.get(name), self.constants.get(name, 0)) for name in phase.scalars),
            loads=tuple(self.sources[name] for name in loads),
            writes=tuple(self.reach(access, loads, place, write=True) for access in phase.writes),
            defines=tuple(self.slots[name] for name in phase.defines),
            asynchronous=phase.asynchronous,
        )

    def loaded(self, phase: Phase) -> dict[str, int]:
        """The scalars that the phase loads from memory, each with its position."""
        used = [*phase.scalars, *(s for a in (*phase.reads, *phase.writes) for s in a.region.symbols)]
        return {name: i for i, name in enumerate(dict.fromkeys(name for name in used if name in self.sources))}

    def reach(self, access: Access, loads: dict[str, int], place: str, *, write: bool) -> Reach:
        memory, region = self.buffers[access.parameter], access.region.substitute(self.symbols)
        array = memory.array if write else memory.readable
        bounds = tuple(None if s is None else (linear(s.start, loads), linear(s.stop, loads)) for s in region.slices)
        reach = Reach(place, memory, array, None, bounds)
        return reach if region.symbols else Reach(place, memory, array, reach.at(()))


def _scalar_source(buffers: Mapping[str, BufferMemory], load: ScalarLoad) -> ScalarSource:
    found = buffers[load.buffer]
    element = found.readable.reshape(-1)[load.index : load.index + 1].reshape(())
    return ScalarSource(found, element, load.offset)


def _links(graph: Graph) -> tuple[Links, ...]:
    position = {name: i for i, name in enumerate(graph.nodes)}
    kinds = DependencyKind.FULL, DependencyKind.PROGRAMMATIC
    links = []
    for name in graph.nodes:
        sources, outgoing = [d.kind for d in graph.incoming(name)], graph.outgoing(name)
        full, programmatic = (tuple(position[d.target] for d in outgoing if d.kind is kind) for kind in kinds)
        links.append(Links(sources.count(kinds[0]), sources.count(kinds[1]), full, programmatic, not outgoing))
    return tuple(links)
