"""Folded copies: whether a copy that is gone brought nothing but constants, which its readers have another way now.

Nothing is claimed: a copy node of the graph before that is gone is looked at, and so is what its readers are bound to
after. The graph before is then taken with an empty node for the copy, and with its readers bound as they are after.

Why this suffices. A buffer with contents holds these bytes always: no node may write it (F5), no other buffer shares a
byte with it (M9), and of its role nothing is handed in from outside. So the copy writes known bytes. Let the graph run
node by node in launch order. A reader sees nothing but the copy's write in all bytes of its view
(:mod:`~forerun.ir.semantics.reaching_writes`), so what it reads is known, too. It computes the same from the same bytes
(C4): from another buffer with these contents, type, shape and alignment, at the same place, or from a constant that is
the scalar which it loaded. The copy writes a temporary, which nobody outside the replay sees, and all of its readers
are accounted for. In its place there is an empty node, for what is ordered through it: its dependencies are full (G5).
New buffers with contents, which the graph before does not name, change nothing there.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from forerun.ir.analysis import Analysis
from forerun.ir.buffer import ALLOCATION_ALIGNMENT, Buffer
from forerun.ir.contents import integers_of
from forerun.ir.edit import GraphEdit
from forerun.ir.graph import Graph
from forerun.ir.nodes import Argument, BufferArgument, ConstantArgument, EmptyNode, KernelNode, MemcpyNode, ScalarLoad
from forerun.ir.semantics.byteset import bytes_of
from forerun.ir.semantics.reaching_writes import ReachingWrites, SeenWrites, reaching_writes
from forerun.ir.types import BufferRole

__all__ = [
    "Fold",
    "FoldedUse",
    "constant_for",
    "folds",
    "loaded_constant",
    "rebind",
    "replace_buffer",
    "without_folded",
]


@dataclass(frozen=True, slots=True)
class FoldedUse:
    """A parameter through which a kernel node reads what a copy brought.

    Attributes:
        node: The name of the kernel node.
        parameter: The parameter's name.
        argument: What is bound to it.
        view: The buffer that it reads.
        contents: What that buffer holds then.
    """

    node: str
    parameter: str
    argument: Argument
    view: Buffer
    contents: bytes


@dataclass(frozen=True, slots=True)
class Fold:
    """A copy to a device from the host, or from a constant.

    Attributes:
        copy: The node.
        refusal: Why it must stay; empty if it need not.
        uses: Who reads what it brings, if that is all known.
    """

    copy: MemcpyNode
    refusal: str
    uses: tuple[FoldedUse, ...] = ()


def _find_folds(graph: Graph) -> Mapping[str, Fold]:
    copies = {position: n for position, n in enumerate(graph) if isinstance(n, MemcpyNode) and _is_upload(graph, n)}
    if not copies:
        return {}
    known = reaching_writes(graph)
    seen: dict[int, list[SeenWrites]] = {position: [] for position in copies}
    for read in known.reads:
        for position in {source[0] for source in read.sources if source is not None}:
            if position in seen:
                seen[position].append(read)
    indexes = {buffer.index_buffer for buffer in graph.buffers.values()}
    return {copy.name: _fold(graph, known, indexes, copy, at, seen[at]) for at, copy in copies.items()}


folds = Analysis({"nodes", "kernels", "buffers", "allocations"}, _find_folds)
"""The copies at a graph's own level that may be folded, and those from the host that may not, by name."""


def _is_upload(graph: Graph, copy: MemcpyNode) -> bool:
    source, destination = graph.buffers[copy.source.buffer], graph.buffers[copy.destination.buffer]
    places = (graph.allocations[view.allocation].place.kind for view in (source, destination))
    return source.contents is not None or tuple(places) == ("host", "device")


