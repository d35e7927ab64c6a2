"""Invariants of nodes: what they name, bind and launch."""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Iterator
from typing import assert_never

from forerun.ir.affine import AffineLike
from forerun.ir.analysis import Analysis
from forerun.ir.graph import Graph
from forerun.ir.kernel import Access, BufferParameter, Kernel, ScalarParameter
from forerun.ir.nodes import (
    AllocNode,
    Argument,
    BufferArgument,
    ChildGraphNode,
    ConditionalNode,
    ConstantArgument,
    EmptyNode,
    EventRecordNode,
    EventWaitNode,
    FreeNode,
    HostCallbackNode,
    KernelNode,
    Launch,
    MemcpyNode,
    MemsetNode,
    Node,
    ScalarLoad,
)
from forerun.ir.region import BufferView, Region
from forerun.ir.semantics.ascending import ASCENDING
from forerun.ir.semantics.binding import symbol_values
from forerun.ir.types import DType
from forerun.support.diagnostics import Diagnostic, Location, did_you_mean

__all__ = ["check", "check_node", "holds"]

MAX_GRID = (2**31 - 1, 65535, 65535)
MAX_BLOCK = (1024, 1024, 64)
MAX_THREADS = 1024
MAX_SHARED_BYTES = 227 * 1024
"""Limits of compute capability 9.0 (CUDA Programming Guide, "Compute Capabilities")."""


def check(graph: Graph) -> Iterator[Diagnostic]:
    """Yield violations of N1 to N16."""
    known = _checked(graph)
    for node in graph:
        yield from _kernel_again(graph, node, known) if isinstance(node, KernelNode) else check_node(graph, node)
    yield from _allocated(graph)


def check_node(graph: Graph, node: Node) -> Iterator[Diagnostic]:
    """Yield violations by one node, of the invariants that concern no other."""
    match node:
        case KernelNode():
            yield from _kernel(graph, node)
        case MemcpyNode():
            yield from _copy(graph, node)
        case MemsetNode():
            yield from _fill(graph, node)
        case HostCallbackNode():
            yield from _host(graph, node)
        case ConditionalNode():
            yield from _conditional(graph, node)
        case EmptyNode() | AllocNode() | FreeNode() | EventRecordNode() | EventWaitNode() | ChildGraphNode():
            pass  # allocations are checked together, and bodies with the structure
        case _:
            assert_never(node)


# Kernel nodes


_Premises = tuple[object, ...]
_checked: Analysis[dict[str, tuple[_Premises, tuple[Diagnostic, ...]]]] = Analysis(
    {"buffers", "allocations"}, lambda graph: {}
)
"""What was found of each kernel node, and from what; passes change bodies of kernels far more often than arguments."""


def _kernel_again(
    graph: Graph, node: KernelNode, known: dict[str, tuple[_Premises, tuple[Diagnostic, ...]]]
) -> tuple[Diagnostic, ...]:
    """The findings for a node, from the last time if all that they rest on is the same."""
    kernel = graph.kernels.get(node.kernel)
    if kernel is None:
        return tuple(_kernel(graph, node))
    premises = (node.arguments, node.launch, kernel.parameters, kernel.launches, *_parts(graph)[kernel.name])
    before = known.get(node.name)
    if before is None or not all(old is new or old == new for old, new in zip(before[0], premises, strict=True)):
        known[node.name] = before = premises, tuple(_kernel(graph, node))
    return before[1]


def _parts_of_body(kernel: Kernel) -> tuple[int, tuple[Access, ...]]:
    """What the invariants of a node need to know of a body: the warps it claims, and its partial accesses."""
    claimed = sum(role.warps or 0 for role in kernel.roles or ())
    found = [a for phase in kernel.phases for a in (*phase.reads, *phase.writes) if not a.region.is_whole]
    return claimed, tuple(sorted(dict.fromkeys(found), key=str))


_parts = Analysis({"kernels"}, lambda graph: {name: _parts_of_body(kernel) for name, kernel in graph.kernels.items()})


