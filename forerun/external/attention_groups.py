"""Groups of attention launches in a captured graph that one persistent kernel can replace, found by their arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from forerun.captured.graph import CapturedGraph, MemoryRange
from forerun.support.diagnostics import InvalidInput, Unsupported

if TYPE_CHECKING:
    from forerun.frontends.captured import ImportedGraph
    from forerun.ir.buffer import Buffer
    from forerun.ir.graph import Graph

__all__ = ["Group", "LayerMemory", "attention_groups", "with_groups"]


@dataclass(frozen=True)
class LayerMemory:
    """The memory of a layer's arrays.

    Attributes:
        q: The queries.
        k_cache: The keys.
        v_cache: The values.
        y: The results.
    """

    q: MemoryRange
    k_cache: MemoryRange
    v_cache: MemoryRange
    y: MemoryRange


@dataclass(frozen=True)
class Group:
    """The attention launches of one layer.

    Attributes:
        layer: The number of the layer.
        nodes: The numbers of the captured nodes, in launch order.
    """

    layer: int
    nodes: tuple[int, ...]


def attention_groups(
    captured: CapturedGraph, kernels: Sequence[str], layers: Sequence[LayerMemory]
) -> tuple[Group, ...]:
    """Find the launches of the named kernels, grouped by layer, in launch order.

    A launch belongs to the layer to whose keys and values it has pointers. A launch without such pointers, such as a
    merge, belongs to the layer of the launch before it, if it has a pointer to that layer's results.

    Args:
        captured: The graph.
        kernels: Parts of the kernels' names.
        layers: The memory of each layer's arrays.

    Raises:
        InvalidInput: If a named kernel uses the arrays of no layer, or a layer has no launch.
        Unsupported: If another node has to run between the launches of a layer, or layers may overlap.
    """
    if isinstance(kernels, str) or not kernels or not all(kernels):
        raise InvalidInput(f"{kernels!r} are no parts of names", hint="a list of them, none empty")
    found: list[tuple[int, list[int]]] = []
    for number in captured.launch_order():
        node = captured.nodes[number]
        name = captured.function_of(node).name if node.kind == "kernel" else ""
        if not any(part in name for part in kernels):
            continue
        pointers = {value for _, _, value in node.pointers()}
        own = [n for n, one in enumerate(layers) if {one.k_cache.address, one.v_cache.address} <= pointers]
        if not own and found and any(value in layers[found[-1][0]].y for value in pointers):
            own = [found[-1][0]]
        if not own:
            message = f"{name[:80]} of n{number} has pointers to the KV cache of no layer in 'layers'"
            raise InvalidInput(message, hint="add its layer to 'layers', or name only attention kernels in 'kernels'")
        if found and found[-1][0] == own[0]:
            found[-1][1].append(number)
        else:
            found.append((own[0], [number]))
    missing = sorted(set(range(len(layers))) - {layer for layer, _ in found})
    if missing:
        message = f"no launch of {', '.join(kernels)} is for layer {missing[0]}: none has its keys and values"
        hint = "'kernels' are parts of the names of kernels that the graph launches; check the arrays of the layer, too"
        raise InvalidInput(message, hint=hint)
    groups = tuple(Group(layer, tuple(nodes)) for layer, nodes in found)
    place = {number: at for at, number in enumerate(captured.launch_order())}
    _require_order(captured, groups)
    for group in groups:
        for edge in captured.edges:
            is_before = place[edge.target] < place[group.nodes[-1]] and edge.target not in group.nodes
            if edge.source in group.nodes and is_before:
                _refuse(edge.target, group)
    return groups


def _refuse(node: int, group: Group) -> NoReturn:
    message = f"n{node} is captured between the launches of layer {group.layer}, n{group.nodes[0]} and others"
    raise Unsupported(message, hint="if it is a part of attention, add its kernel's name to 'kernels'")


def _require_order(captured: CapturedGraph, groups: Sequence[Group]) -> None:
    """Check that one node can replace each group: no other node lies on a path between two of its launches.

    Groups must be ordered, since their kernels share a workspace.
    """
    import networkx as nx

    topology: nx.DiGraph[int] = nx.DiGraph([(edge.source, edge.target) for edge in captured.edges])
    topology.add_nodes_from(range(len(captured.nodes)))
    behind: set[int] | None = None
    for group in groups:
        if behind is not None and group.nodes[0] not in behind:
            message = f"the launches of layer {group.layer} may run beside those of another layer"
            raise Unsupported(message, hint="the graph has to order the attention of all layers, as one stream does")
        after, before = (
            set().union(*(reached(topology, node) for node in group.nodes))
            for reached in (nx.descendants, nx.ancestors)
        )
        between = sorted((after & before) - set(group.nodes))
        if between:
            _refuse(between[0], group)
        behind = after


def with_groups(
    imported: ImportedGraph, groups: Sequence[Group], layers: Sequence[LayerMemory], batch: Sequence[MemoryRange]
) -> Graph:
    """Replace each group by one node.

    The node comes after every predecessor and before every successor of the launches, so every order is kept. It reads
    the arrays of its layer and of the batch, and writes the results: no more than the launches did. Their other outputs
    are assumed to have no other readers.
    """
    from forerun.ir.graph import Dependency
    from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role
    from forerun.ir.nodes import BufferArgument, KernelNode
    from forerun.ir.types import DType

    edit = imported.graph.edit()
    parameters = tuple(
        BufferParameter(name, DType.U8) for name in (*_ARRAYS, *(f"batch{n}" for n in range(len(batch))))
    )
    reads = tuple(Access(one.name) for one in parameters)
    body = Phase("attend", reads, (Access("y"),))
    edit.set_kernel(Kernel("persistent_attention", parameters, (Role("all", (body,)),)))
    for number, group in enumerate(groups):
        own = layers[group.layer]
        memory = (*(getattr(own, name) for name in _ARRAYS), *batch)
        arguments = []
        for parameter, one in zip(parameters, memory, strict=True):
            buffer = _buffer(imported, one, f"group{number}.{parameter.name}")
            edit.set_buffer(buffer)
            arguments.append((parameter.name, BufferArgument(buffer.name, partial=True)))
        members = [imported.names[node] for node in group.nodes]
        made = f"group{number}"
        edit.add_node(KernelNode(made, "persistent_attention", tuple(arguments)), before=members[-1])
        incoming = {d.source for member in members for d in edit.incoming(member)} - set(members)
        outgoing = {d.target for member in members for d in edit.outgoing(member)} - set(members)
        for member in members:
            edit.remove_node(member)
        for dependency in (*(Dependency(one, made) for one in incoming), *(Dependency(made, one) for one in outgoing)):
            edit.add_dependency(dependency)
    edit.drop_unused_kernels()
    return edit.commit()


_ARRAYS = ("q", "k_cache", "v_cache", "y")


def _buffer(imported: ImportedGraph, memory: MemoryRange, name: str) -> Buffer:
    from forerun.ir.buffer import Buffer
    from forerun.ir.types import BufferRole, DType

    base = imported.captured.memory[0].address
    return Buffer(name, DType.U8, (memory.size,), BufferRole.STATE, "memory", memory.address - base)
