"""Memory that nodes allocate and free is used in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from forerun.ir.graph import Graph
from forerun.ir.nodes import AllocNode, ChildGraphNode, FreeNode
from forerun.ir.semantics.access import accesses, with_tables
from forerun.ir.types import BufferRole
from forerun.support.diagnostics import Diagnostic, Location

__all__ = ["check"]


@dataclass(frozen=True, slots=True)
class _Moment:
    """Where in launch order something happens to an allocation, bodies of child graphs included.

    The name is that of the node that does it, after the nodes around it: ``layer/copy``. The buffer, through which it
    happens, is empty for allocation nodes.
    """

    place: int
    name: str
    buffer: str = ""


def check(graph: Graph) -> Iterator[Diagnostic]:
    """Yield violations of F4 of a graph that is valid otherwise, and of the child graphs in it."""
    begun: dict[str, _Moment] = {}
    ended: dict[str, _Moment] = {}
    uses: dict[str, list[_Moment]] = {}
    for place, (name, allocation, buffer, kind) in enumerate(_events(graph, "")):
        moment = _Moment(place, name, buffer)
        if kind is None:
            uses.setdefault(allocation, []).append(moment)
            continue
        known, verb = (begun, "allocates") if kind is AllocNode else (ended, "frees")
        if allocation in known:
            message = f"{verb} ${allocation}, as '{known[allocation].name}' does"
            yield Diagnostic("F4", message, Location("node", name), "a replay allocates and frees an allocation once")
        known.setdefault(allocation, moment)
    for allocation in dict.fromkeys([*begun, *ended]):
        yield from _misplaced(allocation, begun.get(allocation), ended.get(allocation), uses.get(allocation, []))
    yield from _outlived(graph, begun, ended)


def _events(graph: Graph, path: str) -> Iterator[tuple[str, str, str, type | None]]:
    """The full name, the allocation, the buffer, and the kind of each allocation node and use, in launch order."""
    for name, found in accesses(graph).items():
        node = graph.nodes[name]
        if isinstance(node, AllocNode | FreeNode):
            yield path + name, node.allocation, "", type(node)
        elif isinstance(node, ChildGraphNode):
            yield from _events(with_tables(graph, node.body), f"{path}{name}/")
        else:
            for allocation, buffer in dict.fromkeys((a.allocation, a.buffer) for a in found):
                yield path + name, allocation, buffer, None


def _misplaced(
    allocation: str, begin: _Moment | None, end: _Moment | None, uses: list[_Moment]
) -> Iterator[Diagnostic]:
    if begin is not None and end is not None and end.place < begin.place:
        message = f"frees ${allocation} before '{begin.name}' allocates it"
        yield Diagnostic("F4", message, Location("node", end.name), f"put '{end.name}' last, in launch order")
    for use in uses:
        at = Location("node", use.name, detail=f"%{use.buffer}")
        if begin is not None and use.place < begin.place:
            message = f"uses memory of ${allocation} before '{begin.name}' allocates it"
            yield Diagnostic("F4", message, at, f"put '{begin.name}' before the first use, in launch order")
        if end is not None and use.place > end.place:
            message = f"uses memory of ${allocation} after '{end.name}' frees it"
            yield Diagnostic("F4", message, at, f"put '{end.name}' after the last use, in launch order")


def _outlived(graph: Graph, begun: dict[str, _Moment], ended: dict[str, _Moment]) -> Iterator[Diagnostic]:
    for buffer in graph.buffers.values():
        node = begun.get(buffer.allocation) or ended.get(buffer.allocation)
        kept = buffer.role is BufferRole.OUTPUT and buffer.allocation not in ended
        if node is not None and buffer.role is not BufferRole.TEMP and not kept:
            message = f"is {_with_article(buffer.role)}, which outlives a replay, but '{node.name}' manages its memory"
            yield Diagnostic("F4", message, Location("buffer", buffer.name), "let it have an allocation of its own")


def _with_article(role: BufferRole) -> str:
    return f"an {role}" if str(role)[0] in "aeiou" else f"a {role}"
