"""The accesses of kernel nodes: those of the kernel's phases, with its parameters bound to buffers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from forerun.ir.affine import AffineLike, affine
from forerun.ir.analysis import Analysis
from forerun.ir.bound_kernel import named_extents
from forerun.ir.buffer import Buffer
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel, Phase
from forerun.ir.nodes import BufferArgument, ConstantArgument, KernelNode, ScalarLoad
from forerun.ir.region import WHOLE, Region
from forerun.ir.semantics.ascending import ASCENDING
from forerun.ir.semantics.body import late_steps, released_phases
from forerun.ir.semantics.byteset import ByteSet, bytes_of
from forerun.ir.types import DType

__all__ = [
    "READ",
    "WRITE",
    "Binder",
    "NodeAccess",
    "Template",
    "Versions",
    "element_bytes",
    "loaded_from",
    "symbol_values",
    "touch",
    "unversioned",
]

Versions: TypeAlias = Mapping[tuple[str, int], Mapping[str, int]]
"""For each loaded element that some node may write, and each node, how many nodes before it may write the element;
without those that may write it themselves."""


@dataclass(frozen=True, slots=True)
class NodeAccess:
    """One read or write of a node.

    Attributes:
        allocation: The allocation whose bytes are touched.
        buffer: The buffer through which they are touched (the allocation's name for allocation nodes).
        early: Whether it may happen before the node's wait returns: it begins at S, not at W (docs/pdl.md, "Events").
        phase: The phase; empty for nodes without phases.
        certain: Whether the bytes are known to be touched in some run; false for black boxes, unknown extents, and
            arguments of which a node touches only some bytes.
        always: Whether it happens in every run; false for what is in the body of a conditional.
        released: Whether a fenced trigger of the node comes after it, with a barrier in between (H8).
        asynchronous: Whether it goes through the copy engine.
    """

    node: str
    allocation: str
    buffer: str
    bytes: ByteSet
    write: bool
    early: bool = True
    phase: str = ""
    certain: bool = True
    released: bool = False
    asynchronous: bool = False
    always: bool = True

    @property
    def definite(self) -> bool:
        """Whether exactly these bytes are touched, all of them, in every run: then a write covers what lay there.

        ``writes`` means *must* (docs/ir.md, "What a phase says"), so it is the set, and the run, that may be in doubt.
        """
        return self.certain and self.always and self.bytes.exact

    @property
    def verb(self) -> str:
        """``writes`` or ``reads``."""
        return "writes" if self.write else "reads"

    def overlaps(self, other: NodeAccess) -> bool:
        """Whether it may touch a byte that another access touches."""
        return self.allocation == other.allocation and self.bytes.overlaps(other.bytes)

    def conflicts(self, other: NodeAccess) -> bool:
        """Whether it may touch a byte that another access touches, and one of the two writes."""
        return (self.write or other.write) and self.overlaps(other)


@dataclass(frozen=True, slots=True)
class Template:
    """An access of a kernel before it is bound: by parameter."""

    parameter: str
    region: Region
    write: bool
    early: bool
    phase: str
    released: bool
    asynchronous: bool


READ = Template("", WHOLE, write=False, early=True, phase="", released=False, asynchronous=False)
"""When nodes without a body read what they read: from their start to their completion."""
WRITE = replace(READ, write=True)


@dataclass(frozen=True, slots=True)
class _Summary:
    """The accesses of a kernel, each once, in order.

    Attributes:
        restricted: Whether some region is not a whole buffer.
        dims: The buffer parameters that name dimensions, if some region uses such a name.
    """

    templates: tuple[Template, ...]
    restricted: bool
    scalars: tuple[str, ...]
    dims: tuple[str, ...]


def _summarise(kernel: Kernel) -> _Summary:
    """The accesses of a kernel's phases, each once; a scalar parameter stands for a load of what it is bound to."""
    late, released = late_steps(kernel), released_phases(kernel)
    scalars = {p.name for p in kernel.scalar_parameters}
    templates: dict[Template, None] = {}
    dims = False
    for role, position, step in kernel.steps():
        if not isinstance(step, Phase):
            continue
        when = (not late[role.name, position], step.name, step.name in released)
        symbols = [name for access in (*step.reads, *step.writes) for name in access.region.symbols]
        dims = dims or any(name not in scalars for name in symbols)
        for scalar in dict.fromkeys([*step.scalars, *(name for name in symbols if name in scalars)]):
            templates[Template(scalar, WHOLE, False, *when, asynchronous=False)] = None
        for access, write in [(a, False) for a in step.reads] + [(a, True) for a in step.writes]:
            template = Template(access.parameter, access.region, write, *when, step.asynchronous and not write)
            templates[template] = None
    restricted = any(not template.region.is_whole for template in templates)
    named = tuple(p.name for p in kernel.buffer_parameters) if dims else ()
    return _Summary(tuple(templates), restricted, tuple(p.name for p in kernel.scalar_parameters), named)


@dataclass(frozen=True, slots=True)
class _Bound:
    """A template's region with its symbols bound, and what it is in memory for buffers of some shapes at offset 0."""

    region: Region
    sets: dict[tuple[DType, tuple[int, ...]], ByteSet]


class Binder:
    """The accesses of kernel nodes, where what nodes have in common is worked out once.

    Most launches of a kernel differ in the buffers alone. ``written`` are the elements that are loaded as scalars and
    that some node may write.
    """

    def __init__(self, graph: Graph, written: Versions) -> None:
        self._graph = graph
        self._written = written
        self._buffers = _plain_buffers(graph)
        self._whole = _all_bytes(graph)
        self._summaries: dict[str, _Summary] = {}
        self._bound: dict[object, list[_Bound | None]] = {}
        self._elements: dict[tuple[str, int], tuple[str, ByteSet]] = {}

    def accesses(self, node: KernelNode) -> list[NodeAccess]:
        """The accesses of a node, in the order of its kernel's phases."""
        graph, buffers = self._graph, self._buffers
        kernel = graph.kernels.get(node.kernel)
        if kernel is None or kernel.is_black_box:
            return list(_of_black_box(graph, node))
        summary = self._summaries.get(kernel.name)
        if summary is None:
            summary = self._summaries[kernel.name] = _summarise(kernel)
        arguments = dict(node.arguments)
        regions = self._regions(kernel, node, summary, arguments)
        found: list[NodeAccess] = []
        for template, bound in zip(summary.templates, regions, strict=True):
            argument = arguments.get(template.parameter)
            if isinstance(argument, ScalarLoad):
                found += self._scalar_load(node.name, argument, template)
            elif isinstance(argument, BufferArgument):
                buffer = buffers.get(argument.buffer)
                if buffer is None:
                    continue
                reach = self._whole[argument.buffer] if bound is None else _reach(buffer, bound)
                if buffer.index is None:
                    found.append(_access(node.name, buffer, reach, template, certain=not argument.partial))
                else:
                    found += touch(graph, node.name, buffer, reach, template, certain=not argument.partial)
        return found

    def _regions(
        self, kernel: Kernel, node: KernelNode, summary: _Summary, arguments: Mapping[str, object]
    ) -> list[_Bound | None]:
        """For each template its region, or ``None`` for a whole buffer."""
        if not summary.restricted:
            return [None] * len(summary.templates)
        key = self._key(node, summary, arguments)
        if key not in self._bound:
            values: dict[str, dict[str, AffineLike]] = {}
            bound: list[_Bound | None] = []
            for template in summary.templates:
                if template.region.is_whole:
                    bound.append(None)
                    continue
                phase = template.phase
                if phase not in values:
                    dims = bool(summary.dims)
                    values[phase] = symbol_values(self._graph, kernel, node, phase, self._written, dims=dims)
                bound.append(_Bound(template.region.substitute(values[phase]), {}))
            self._bound[key] = bound
        return self._bound[key]

    def _key(self, node: KernelNode, summary: _Summary, arguments: Mapping[str, object]) -> object:
        """Equal for nodes of a kernel whose symbols stand for the same."""
        scalars = [arguments.get(name) for name in summary.scalars]
        versions: list[int] = []
        for load in scalars if self._written else ():
            known = self._written.get((load.buffer, load.index)) if isinstance(load, ScalarLoad) else None
            if known is not None:
                if node.name not in known:
                    return node.name
                versions.append(known[node.name])
        shapes = []
        for name in summary.dims:
            argument = arguments.get(name)
            buffer = self._graph.buffers.get(argument.buffer) if isinstance(argument, BufferArgument) else None
            shapes.append(None if buffer is None else buffer.shape)
        # Numbers of different types may be equal, and not stand for the same.
        return node.kernel, tuple((type(getattr(s, "value", None)), s) for s in scalars), tuple(shapes), tuple(versions)

    def _scalar_load(self, node: str, load: ScalarLoad, when: Template) -> list[NodeAccess]:
        place = load.buffer, load.index
        if place not in self._elements:
            buffer = self._graph.buffers.get(load.buffer)
            if buffer is None:
                return []
            self._elements[place] = buffer.allocation, element_bytes(buffer, load.index)
        allocation, element = self._elements[place]
        return [NodeAccess(node, allocation, load.buffer, element, False, when.early, when.phase, True, when.released)]


_plain_buffers = Analysis({"buffers"}, lambda graph: dict(graph.buffers))
"""Looked up much faster than the read-only view."""


def _reach(buffer: Buffer, bound: _Bound) -> ByteSet:
    if buffer.index is not None:
        return bytes_of(buffer, bound.region)
    geometry = buffer.dtype, buffer.shape
    found = bound.sets.get(geometry)
    if found is None:
        found = bound.sets[geometry] = bytes_of(buffer, bound.region).moved(-buffer.offset)
    return found.moved(buffer.offset)


def element_bytes(buffer: Buffer, index: int) -> ByteSet:
    """The bytes of one element of a buffer, counted as if it had one dimension."""
    start = buffer.offset + index * buffer.dtype.itemsize
    return ByteSet(start, start + buffer.dtype.itemsize)


def symbol_values(
    graph: Graph, kernel: Kernel, node: KernelNode, phase: str, written: Versions, *, dims: bool = True
) -> dict[str, AffineLike]:
    """What the symbols in a kernel's regions stand for at a node: integers, or the names of loaded scalars.

    Loads of the same element have the same value, and so the same name, if no node between them in launch order may
    write it. That is what they load if nothing races with them, and loads are accesses too: the first load to see
    something else in some run would race with a write that is where it is said to be. In a node that may write the
    element itself, every phase that loads it has a name of its own. Elements of buffers that ascend are named so
    (:data:`~forerun.ir.semantics.ascending.ASCENDING`), since their order is known.
    """
    values: dict[str, AffineLike] = {}
    for parameter, argument in node.arguments:
        if isinstance(argument, ConstantArgument) and isinstance(argument.value, int):
            values[parameter] = argument.value
        elif isinstance(argument, ScalarLoad):
            versions = written.get((argument.buffer, argument.index), {node.name: 0})
            version = f"@{versions[node.name] or ''}" if node.name in versions else f"@{node.name}.{phase}"
            source = graph.buffers.get(argument.buffer)
            if source is not None and source.ascending and (argument.buffer, argument.index) not in written:
                version = ASCENDING
            symbol = f"%{argument.buffer}[{argument.index}]" + version.removesuffix("@")
            values[parameter] = affine(symbol) + argument.offset
        elif dims and isinstance(argument, BufferArgument) and argument.buffer in graph.buffers:
            values.update(named_extents(kernel.parameter(parameter), graph.buffers[argument.buffer].shape))
    return values


def loaded_from(symbol: str) -> str:
    """The buffer from which a scalar is loaded that :func:`symbol_values` named."""
    return symbol.partition("@")[0].removeprefix("%").rpartition("[")[0]


def unversioned(found: ByteSet) -> ByteSet:
    """The bytes, where every loaded scalar is named by its element alone, and by whether that ascends."""
    if found.is_constant:
        return found
    start, stop = (
        tuple(sorted((name if name.endswith(ASCENDING) else name.partition("@")[0], count) for name, count in terms))
        for terms in (found.start_terms, found.stop_terms)
    )
    return replace(found, start_terms=start, stop_terms=stop)


def _of_black_box(graph: Graph, node: KernelNode) -> Iterator[NodeAccess]:
    for _, argument in node.arguments:
        if isinstance(argument, BufferArgument | ScalarLoad) and argument.buffer in graph.buffers:
            buffer = graph.buffers[argument.buffer]
            for name in (buffer.name, buffer.index_buffer):
                view = graph.buffers.get(name)
                if view is not None:
                    # It may reach anything in the allocation that it holds a pointer into.
                    allocation = graph.allocations.get(view.allocation)
                    everything = ByteSet(0, view.stop if allocation is None else allocation.size, exact=False)
                    for write in (False, True) if isinstance(argument, BufferArgument) else (False,):
                        yield NodeAccess(node.name, view.allocation, name, everything, write, certain=False)


def _access(node: str, buffer: Buffer, reach: ByteSet, when: Template, certain: bool = True) -> NodeAccess:
    how = when.write, when.early, when.phase, certain, when.released, when.asynchronous
    return NodeAccess(node, buffer.allocation, buffer.name, reach, *how)


def touch(
    graph: Graph, node: str, buffer: Buffer, reach: ByteSet, when: Template, *, certain: bool = True
) -> list[NodeAccess]:
    """The access to some bytes of a buffer, and to what indexes them."""
    found = [_access(node, buffer, reach, when, certain=certain and buffer.index is None)]
    table = graph.buffers.get(buffer.index_buffer) if buffer.index is not None else None
    if table is not None:
        reads = replace(when, write=False)
        found += touch(graph, node, table, _all_bytes(graph)[table.name], reads, certain=certain)
    return found


_all_bytes = Analysis({"buffers"}, lambda graph: {name: ByteSet(b.offset, b.stop) for name, b in graph.buffers.items()})