def _kernel(graph: Graph, node: KernelNode) -> Iterator[Diagnostic]:
    at = _at(node)
    yield from (Diagnostic("N7", message, at) for message in _launch_errors(node.launch))
    kernel = graph.kernels.get(node.kernel)
    if kernel is None:
        hint = did_you_mean(node.kernel, graph.kernels, sigil="@")
        yield Diagnostic("N1", f"no kernel '{node.kernel}'", _at(node, f"@{node.kernel}"), hint)
        return
    bound = [name for name, _ in node.arguments]
    wanted = [p.name for p in kernel.parameters]
    if bound != wanted:
        message = f"arguments ({', '.join(bound)}) do not match the parameters ({', '.join(wanted)}) of '{kernel.name}'"
        yield Diagnostic("N2", message, at)
        return
    (claimed, partial), threads = _parts(graph)[kernel.name], math.prod(node.launch.block)
    if claimed * 32 > threads:
        message = f"roles of '{kernel.name}' claim {claimed} warps, the block has {threads} threads"
        yield Diagnostic("N8", message, at)
    refusal = kernel.launches.refusal(node.launch) if kernel.launches is not None else ""
    if refusal:
        yield Diagnostic("N16", f"'{kernel.name}' does not accept the launch: {refusal}", at)
    found = list(_arguments(graph, node, kernel))
    yield from found
    if not found:
        yield from _regions(graph, node, kernel, partial)


@functools.lru_cache(maxsize=1 << 8)
def _launch_errors(launch: Launch) -> tuple[str, ...]:
    """N7, once for each distinct launch configuration."""
    found = []
    for what, extents, limits in (("grid", launch.grid, MAX_GRID), ("block", launch.block, MAX_BLOCK)):
        for axis, extent, limit in zip("xyz", extents, limits, strict=True):
            if not 1 <= extent <= limit:
                found.append(f"{what}.{axis} is {extent}, allowed are 1 to {limit}")
    if math.prod(launch.block) > MAX_THREADS:
        found.append(f"{math.prod(launch.block)} threads a block, allowed are {MAX_THREADS}")
    if not 0 <= launch.shared_bytes <= MAX_SHARED_BYTES:
        found.append(f"{launch.shared_bytes} bytes of shared memory, allowed are 0 to {MAX_SHARED_BYTES}")
    if launch.cluster is not None and any(
        c < 1 or g % c for c, g in zip(launch.cluster, launch.grid, strict=True) if isinstance(c, int)
    ):
        found.append(f"cluster {launch.cluster} does not divide grid {launch.grid}")
    return tuple(found)


def _arguments(graph: Graph, node: KernelNode, kernel: Kernel) -> Iterator[Diagnostic]:
    extents: dict[str, tuple[int, str]] = {}
    for parameter, (_, argument) in zip(kernel.parameters, node.arguments, strict=True):
        if isinstance(parameter, ScalarParameter):
            yield from _scalar(graph, node, parameter, argument)
        else:
            yield from _pointer(graph, node, parameter, argument, extents)


def _pointer(
    graph: Graph, node: KernelNode, parameter: BufferParameter, argument: Argument, extents: dict[str, tuple[int, str]]
) -> Iterator[Diagnostic]:
    if not isinstance(argument, BufferArgument):
        message = f"'{parameter.name}' is a pointer, but a scalar is bound to it"
        yield Diagnostic("N3", message, _at(node, parameter.name))
        return
    at = _at(node, f"%{argument.buffer}")
    buffer = graph.buffers.get(argument.buffer)
    if buffer is None:
        yield _no_buffer("N3", graph, argument.buffer, at)
        return
    if buffer.dtype is not parameter.dtype:
        message = f"'{parameter.name}' is {parameter.dtype}, but %{buffer.name} is {buffer.dtype}"
        yield Diagnostic("N3", message, at)
    if parameter.align and buffer.offset % parameter.align:
        begin = f"%{buffer.name} begins at byte {buffer.offset} of ${buffer.allocation}"
        message = f"'{parameter.name}' needs a multiple of {parameter.align} bytes, but {begin}"
        hint = f"put it at + {-(-buffer.offset // parameter.align) * parameter.align}, or into an allocation of its own"
        yield Diagnostic("N15", message, at, hint)
    if parameter.dims is None:
        return
    if len(parameter.dims) != len(buffer.shape):
        message = f"'{parameter.name}' has {len(parameter.dims)} dimensions, but %{buffer.name} has {len(buffer.shape)}"
        yield Diagnostic("N4", message, at)
        return
    for dim, extent in zip(parameter.dims, buffer.shape, strict=True):
        wanted, why = extents.setdefault(dim, (extent, buffer.name)) if isinstance(dim, str) else (dim, "")
        if wanted is not None and wanted != extent:
            source = f" as in %{why}" if why else ""
            message = f"dimension '{dim}' of '{parameter.name}' is {wanted}{source}, but %{buffer.name} has {extent}"
            yield Diagnostic("N4", message, at)


