"""Merged nodes: whether a node that is gone computed what another one had computed, from the same bytes.

A kernel node claims the nodes that it was merged with (:attr:`forerun.ir.nodes.KernelNode.fuses`, its own name
first); here the claim is checked on the graph before, and the graph before is taken without them.

Why this suffices. A node computes the same from the same bytes (C4). Let *gone* launch the kernel that *kept* launches
before it, with the same arguments but for buffers that the kernel writes and does not read. Run one by one in launch
order, both read the same bytes, since no node in between writes them, and so write the same values: to the same buffer,
where gone changes nothing, or from one temporary to another, which nobody outside the replay sees. Of both all bytes
are written. Nobody but gone writes the second one; who reads it does so later, as a whole buffer, and finds the same in
the first one, where nobody writes until then. So without gone, and with its temporaries read from those of kept, the
graph gives the same. In its place there is an empty node, for what is ordered through it: its dependencies are full.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from forerun.ir.analysis import Analysis
from forerun.ir.buffer import ALLOCATION_ALIGNMENT, Buffer
from forerun.ir.edit import GraphEdit
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Argument, BufferArgument, EmptyNode, KernelNode, Node
from forerun.ir.semantics.access import NodeAccess, accesses, is_event
from forerun.ir.semantics.byteset import ByteSet
from forerun.ir.types import BufferRole, DependencyKind

__all__ = ["TESTS", "Merge", "changed_input", "read_from", "without_merged"]


def without_merged(
    before: Graph, after: Graph, claims: Mapping[str, tuple[str, ...]]
) -> tuple[Graph, dict[str, tuple[str, str]]]:
    """The graph before, with an empty node for each node that was merged, as far as that is right.

    Args:
        before: The graph before.
        after: The graph after.
        claims: The nodes that nodes of after are said to stand for.

    Returns:
        The graph; and for each node that is gone and was not merged: the node that claims it, and why not.
    """
    pending = _pending(before, after, claims)
    while pending:
        right, wrong = _judged(before, pending)
        if not right:
            return before, wrong
        # Together, since none of them makes another one wrong: who is kept stays, and so do the bytes that it wrote.
        # Then again, since what reads the same only now may be equal now.
        edit = before.edit()
        for merge in right:
            read_from(edit, merge)
            edit.replace_node(EmptyNode(merge.gone, before.nodes[merge.gone].place))
            del pending[merge.gone]
        before = edit.commit()
    return before, {}


def _pending(before: Graph, after: Graph, claims: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """The nodes that are gone, each with the node of before that claims it; what new nodes claim is fused."""
    fused = {part for name, parts in claims.items() if name not in before.nodes for part in parts}
    old = {name: parts for name, parts in claims.items() if name in before.nodes and name in after.nodes}
    owners = {part: name for name, parts in old.items() for part in parts if part not in after.nodes}
    return {part: owners[part] for part in before.nodes if part in owners and part not in fused} if owners else {}


def _judged(graph: Graph, pending: Mapping[str, str]) -> tuple[list[Merge], dict[str, tuple[str, str]]]:
    """The merges that are right, and why the others are not; each with who claims it or the last one that it claims."""
    right: list[Merge] = []
    wrong: dict[str, tuple[str, str]] = {}
    last: dict[str, str] = {}
    for gone, owner in pending.items():
        merges = [Merge(graph, kept, gone) for kept in dict.fromkeys((owner, last.get(owner, owner)))]
        reasons = [merge.refusal() for merge in merges]
        if "" in reasons:
            right.append(merges[reasons.index("")])
        else:
            wrong[gone] = owner, reasons[0]
            last[owner] = gone
    return right, wrong


def read_from(edit: GraphEdit, merge: Merge) -> None:
    """Let the readers of what is gone read what is kept."""
    for name in merge.readers:
        node = edit.node(name)
        if not isinstance(node, KernelNode):
            continue  # it was merged itself
        arguments = ((p, _redirected(argument, merge.moved)) for p, argument in node.arguments)
        edit.replace_node(replace(node, arguments=tuple(arguments)))


def _redirected(argument: Argument, moved: Mapping[str, str]) -> Argument:
    if isinstance(argument, BufferArgument) and argument.buffer in moved:
        return replace(argument, buffer=moved[argument.buffer])
    return argument


def _find_places(graph: Graph) -> tuple[tuple[str, ...], Mapping[str, int]]:
    return tuple(graph.nodes), {name: position for position, name in enumerate(graph.nodes)}


_places = Analysis({"nodes"}, _find_places)
"""The names of the nodes in launch order, and the position of each."""


@dataclass(frozen=True)
class Merge:
    """Two nodes of a verified graph, of which the second may be gone.

    Attributes:
        graph: The graph.
        kept: The name of the node that stays.
        gone: The name of the one that goes.
    """

    graph: Graph
    kept: str
    gone: str

    def refusal(self) -> str:
        """Why the second node may not go; empty if it may."""
        for test in TESTS:
            reason = test(self)
            if reason:
                return reason
        return ""

    @cached_property
    def nodes(self) -> tuple[Node, Node]:
        """Both nodes."""
        return self.graph.nodes[self.kept], self.graph.nodes[self.gone]

    @cached_property
    def kernel(self) -> Kernel:
        """What both launch, once that is known to be so."""
        node = self.nodes[0]
        assert isinstance(node, KernelNode)
        return self.graph.kernels[node.kernel]

    @cached_property
    def pairs(self) -> tuple[tuple[str, Argument | None, Argument | None], ...]:
        """For each parameter, what it is bound to in both."""
        first, second = (dict(node.arguments) if isinstance(node, KernelNode) else {} for node in self.nodes)
        return tuple((p, first.get(p), second.get(p)) for p in dict.fromkeys([*first, *second]))

    @cached_property
    def outputs(self) -> tuple[tuple[str, str], ...]:
        """The buffers that a parameter is bound to, where they differ: by the node that stays, and by the other."""
        return tuple(
            (old.buffer, new.buffer)
            for _, old, new in self.pairs
            if isinstance(old, BufferArgument) and isinstance(new, BufferArgument) and old != new
        )

    @cached_property
    def moved(self) -> dict[str, str]:
        """The buffers that the node that goes writes alone, each with the one where the same is."""
        return {new: old for old, new in self.outputs}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the graph's nodes in launch order."""
        return _places(self.graph)[0]

    @property
    def place(self) -> Mapping[str, int]:
        """The position of each node in launch order."""
        return _places(self.graph)[1]

    @cached_property
    def views(self) -> tuple[Buffer, ...]:
        """The buffers that are written by the node that goes alone."""
        return tuple(self.graph.buffers[name] for name in self.moved)

    @cached_property
    def others(self) -> tuple[NodeAccess, ...]:
        """The accesses of other nodes to bytes of these buffers."""
        table = accesses(self.graph)
        return tuple(a for name, found in table.items() if name != self.gone for a in found if _meets(a, self.views))

    @cached_property
    def readers(self) -> tuple[str, ...]:
        """The nodes that access these buffers."""
        return tuple(dict.fromkeys(access.node for access in self.others))

    def of(self, name: str, *, write: bool) -> list[NodeAccess]:
        """The reads, or the writes, of a node."""
        return [access for access in accesses(self.graph)[name] if access.write is write]

    def writes_between(self, last: int) -> Iterator[NodeAccess]:
        """What is written after the node that stays, by nodes up to a position."""
        names = self.names[self.place[self.kept] + 1 : last + 1]
        return (access for name in names for access in self.of(name, write=True))


