"""How a captured graph differs from another one, node by node, exactly: by handles and bytes, never by names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import NamedTuple, Protocol

from forerun.captured.graph import CapturedFunction, CapturedGraph, CapturedNode
from forerun.runtime.cuda.capture.reading import Handles
from forerun.runtime.plans.difference import Difference, NodeChange

__all__ = ["CALL_ASPECTS", "GRAPH_ASPECTS", "TEXT", "Readable", "Reading", "compare_captures"]

MODULE, TEXT = "module", "text"

CALL_ASPECTS = frozenset({"grid", "block", "shared memory", MODULE})
"""What, besides parameters, the parameters of one node of an executable say: its launch, and which load of its code."""

GRAPH_ASPECTS = frozenset({"copy", "fill", "host function", "event", "what is not known"})
"""What only the driver's whole-graph update changes here."""

_DETAILS = {"memcpy": "copy", "memset": "fill", "host": "host function", "event_record": "event", "wait_event": "event"}
_CLUSTER = ("cluster_x", "cluster_y", "cluster_z")


class Readable(Protocol):
    """A captured graph, with the driver's handles."""

    @property
    def graph(self) -> CapturedGraph:
        """What was captured."""

    @property
    def handles(self) -> Handles:
        """The driver's handles of its nodes and functions."""


class Reading(NamedTuple):
    """A graph that was read to be compared."""

    graph: CapturedGraph
    handles: Handles


def compare_captures(old: Readable, new: Readable) -> Difference:
    """How a captured graph differs from one that was captured before.

    Functions are told apart by their handles and images, so that code which was loaded again under the same name, or
    even the same handle, is seen. What the driver does not tell counts as changed.

    Returns:
        The nodes that changed; or why nodes and edges do not correspond; or that only the memory does not.
    """
    before, after = old.graph, new.graph
    structure = _structure(before, after)
    if structure:
        return Difference(structure=structure)
    compared = _Compared(old, new)
    pairs = zip(before.nodes, after.nodes, old.handles.details, new.handles.details, strict=True)
    nodes = tuple(
        change
        for position, (one, other, *details) in enumerate(pairs)
        for change in compared.changes(one, other, details, f"n{position}", position)
    )
    memory = "" if nodes or before.memory == after.memory else "the memory around its pointers is in other blocks"
    return Difference(nodes, memory=memory)


def _structure(before: CapturedGraph, after: CapturedGraph, prefix: str = "") -> str:
    """Why the nodes and the edges of two graphs do not correspond, those of child graphs included; empty if they do."""
    if len(before.nodes) != len(after.nodes):
        return f"{len(after.nodes)} nodes, and {len(before.nodes)} before{f' in {prefix[:-1]}' if prefix else ''}"
    for number, (one, other) in enumerate(zip(before.nodes, after.nodes, strict=True)):
        name = f"{prefix}n{number}"
        if one.kind != other.kind:
            return f"{name} is of the kind '{other.kind}', and was of the kind '{one.kind}'"
        if one.body is not None and other.body is not None:
            inside = _structure(one.body, other.body, f"{name}/")
            if inside:
                return inside
    first, second = ([(e.source, e.target, e.kind, e.from_port, e.to_port) for e in g.edges] for g in (before, after))
    if sorted(first) == sorted(second):
        return ""
    kinds = {edge[:2]: edge[2:] for edge in first}
    for source, target, *kind in second:
        pair = f"{prefix}n{source} to {prefix}n{target}"
        if (source, target) not in kinds:
            return f"an edge from {pair} came"
        if kinds[source, target] != tuple(kind):
            return f"edge kind changed from {pair}"
    return f"{len(first)} edges, and {len(second)} now" if len(first) != len(second) else "edges changed"


class _Compared:
    def __init__(self, old: Readable, new: Readable) -> None:
        self.old, self.new = old, new
        self._aspects: dict[tuple[int, int], str] = {}

    def changes(
        self, one: CapturedNode, other: CapturedNode, details: Sequence[object], path: str, position: int
    ) -> Iterator[NodeChange]:
        """What changed of a node, and of those in its child graph."""
        if one.body is not None and other.body is not None:
            inside = [found if isinstance(found, tuple) else repeat(found) for found in details]
            pairs = zip(one.body.nodes, other.body.nodes, *inside, strict=False)
            for number, (first, second, *more) in enumerate(pairs):
                yield from self.changes(first, second, more, f"{path}/n{number}", position)
            return
        aspects = [*self._kernel(one, other)] if one.kind == "kernel" else []
        if details[0] != details[1] or one.transfer != other.transfer:
            aspects.append(self._detail(one, other))
        if aspects:
            yield NodeChange(path, position, tuple(aspects))

    @staticmethod
    def _detail(one: CapturedNode, other: CapturedNode) -> str:
        if one.kind != "kernel":
            return _DETAILS.get(one.kind, "what is not known")
        return "attributes or parameters that are not told" if one.unsupported or other.unsupported else "attributes"

    def _kernel(self, one: CapturedNode, other: CapturedNode) -> Iterator[str]:
        aspect = self._function(one.function, other.function)
        if aspect:
            yield aspect
        for name, before, after in (
            ("grid", one.grid, other.grid),
            ("block", one.block, other.block),
            ("shared memory", one.shared_bytes, other.shared_bytes),
        ):
            if before != after:
                yield name
        first, second = one.attributes, other.attributes
        changed = {key for key in {*first, *second} if first.get(key) != second.get(key)}
        if changed & {*_CLUSTER}:
            yield "cluster"
        yield from (f"attribute '{name}'" for name in sorted(changed - {*_CLUSTER}))
        if len(one.parameters) != len(other.parameters):
            yield "number of parameters"
            return
        pairs = enumerate(zip(one.parameters, other.parameters, strict=True))
        yield from (f"parameter {number}" for number, (before, after) in pairs if before != after)

    def _function(self, one: int, other: int) -> str:
        """What changed of the function that a node launches."""
        if (one, other) not in self._aspects:
            first, second = self.old.graph.functions[one], self.new.graph.functions[other]
            handles = int(self.old.handles.functions[one]), int(self.new.handles.functions[other])
            self._aspects[one, other] = _function_aspect(first, second, handles[0] == handles[1])
        return self._aspects[one, other]


def _function_aspect(one: CapturedFunction, other: CapturedFunction, is_same_handle: bool) -> str:
    if (one.image, one.name, one.parameters) != (other.image, other.name, other.parameters):
        return "code"
    if one.attributes != other.attributes:
        return "function attributes"
    if not is_same_handle:
        # Under other handles the same name may be anything.
        return MODULE if one.image else "code"
    return TEXT if one.text != other.text else ""