def _scalar(graph: Graph, node: KernelNode, parameter: ScalarParameter, argument: Argument) -> Iterator[Diagnostic]:
    at = _at(node, parameter.name)
    match argument:
        case ConstantArgument(value=value):
            if not holds(parameter.dtype, value):
                yield Diagnostic("N5", f"'{parameter.name}' is {parameter.dtype}, but {value} is bound to it", at)
        case ScalarLoad():
            buffer = graph.buffers.get(argument.buffer)
            if buffer is None:
                yield _no_buffer("N5", graph, argument.buffer, at)
            elif buffer.dtype.is_float or parameter.dtype.is_float:
                yield Diagnostic("N5", f"loads '{parameter.name}' from %{buffer.name}: both must be integers", at)
            elif not 0 <= argument.index < buffer.count:
                message = f"element {argument.index} of %{buffer.name}, which has {buffer.count}"
                yield Diagnostic("N5", message, at)
        case BufferArgument():
            yield Diagnostic("N5", f"'{parameter.name}' is a scalar, but %{argument.buffer} is bound to it", at)


def holds(dtype: DType, value: object) -> bool:
    """Whether a number can be a constant of a type (N5)."""
    if dtype.is_float:
        return isinstance(value, float) or (isinstance(value, int) and abs(value) < _FLOAT_END)
    least, greatest = dtype.range
    return isinstance(value, int) and least <= value <= greatest


_FLOAT_END = 1 << 1023
"""Integers from here on may be too large to be a float."""


def _regions(graph: Graph, node: KernelNode, kernel: Kernel, partial: tuple[Access, ...]) -> Iterator[Diagnostic]:
    """N6, where the values of the scalars are known or bounded; other regions are checked when they run."""
    if not partial:
        return
    values = symbol_values(graph, kernel, node, "", {})
    ranges = {
        f"%{a.buffer}[{a.index}]" + ASCENDING * graph.buffers[a.buffer].ascending: bounds
        for _, a in node.arguments
        if isinstance(a, ScalarLoad) and (bounds := graph.buffers[a.buffer].bounds) is not None
    }
    for access in partial:
        argument = node.argument(access.parameter)
        if isinstance(argument, BufferArgument):
            shape = graph.buffers[argument.buffer].shape
            for message in _out_of_range(access.region, shape, values, ranges):
                yield Diagnostic("N6", f"{access} of %{argument.buffer}: {message}", _at(node, f"%{argument.buffer}"))


def _out_of_range(
    region: Region, shape: tuple[int, ...], values: dict[str, AffineLike], ranges: dict[str, tuple[int, int]]
) -> Iterator[str]:
    if len(region.slices) > len(shape):
        yield f"{len(region.slices)} slices of a buffer with {len(shape)} dimensions"
        return
    for axis, bounds in enumerate(region.slices):
        if bounds is None:
            continue
        actual = bounds.substitute(values)
        low, _ = actual.start.bounds(ranges)
        _, high = actual.stop.bounds(ranges)
        if low is not None and low < 0:
            yield f"dimension {axis} begins at {low}"
        if high is not None and high > shape[axis]:
            yield f"dimension {axis} ends at {high}, its extent is {shape[axis]}"


def _at(node: Node, detail: str = "") -> Location:
    return Location("node", node.name, detail=detail)


def _no_buffer(code: str, graph: Graph, name: str, at: Location) -> Diagnostic:
    return Diagnostic(code, f"no buffer '{name}'", at, did_you_mean(name, graph.buffers, sigil="%"))


# Other nodes


def _view(graph: Graph, node: Node, view: BufferView, code: str) -> Iterator[Diagnostic]:
    at = _at(node, f"%{view.buffer}")
    buffer = graph.buffers.get(view.buffer)
    if buffer is None:
        yield _no_buffer(code, graph, view.buffer, at)
        return
    if view.region.symbols:
        yield Diagnostic(code, f"the region of {view} is not constant", at)
        return
    for message in _out_of_range(view.region, buffer.shape, {}, {}):
        yield Diagnostic(code, f"{view}: {message}", at)


def _elements(graph: Graph, view: BufferView) -> int:
    extents = list(graph.buffers[view.buffer].shape)
    for axis, bounds in enumerate(view.region.slices):
        if bounds is not None:
            extents[axis] = max(0, (bounds.stop - bounds.start).constant)
    return math.prod(extents)