def _meets(access: NodeAccess, views: tuple[Buffer, ...]) -> bool:
    return any(access.allocation == v.allocation and access.bytes.overlaps(ByteSet(v.offset, v.stop)) for v in views)


# Tests, each of which says why not


def _are_alike(merge: Merge) -> str:
    kept, gone = merge.nodes
    if not isinstance(kept, KernelNode) or not isinstance(gone, KernelNode):
        return "they are not both kernel nodes"
    if merge.place[merge.kept] >= merge.place[merge.gone]:
        return f"'{merge.kept}' does not come first"
    if (kept.kernel, kept.launch, kept.place) != (gone.kernel, gone.launch, gone.place):
        return "they launch different kernels, in different ways or at different places"
    return ""


def _is_function(merge: Merge) -> str:
    if merge.kernel.is_black_box or merge.kernel.has_foreign_code:
        return f"nobody says that the code of kernel '{merge.kernel.name}' computes from what it reads alone"
    return ""


def _have_same_inputs(merge: Merge) -> str:
    read = {access.parameter for phase in merge.kernel.phases for access in phase.reads}
    for parameter, old, new in merge.pairs:
        are_outputs = isinstance(old, BufferArgument) and isinstance(new, BufferArgument) and parameter not in read
        if old != new and not are_outputs:
            return f"parameter '{parameter}' is bound to different things"
    return ""