def _fold(
    graph: Graph,
    known: ReachingWrites,
    indexes: Collection[str],
    copy: MemcpyNode,
    position: int,
    reads: list[SeenWrites],
) -> Fold:
    contents = _brought(graph, copy)
    destination = graph.buffers[copy.destination.buffer]
    where = bytes_of(destination, copy.destination.region)
    reason = _refusal_of_copy(graph, known, copy)
    if reason or contents is None:
        return Fold(copy, reason or "it copies no bytes that lie side by side")
    uses: dict[tuple[str, str], FoldedUse] = {}
    for read in reads:
        reason = _refusal_of_read(graph, known, indexes, position, read)
        view = graph.buffers[read.access.buffer]
        if not reason and not where.start <= view.offset <= view.stop <= where.stop:
            reason = f"'{read.access.node}' reads %{view.name}, of which it writes a part"
        start = view.offset - where.start
        held = contents[start : start + view.size]
        if not reason and not _in_bounds(view, held):
            reason = f"what it copies is out of the bounds of %{view.name}"
        if reason:
            return Fold(copy, reason)
        for use in _uses(graph, read.access.node, view, held):
            uses[use.node, use.parameter] = use
    return Fold(copy, "", tuple(uses.values()))


def _brought(graph: Graph, copy: MemcpyNode) -> bytes | None:
    """The bytes that a copy writes, if they are known and lie side by side, as those that it reads."""
    source, destination = graph.buffers[copy.source.buffer], graph.buffers[copy.destination.buffer]
    pairs = ((source, copy.source), (destination, copy.destination))
    sets = [bytes_of(buffer, view.region) for buffer, view in pairs]
    if source.contents is None or any(s.levels or not s.exact or not s.is_constant for s in sets):
        return None
    start = sets[0].start - source.offset
    return source.contents[start : start + sets[0].stop - sets[0].start]


def _refusal_of_copy(graph: Graph, known: ReachingWrites, copy: MemcpyNode) -> str:
    source, destination = graph.buffers[copy.source.buffer], graph.buffers[copy.destination.buffer]
    if source.contents is None:
        return f"%{source.name} may change between replays: {_WRITERS[source.role]}"
    if destination.role is not BufferRole.TEMP:
        return f"%{destination.name} is seen by others"
    return known.unknown.get(destination.allocation, "")


_WRITERS = {
    BufferRole.INPUT: "the caller writes it before each",
    BufferRole.PARAM: "the caller writes it before each",
    BufferRole.STATE: "it is state",
    BufferRole.OUTPUT: "nodes write it",
    BufferRole.TEMP: "nodes write it",
    BufferRole.WEIGHT: "the graph does not say what it holds (GraphBuilder.constant does)",
}
"""Who gives memory on the host another value."""


def _refusal_of_read(
    graph: Graph, known: ReachingWrites, indexes: Collection[str], position: int, read: SeenWrites
) -> str:
    name, view = read.access.node, read.access.buffer
    if read.own or {source and source[0] for source in read.sources} != {position}:
        return f"'{name}' reads %{view}, where others write, too"
    node = graph.nodes[name]
    if not isinstance(node, KernelNode):
        return f"'{name}' , which is not a kernel node, reads %{view}"
    if any(a.write and a.node == name for a in known.uses[view].accesses):
        return f"'{name}' writes %{view} itself"
    if view in indexes:
        return f"%{view} says where others lie"
    return ""


def _in_bounds(view: Buffer, contents: bytes) -> bool:
    if view.bounds is None:
        return True
    low, high = view.bounds
    return all(low <= value <= high for value in integers_of(view.dtype, contents))


def _uses(graph: Graph, name: str, view: Buffer, contents: bytes) -> Iterator[FoldedUse]:
    node = graph.nodes[name]
    for parameter, argument in node.arguments if isinstance(node, KernelNode) else ():
        if isinstance(argument, BufferArgument | ScalarLoad) and argument.buffer == view.name:
            yield FoldedUse(name, parameter, argument, view, contents)


def loaded_constant(graph: Graph, use: FoldedUse) -> ConstantArgument | None:
    """The constant that a scalar is which a node loads; ``None`` if it must stay a load.

    It stays one if it does not fit the parameter's type, where a target's arithmetic would decide, and if a region
    depends on it that is only checked when it runs.
    """
    argument, node = use.argument, graph.nodes[use.node]
    if not isinstance(argument, ScalarLoad) or not isinstance(node, KernelNode):
        return None
    kernel = graph.kernels[node.kernel]
    parameter = kernel.parameter(use.parameter)
    value = integers_of(use.view.dtype, use.contents)[argument.index] + argument.offset
    if parameter is None or not parameter.dtype.range[0] <= value <= parameter.dtype.range[1]:
        return None
    if use.parameter in kernel.region_symbols and use.view.bounds is None:
        return None
    return ConstantArgument(value)


