"""What the kernel that hands over to the host does beside that: small copies before and after the work there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from forerun.ir.graph import Dependency, Graph
from forerun.ir.nodes import KernelNode, MemcpyNode, Node, is_host_work
from forerun.ir.types import DependencyKind
from forerun.runtime.cuda.codegen.hand_over import HAND_OVER_COPIES
from forerun.runtime.cuda.emit.pitched import Rows, matched, rows_of

__all__ = ["HandOver", "Move", "with_copies_taken"]

_SMALL = 1 << 16
"""One CTA makes copies of at most that many bytes; a copy engine is faster with larger ones."""


@dataclass(frozen=True, slots=True)
class Move:
    """A copy of bytes that follow each other; ``path`` is that of its node."""

    path: str
    source: tuple[str, int]
    destination: tuple[str, int]
    size: int


@dataclass(frozen=True, slots=True)
class HandOver:
    """The copies before and after the host's work."""

    before: tuple[Move, ...] = ()
    after: tuple[Move, ...] = ()


def with_copies_taken(graph: Graph, part: Graph, names: Iterable[str]) -> tuple[Graph, Mapping[str, HandOver]]:
    """Let the nodes that hand over to the host make copies, where nothing else comes after, or before, these.

    Args:
        graph: The graph with the buffers.
        part: Nodes of it, with one node in place of each segment of the host.
        names: These nodes. They become kernels, so that kernels before them may have programmatic edges to them.

    Returns:
        The part without the copies that were taken, and what each of the nodes does.
    """
    handed, stands_for = dict[str, HandOver](), {name: name for name in names}
    for name in list(stands_for):
        before, after = list[Move](), list[Move]()
        for moves, names_around in (
            (before, [d.source for d in part.incoming(name) if len(part.outgoing(d.source)) == 1]),
            (after, [d.target for d in part.outgoing(name) if len(part.incoming(d.target)) == 1]),
        ):
            for end in names_around:
                move = None if end in stands_for else _move(graph, part.nodes[end])
                if move is not None and len(before) + len(after) < HAND_OVER_COPIES:
                    moves.append(move)
                    stands_for[end] = name
        handed[name] = HandOver(tuple(before), tuple(after))
    found: dict[tuple[str, str], Dependency] = {}
    for d in part.dependencies:
        ends = stands_for.get(d.source, d.source), stands_for.get(d.target, d.target)
        if ends[0] == ends[1]:
            continue
        kind = d.kind
        if ends[1] in handed:
            source = part.nodes[ends[0]]
            is_kernel = isinstance(source, KernelNode) and not is_host_work(source)
            kind = DependencyKind.PROGRAMMATIC if is_kernel else DependencyKind.FULL
        found.setdefault(ends, Dependency(*ends, kind))
    kept = [node for name, node in part.nodes.items() if stands_for.get(name, name) == name]
    return Graph(part.name, nodes=kept, dependencies=found.values()), handed


def _move(graph: Graph, node: Node) -> Move | None:
    """A copy, if it is small, and its bytes follow each other."""
    if not isinstance(node, MemcpyNode):
        return None
    views = node.source, node.destination
    found = [rows_of(graph.buffers[view.buffer], view.region, node.name).as_one() for view in views]
    ends: tuple[Rows, ...] = matched(found[0], found[1], node.name)
    if any(rows.count != 1 or rows.size > _SMALL for rows in ends):
        return None
    source, destination = ((view.buffer, rows.offset) for view, rows in zip(views, ends, strict=True))
    return Move(node.name, source, destination, ends[0].size)