def _copy(graph: Graph, node: MemcpyNode) -> Iterator[Diagnostic]:
    ends = (node.source, node.destination)
    found = [d for view in ends for d in _view(graph, node, view, "N9")]
    yield from found
    if found:
        return
    source, destination = (graph.buffers[view.buffer] for view in ends)
    if source.dtype is not destination.dtype:
        yield Diagnostic("N9", f"copies {source.dtype} to {destination.dtype}", _at(node))
    counts = [_elements(graph, view) for view in ends]
    if counts[0] != counts[1]:
        yield Diagnostic("N9", f"copies {counts[0]} elements to {counts[1]}", _at(node))


def _fill(graph: Graph, node: MemsetNode) -> Iterator[Diagnostic]:
    found = list(_view(graph, node, node.destination, "N10"))
    yield from found
    if found:
        return
    width = graph.buffers[node.destination.buffer].dtype.itemsize
    if width not in (1, 2, 4):
        yield Diagnostic("N10", f"elements of {width} bytes cannot be filled", _at(node))
    elif not _is_integer(node.value) or not 0 <= node.value < 1 << 8 * width:
        yield Diagnostic("N10", f"value {node.value} does not fit {width} bytes", _at(node))


def _is_integer(value: object) -> bool:
    """Whether the text form has it as an integer: ``1.0`` and ``True`` are equal to 1, but are not."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _host(graph: Graph, node: HostCallbackNode) -> Iterator[Diagnostic]:
    module, _, function = node.function.partition(":")
    if not (module and function):
        yield Diagnostic("N11", f"'{node.function}' is not of the form module:function", _at(node, node.function))
    for view in (*node.reads, *node.writes):
        yield from _view(graph, node, view, "N11")
        buffer = graph.buffers.get(view.buffer)
        allocation = graph.allocations.get(buffer.allocation) if buffer is not None else None
        if allocation is not None and allocation.place.kind != "host":
            message = f"%{view.buffer} lives on {allocation.place}; a host call touches host memory only"
            yield Diagnostic("N11", message, _at(node, f"%{view.buffer}"), "copy it to a host buffer first")


def _conditional(graph: Graph, node: ConditionalNode) -> Iterator[Diagnostic]:
    allowed = {"if": (1, 2), "while": (1, 1), "switch": (1, 64)}
    if node.kind not in allowed:
        yield Diagnostic("N13", f"unknown kind '{node.kind}'", _at(node), did_you_mean(node.kind, allowed))
    elif not allowed[node.kind][0] <= len(node.bodies) <= allowed[node.kind][1]:
        yield Diagnostic("N13", f"'{node.kind}' with {len(node.bodies)} bodies", _at(node))
    condition = graph.buffers.get(node.condition)
    if condition is None:
        yield _no_buffer("N13", graph, node.condition, _at(node))
    elif condition.dtype.is_float:
        yield Diagnostic("N13", f"condition %{condition.name} is {condition.dtype}, not an integer", _at(node))
    for inner in (inner for body in node.bodies for inner in _outside_conditionals(body)):
        if not _allowed_in_conditional(inner):
            what = "a kernel of the host" if isinstance(inner, KernelNode) else f"a {type(inner).__name__}"
            message = f"body holds '{inner.name}', {what}, which CUDA does not allow there"
            yield Diagnostic("N14", message, _at(node))


def _allowed_in_conditional(node: Node) -> bool:
    match node:
        case KernelNode():
            return node.place.kind != "host"
        case MemcpyNode() | MemsetNode() | EmptyNode() | ChildGraphNode() | ConditionalNode():
            return True
        case HostCallbackNode() | EventRecordNode() | EventWaitNode() | AllocNode() | FreeNode():
            return False
        case _:
            assert_never(node)


def _outside_conditionals(body: Graph) -> Iterator[Node]:
    """The nodes of a body and of the child graphs in it; what conditionals hold is checked with these."""
    for node in body:
        yield node
        if isinstance(node, ChildGraphNode):
            yield from _outside_conditionals(node.body)


def _allocated(graph: Graph) -> Iterator[Diagnostic]:
    begun: set[str] = set()
    ended: set[str] = set()
    for node in graph:
        if not isinstance(node, AllocNode | FreeNode):
            continue
        if node.allocation not in graph.allocations:
            hint = did_you_mean(node.allocation, graph.allocations, sigil="$")
            yield Diagnostic("N12", f"no allocation '{node.allocation}'", _at(node), hint)
        elif node.allocation in (begun if isinstance(node, AllocNode) else ended):
            yield Diagnostic("N12", f"'{node.allocation}' is allocated or freed twice", _at(node))
        elif isinstance(node, AllocNode) and node.allocation in ended:
            yield Diagnostic("N12", f"'{node.allocation}' is freed before it is allocated", _at(node))
        (begun if isinstance(node, AllocNode) else ended).add(node.allocation)