def _are_known(merge: Merge) -> str:
    found = [*accesses(merge.graph)[merge.kept], *accesses(merge.graph)[merge.gone]]
    return "" if all(access.definite for access in found) else "what they access is not known exactly"


def changed_input(merge: Merge) -> str:
    """Which of the bytes that two nodes read may change in between; empty if none does."""
    first, last = merge.place[merge.kept], merge.place[merge.gone]
    event = next((name for name in merge.names[first : last + 1] if is_event(merge.graph.nodes[name])), None)
    if event is not None:
        return f"others may write what they read until '{event}'"
    for write in [*merge.of(merge.kept, write=True), *merge.writes_between(last)]:
        if any(map(write.overlaps, merge.of(merge.gone, write=False))):
            return f"'{write.node}' writes %{write.buffer}, which they read, before '{merge.gone}' does"
    return ""


def _write_whole_temporaries(merge: Merge) -> str:
    graph = merge.graph
    if any(len(set(names)) < len(merge.outputs) for names in zip(*merge.outputs, strict=True)):
        return "one buffer is bound to several of their outputs"
    for new, old in merge.moved.items():
        view, own = graph.buffers[new], graph.buffers[old]
        for one in (view, own):
            if one.role is not BufferRole.TEMP:
                return f"%{one.name} is seen by others"
        if replace(view, name=old, allocation=own.allocation, offset=own.offset) != own:
            return f"%{new} and %{old} differ"
        if graph.allocations[view.allocation].place != graph.allocations[own.allocation].place:
            return f"%{new} and %{old} lie at different places"
        if _alignment(own) < _alignment(view):
            return f"%{old} is aligned to less than %{new}"
        for name, buffer in ((merge.kept, own), (merge.gone, view)):
            whole = ByteSet(buffer.offset, buffer.stop)
            if not any(a.buffer == buffer.name and a.bytes.covers(whole) for a in merge.of(name, write=True)):
                return f"'{name}' does not write all of %{buffer.name}"
    return ""


def _alignment(buffer: Buffer) -> int:
    return math.gcd(buffer.offset, ALLOCATION_ALIGNMENT)


def _write_each_byte_once(merge: Merge) -> str:
    for name in (merge.kept, merge.gone):
        written = merge.of(name, write=True)
        for number, write in enumerate(written):
            if any(write.overlaps(other) for other in written[:number]):
                return f"'{name}' writes bytes of %{write.buffer} twice"
    return ""


def _are_read_later(merge: Merge) -> str:
    graph = merge.graph
    for access in merge.others:
        node = graph.nodes[access.node]
        if access.write or merge.place[access.node] < merge.place[merge.gone]:
            return f"'{access.node}' {access.verb} %{access.buffer}, which '{merge.gone}' writes"
        bound = [a for _, a in node.arguments] if isinstance(node, KernelNode) else []
        if access.buffer not in merge.moved or BufferArgument(access.buffer) not in bound:
            return f"'{access.node}' reads it in another way than as a buffer argument"
        if any(getattr(a, "buffer", "") == access.buffer and not isinstance(a, BufferArgument) for a in bound):
            return f"'{access.node}' loads a scalar from %{access.buffer}"
    indexed = next((one.name for one in graph.buffers.values() if one.index_buffer in merge.moved), None)
    return "" if indexed is None else f"it says where %{indexed} lies"


def _stay_until_read(merge: Merge) -> str:
    last = max([merge.place[merge.gone], *(merge.place[name] for name in merge.readers)])
    kept = merge.of(merge.kept, write=True)
    same = {old.buffer for _, old, new in merge.pairs if old == new and isinstance(old, BufferArgument)}
    for write in merge.writes_between(last):
        is_again = write.node == merge.gone and write.buffer in same
        if not is_again and any(map(write.overlaps, kept)):
            return f"'{write.node}' writes %{write.buffer} before all have read it"
    return ""


def _are_fully_ordered(merge: Merge) -> str:
    around = (*merge.graph.incoming(merge.gone), *merge.graph.outgoing(merge.gone))
    is_full = all(dependency.kind is DependencyKind.FULL for dependency in around)
    return "" if is_full else f"dependencies of '{merge.gone}' are not full"


TESTS = (
    _are_alike,
    _is_function,
    _have_same_inputs,
    _are_known,
    changed_input,
    _write_whole_temporaries,
    _write_each_byte_once,
    _are_read_later,
    _stay_until_read,
    _are_fully_ordered,
)
"""What must be so; tests take them away one by one."""