def constant_for(view: Buffer, contents: bytes, name: str, allocation: str, offset: int) -> Buffer:
    """A buffer that holds what a view holds when it is read."""
    role = BufferRole.WEIGHT
    return replace(view, name=name, role=role, allocation=allocation, offset=offset, contents=contents)


def without_folded(before: Graph, after: Graph) -> tuple[Graph, dict[str, str]]:
    """The graph before, with an empty node for each copy that was folded, as far as that is right.

    Returns:
        The graph, which has the new buffers with contents of the graph after; and for each copy that is gone and was
        not folded: why not.
    """
    if all(name in after.nodes for name, node in before.nodes.items() if isinstance(node, MemcpyNode)):
        return before, {}
    edit, wrong = before.edit(), dict[str, str]()
    _add_constants(edit, after)
    for name, fold in folds(before).items():
        if name in after.nodes:
            continue
        wrong[name] = fold.refusal or next(filter(None, (_misbound(before, after, use) for use in fold.uses)), "")
        if wrong[name]:
            continue
        del wrong[name]
        edit.replace_node(EmptyNode(name, fold.copy.place))
        for use in fold.uses:
            argument = _bound(after, use)
            if argument is not None:
                rebind(edit, use, argument)
    return edit.commit(), wrong


def rebind(edit: GraphEdit, use: FoldedUse, argument: Argument) -> None:
    """Bind a parameter to something else."""
    node = edit.node(use.node)
    if isinstance(node, KernelNode):
        arguments = tuple((p, argument if p == use.parameter else a) for p, a in node.arguments)
        edit.replace_node(replace(node, arguments=arguments))


def _add_constants(edit: GraphEdit, after: Graph) -> None:
    """Declare what is new in the graph after and holds contents; other new buffers are for others to judge."""
    before = edit.base
    others = {b.allocation for b in after.buffers.values() if b.contents is None}
    new = [b for b in after.buffers.values() if b.name not in before.buffers and b.contents is not None]
    for buffer in new:
        if buffer.allocation in others or buffer.allocation in before.allocations:
            continue
        edit.set_allocation(after.allocations[buffer.allocation])
        edit.set_buffer(buffer)


def _bound(after: Graph, use: FoldedUse) -> Argument | None:
    node = after.nodes.get(use.node)
    return node.argument(use.parameter) if isinstance(node, KernelNode) else None


def _misbound(before: Graph, after: Graph, use: FoldedUse) -> str:
    """Why a reader is not bound to the same constants after; empty if it is."""
    argument = _bound(after, use)
    where = f"parameter '{use.parameter}' of '{use.node}'"
    if argument is None:
        return f"{where} is gone"
    if isinstance(argument, ConstantArgument):
        same = argument == loaded_constant(before, use)
        return "" if same else f"{where} is bound to another scalar than the one that it loaded"
    new = after.buffers.get(argument.buffer)
    if replace_buffer(use.argument, argument.buffer) != argument or new is None:
        return f"{where} is bound to something else"
    return _difference(before, after, use, new)


def replace_buffer(argument: Argument, buffer: str) -> Argument:
    """The same argument, of another buffer."""
    return argument if isinstance(argument, ConstantArgument) else replace(argument, buffer=buffer)


def _difference(before: Graph, after: Graph, use: FoldedUse, new: Buffer) -> str:
    """What of a buffer is not as what a copy brought to another one."""
    where = f"%{new.name}, to which parameter '{use.parameter}' of '{use.node}' is bound,"
    if constant_for(use.view, use.contents, new.name, new.allocation, new.offset) != new:
        return f"{where} does not hold what it copied"
    if before.allocations[use.view.allocation].place != after.allocations[new.allocation].place:
        return f"{where} lies at another place than %{use.view.name}"
    if _alignment(new) < _alignment(use.view):
        return f"{where} is aligned to less than %{use.view.name}"
    return ""


def _alignment(buffer: Buffer) -> int:
    """What its address is certainly a multiple of, in bytes."""
    return math.gcd(buffer.offset, ALLOCATION_ALIGNMENT)
