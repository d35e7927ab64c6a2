"""What each node of a graph reads and writes, in bytes of allocations, and whether before or after its wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from forerun.ir.affine import AffineLike, affine
from forerun.ir.analysis import Analysis
from forerun.ir.buffer import Buffer, Paged
from forerun.ir.graph import Graph
from forerun.ir.kernel import Barrier, BufferParameter, Kernel, Phase, Role, Trigger, Wait
from forerun.ir.nodes import (
    AllocNode,
    BufferArgument,
    ChildGraphNode,
    ConditionalNode,
    ConstantArgument,
    EventRecordNode,
    EventWaitNode,
    FreeNode,
    HostCallbackNode,
    KernelNode,
    MemcpyNode,
    MemsetNode,
    Node,
    ScalarLoad,
)
from forerun.ir.region import WHOLE, BufferView, Region
from forerun.ir.semantics.byteset import ByteSet, bytes_of

__all__ = [
    "HOST_EFFECTS",
    "NodeAccess",
    "accesses",
    "always_waits",
    "is_fence",
    "late_steps",
    "symbol_values",
    "triggers_after_wait",
    "with_tables",
]

HOST_EFFECTS = "host side effects"
"""A name for what host calls do besides their declared accesses; it keeps host calls in order among themselves."""


@dataclass(frozen=True, slots=True)
class NodeAccess:
    """One read or write of a node.

    Attributes:
        node: The node's name.
        allocation: The allocation whose bytes are touched.
        buffer: The buffer through which they are touched (the allocation's name for allocation nodes).
        bytes: Which bytes.
        write: Whether it writes.
        early: Whether it may happen before the node's wait returns: it begins at S, not at W (PDL.md, "Events").
        phase: The phase; empty for nodes without phases.
        certain: Whether the bytes are known to be touched; false for black boxes and unknown extents.
    """

    node: str
    allocation: str
    buffer: str
    bytes: ByteSet
    write: bool
    early: bool = True
    phase: str = ""
    certain: bool = True

    @property
    def verb(self) -> str:
        """``writes`` or ``reads``."""
        return "writes" if self.write else "reads"


def _all_accesses(graph: Graph) -> Mapping[str, tuple[NodeAccess, ...]]:
    written = _written_scalars(graph)
    summaries: dict[str, _Summary] = {}
    return {
        name: tuple(
            _of_kernel(graph, node, written, summaries) if isinstance(node, KernelNode) else _of_other(graph, node)
        )
        for name, node in graph.nodes.items()
    }


accesses = Analysis({"nodes", "kernels", "buffers", "allocations"}, _all_accesses)
"""The accesses of every node, by node name, in launch order.

Names that are not declared yield no access: the verifier reports those.
"""


def is_fence(node: Node) -> bool:
    """Whether a node is tied to the world outside the graph, so that nothing may move across it."""
    return isinstance(node, EventRecordNode | EventWaitNode)


def always_waits(graph: Graph, node: Node) -> bool:
    """H4: whether some thread of the node always executes a wait, so that its completion comes after its W."""
    if not isinstance(node, KernelNode):
        return False
    kernel = graph.kernels.get(node.kernel)
    return kernel is not None and kernel.has(Wait)


def triggers_after_wait(kernel: Kernel) -> bool:
    """H5: whether no CTA can trigger before its wait. Without a trigger, it fires when all warps have finished."""
    late = late_steps(kernel)
    triggers = [late[role.name, i] for role, i, step in kernel.steps() if isinstance(step, Trigger)]
    return kernel.has(Wait) and all(triggers)


def late_steps(kernel: Kernel) -> dict[tuple[str, int], bool]:
    """For each step (role name, position): whether it certainly comes after a wait.

    It does if its own role waits earlier, or if it follows a CTA barrier that some role reaches only after waiting
    (PDL.md, rule 6).
    """
    roles = kernel.roles or ()
    release = min((at for role in roles if (at := _barriers_before_wait(role)) is not None), default=None)
    result = {}
    for role in roles:
        waited, barriers = False, 0
        for position, step in enumerate(role.steps):
            result[role.name, position] = waited or (release is not None and barriers > release)
            waited = waited or isinstance(step, Wait)
            barriers += isinstance(step, Barrier)
    return result


def _barriers_before_wait(role: Role) -> int | None:
    barriers = 0
    for step in role.steps:
        if isinstance(step, Wait):
            return barriers
        barriers += isinstance(step, Barrier)
    return None


# Kernels


@dataclass(frozen=True, slots=True)
class _Template:
    """An access of a kernel before it is bound: by parameter."""

    parameter: str
    region: Region
    write: bool
    early: bool
    phase: str


@dataclass(frozen=True, slots=True)
class _Summary:
    templates: tuple[_Template, ...]
    dims: bool  # whether some region names a dimension


def _summarise(kernel: Kernel) -> _Summary:
    """The accesses of a kernel's phases, each once; a scalar parameter stands for a load of what it is bound to."""
    late = late_steps(kernel)
    scalars = {p.name for p in kernel.scalar_parameters}
    templates: dict[_Template, None] = {}
    dims = False
    for role, position, step in kernel.steps():
        if not isinstance(step, Phase):
            continue
        early = not late[role.name, position]
        symbols = [name for access in (*step.reads, *step.writes) for name in access.region.symbols]
        dims = dims or any(name not in scalars for name in symbols)
        for scalar in dict.fromkeys([*step.scalars, *(name for name in symbols if name in scalars)]):
            templates[_Template(scalar, WHOLE, False, early, step.name)] = None
        for access, write in [(a, False) for a in step.reads] + [(a, True) for a in step.writes]:
            templates[_Template(access.parameter, access.region, write, early, step.name)] = None
    return _Summary(tuple(templates), dims)


def _of_kernel(
    graph: Graph, node: KernelNode, written: set[tuple[str, int]], summaries: dict[str, _Summary]
) -> list[NodeAccess]:
    kernel = graph.kernels.get(node.kernel)
    if kernel is None or kernel.is_black_box:
        return list(_of_black_box(graph, node))
    summary = summaries.get(kernel.name)
    if summary is None:
        summary = summaries[kernel.name] = _summarise(kernel)
    bound = dict(node.arguments)
    values: dict[str, dict[str, AffineLike]] = {}
    found: list[NodeAccess] = []
    for template in summary.templates:
        argument, phase = bound.get(template.parameter), template.phase
        if isinstance(argument, ScalarLoad):
            found += _scalar_load(graph, node.name, argument, template)
        elif isinstance(argument, BufferArgument):
            region = template.region
            if not region.is_whole:
                if phase not in values:
                    values[phase] = symbol_values(graph, kernel, node, phase, written, dims=summary.dims)
                region = region.substitute(values[phase])
            found += _touch(graph, node.name, argument.buffer, region, template.write, template.early, phase)
    return found


def symbol_values(
    graph: Graph, kernel: Kernel, node: KernelNode, phase: str, written: set[tuple[str, int]], *, dims: bool = True
) -> dict[str, AffineLike]:
    """What the symbols in a kernel's regions stand for at a node: integers, or the names of loaded scalars.

    Loads of the same element have the same value, and so the same name, unless the graph writes that element; then
    every phase that loads it has a name of its own.
    """
    values: dict[str, AffineLike] = {}
    for parameter, argument in node.arguments:
        if isinstance(argument, ConstantArgument) and isinstance(argument.value, int):
            values[parameter] = argument.value
        elif isinstance(argument, ScalarLoad):
            fixed = (argument.buffer, argument.index) not in written
            symbol = f"%{argument.buffer}[{argument.index}]" + ("" if fixed else f"@{node.name}.{phase}")
            values[parameter] = affine(symbol) + argument.offset
        elif dims and isinstance(argument, BufferArgument) and argument.buffer in graph.buffers:
            declared = kernel.parameter(parameter)
            names = declared.dims if isinstance(declared, BufferParameter) else None
            shape = graph.buffers[argument.buffer].shape
            values.update((d, n) for d, n in zip(names or (), shape, strict=False) if isinstance(d, str))
    return values


def _of_black_box(graph: Graph, node: KernelNode) -> Iterator[NodeAccess]:
    for _, argument in node.arguments:
        if isinstance(argument, BufferArgument | ScalarLoad) and argument.buffer in graph.buffers:
            buffer = graph.buffers[argument.buffer]
            for name in [buffer.name, *_index_buffer(buffer)]:
                view = graph.buffers.get(name)
                if view is not None:
                    # It may reach anything in the allocation that it holds a pointer into.
                    size = (
                        graph.allocations[view.allocation].size if view.allocation in graph.allocations else view.stop
                    )
                    everything = ByteSet(0, size, exact=False)
                    for write in (False, True) if isinstance(argument, BufferArgument) else (False,):
                        yield NodeAccess(node.name, view.allocation, name, everything, write, certain=False)


def _scalar_load(graph: Graph, node: str, load: ScalarLoad, template: _Template) -> list[NodeAccess]:
    buffer = graph.buffers.get(load.buffer)
    if buffer is None:
        return []
    start = buffer.offset + load.index * buffer.dtype.itemsize
    element = ByteSet(start, start + buffer.dtype.itemsize)
    return [NodeAccess(node, buffer.allocation, buffer.name, element, False, template.early, template.phase)]


def _touch(
    graph: Graph, node: str, name: str, region: Region, write: bool, early: bool = True, phase: str = ""
) -> list[NodeAccess]:
    buffer = graph.buffers.get(name)
    if buffer is None:
        return []
    reach = _all_bytes(graph)[name] if region.is_whole else bytes_of(buffer, region)
    if buffer.index is None:
        return [NodeAccess(node, buffer.allocation, name, reach, write, early, phase)]
    found = [NodeAccess(node, buffer.allocation, name, reach, write, early, phase, certain=False)]
    for index in _index_buffer(buffer):
        found += _touch(graph, node, index, WHOLE, False, early, phase)
    return found


_all_bytes = Analysis({"buffers"}, lambda graph: {b.name: bytes_of(b, WHOLE) for b in graph.buffers.values()})


def _index_buffer(buffer: Buffer) -> list[str]:
    if buffer.index is None:
        return []
    return [buffer.index.table if isinstance(buffer.index, Paged) else buffer.index.offsets]


# Other nodes


def _of_other(graph: Graph, node: Node) -> Iterator[NodeAccess]:
    match node:
        case MemcpyNode():
            yield from _view(graph, node.name, node.source, False)
            yield from _view(graph, node.name, node.destination, True)
        case MemsetNode():
            yield from _view(graph, node.name, node.destination, True)
        case HostCallbackNode():
            for view in node.reads:
                yield from _view(graph, node.name, view, False)
            for view in node.writes:
                yield from _view(graph, node.name, view, True)
            yield NodeAccess(node.name, HOST_EFFECTS, HOST_EFFECTS, ByteSet(0, 1), True)
        case AllocNode() | FreeNode():
            allocation = graph.allocations.get(node.allocation)
            if allocation is not None:
                yield NodeAccess(node.name, allocation.name, allocation.name, ByteSet(0, allocation.size), True)
        case ChildGraphNode():
            yield from _of_body(graph, node.name, node.body)
        case ConditionalNode():
            yield from _touch(graph, node.name, node.condition, WHOLE, False)
            for body in node.bodies:
                yield from _of_body(graph, node.name, body)


def _view(graph: Graph, node: str, view: BufferView, write: bool) -> list[NodeAccess]:
    return _touch(graph, node, view.buffer, view.region, write)


def _of_body(graph: Graph, owner: str, body: Graph) -> Iterator[NodeAccess]:
    """The accesses of a nested graph, as accesses of the node that owns it; loaded scalars may change in between."""
    inner = with_tables(graph, body)
    for found in accesses(inner).values():
        for access in found:
            constant = access.bytes.is_constant
            size = graph.allocations[access.allocation].size if access.allocation in graph.allocations else 1
            reach = access.bytes if constant else ByteSet(0, size, exact=False)
            yield NodeAccess(
                owner, access.allocation, access.buffer, reach, access.write, certain=access.certain and constant
            )


def with_tables(graph: Graph, body: Graph) -> Graph:
    """A nested graph with the tables of the graph that encloses it."""
    tables = (graph.allocations.values(), graph.buffers.values(), graph.kernels.values())
    return Graph(body.name, *tables, body.nodes.values(), body.dependencies)


def _written_scalars(graph: Graph) -> set[tuple[str, int]]:
    """The elements that some kernel loads as a scalar and some node of the graph may write."""
    loads: dict[str, set[ScalarLoad]] = {}
    for node in graph:
        if isinstance(node, KernelNode):
            for _, argument in node.arguments:
                if isinstance(argument, ScalarLoad) and argument.buffer in graph.buffers:
                    loads.setdefault(graph.buffers[argument.buffer].allocation, set()).add(argument)
    if not loads:
        return set()
    written: set[tuple[str, int]] = set()
    writes_of = _writes_into(graph, set(loads))
    for allocation, found in loads.items():
        for load in found:
            buffer = graph.buffers[load.buffer]
            start = buffer.offset + load.index * buffer.dtype.itemsize
            element = ByteSet(start, start + buffer.dtype.itemsize)
            if any(write.overlaps(element) for write in writes_of(allocation)):
                written.add((load.buffer, load.index))
    return written


def _writes_into(graph: Graph, allocations: set[str]) -> Callable[[str], list[ByteSet]]:
    """Writes into a few allocations, with every loaded scalar taken as unknown (so nothing is assumed of it)."""
    arguments = [a for node in graph if isinstance(node, KernelNode) for _, a in node.arguments]
    everything = {(a.buffer, a.index) for a in arguments if isinstance(a, ScalarLoad)}
    found: dict[str, list[ByteSet]] = {name: [] for name in allocations}
    summaries: dict[str, _Summary] = {}
    for node in graph:
        if _may_touch(graph, node, allocations):
            touched = _of_kernel(graph, node, everything, summaries) if isinstance(node, KernelNode) else None
            for access in _of_other(graph, node) if touched is None else touched:
                if access.write and access.allocation in found:
                    found[access.allocation].append(access.bytes)
    return lambda allocation: found[allocation]


def _may_touch(graph: Graph, node: Node, allocations: set[str]) -> bool:
    if not isinstance(node, KernelNode):
        return True
    views = (graph.buffers.get(a.buffer) for _, a in node.arguments if isinstance(a, BufferArgument))
    return any(view is not None and view.allocation in allocations for view in views)
