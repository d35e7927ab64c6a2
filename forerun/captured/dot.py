"""Captured graphs from DOT files, which ``cuGraphDebugDotPrint`` and torch's ``debug_dump`` write: structure alone.

The driver documents no format. What is read here is what it was seen to write, with all flags and with none: a
subgraph for each graph, the outermost first, and in it a node for each node, whose label begins with its kind
(``{KERNEL | {ID | ...``) or, without flags, with its number; a child graph's label names its subgraph. An edge's
``headlabel`` is its number among those that lead to its target. An edge that says more, of which no port can be read,
is of the kind ``other``: nothing is known of what it orders.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from forerun.captured.dot_text import DotDrawing, DotEdge, DotNode, read_drawing
from forerun.captured.graph import CapturedEdge, CapturedFunction, CapturedGraph, CapturedNode
from forerun.support.diagnostics import InvalidInput

__all__ = ["captured_from_dot"]

_MOST_NODES = 100_000
_MOST_DEPTH = 16
_MOST_THREADS = (1 << 31) - 1
_KINDS = {
    "KERNEL": "kernel", "MEMCPY": "memcpy", "MEMSET": "memset", "HOST": "host", "EMPTY": "empty", "GRAPH": "graph",
    "CHILD": "graph", "CONDITIONAL": "conditional", "EVENT_RECORD": "event_record", "WAIT_EVENT": "wait_event",
    "EVENT_WAIT": "wait_event", "MEM_ALLOC": "mem_alloc", "MEM_FREE": "mem_free", "BATCH_MEM_OP": "batch_mem_op",
    "EXT_SEMAS_SIGNAL": "ext_semas_signal", "EXT_SEMAS_WAIT": "ext_semas_wait",
}  # fmt: skip
_SHAPES = {"octagon": "kernel"}
"""What tells the kind of a node whose label does not."""

_LAUNCH = re.compile(r"[|\n]([^|{}\n<]*+)<<<(\{[\d, ]++\}|\d++),\s*+(\{[\d, ]++\}|\d++),\s*+(\d++)>>>")
_ESCAPED = re.compile(r"\\([<>{}|\\ ])")
_COOPERATIVE = re.compile(r"\{\s*cooperative\s*\|\s*1\s*\}")
_WORD = re.compile(r"\w+")
_PORT = re.compile(r"\bfrom_?port\W{1,4}(\d)\b", re.IGNORECASE)
_SILENT = frozenset({"headlabel", "color", "fontcolor", "fontsize", "weight"})
"""Attributes of edges that say nothing about what the edge orders."""

_PORTS = {0: "full", 1: "programmatic", 2: "programmatic"}


def captured_from_dot(text: str, name: str) -> CapturedGraph:
    """The graph of a DOT file. Nothing is known of what its nodes access.

    Args:
        text: What the file holds.
        name: What it is called in errors.

    Raises:
        InvalidInput: If it is not a DOT file, or draws no graph of CUDA.
    """
    drawing = read_drawing(text, name)
    if not drawing.nodes:
        raise InvalidInput(f"{name} draws no node", hint="write it after the capture has ended")
    return _Reader(drawing, name).graph()


class _Reader:
    def __init__(self, drawing: DotDrawing, name: str) -> None:
        self.drawing = drawing
        self.name = name
        self.subgraphs = {label: number for number, label in enumerate(drawing.labels) if label}
        self.members: dict[int, list[DotNode]] = {}
        for node in drawing.nodes.values():
            self.members.setdefault(node.subgraph, []).append(node)
        self.edges: dict[int, list[DotEdge]] = {}
        self.strangers = 0
        for edge in drawing.edges:
            source, target = (drawing.nodes[end].subgraph for end in (edge.source, edge.target))
            self.strangers += source != target
            if source == target:
                self.edges.setdefault(source, []).append(edge)
        self.functions: dict[str, CapturedFunction] = {}
        self.numbers: dict[str, int] = {}
        self.bodies: dict[int, tuple[CapturedGraph, int]] = {}
        self.drawn: set[int] = set()

    def graph(self) -> CapturedGraph:
        """The outermost graph: the first."""
        root = min(self.members)
        found, _ = self._body(root, ())
        functions = tuple(self.functions.values())
        return replace(found.with_functions(functions), remarks=tuple(self._remarks()))

    def _remarks(self) -> Iterator[str]:
        if self.strangers:
            yield f"{self.strangers} edges lead from one graph to another, and were left out"
        left_out = sum(len(nodes) for number, nodes in self.members.items() if number not in self.drawn)
        if left_out:
            yield f"{left_out} nodes stand in graphs that no child graph node names, and were left out"

    def _body(self, number: int, around: tuple[int, ...]) -> tuple[CapturedGraph, int]:
        """A graph, and how many nodes it has with those of its child graphs."""
        if number in around:
            raise InvalidInput(f"{self.name}: {self.drawing.labels[number] or 'a graph'} is a child graph of itself")
        if len(around) > _MOST_DEPTH:
            raise InvalidInput(f"{self.name}: child graphs are nested more than {_MOST_DEPTH} deep")
        if number not in self.bodies:
            self.drawn.add(number)
            members = self.members.get(number, [])
            place = {node.name: at for at, node in enumerate(members)}
            nodes = [self._node(node, (*around, number)) for node in members]
            edges: dict[tuple[int, int], CapturedEdge] = {}
            for edge in self.edges.get(number, []):
                pair = place[edge.source], place[edge.target]
                edges.setdefault(pair, CapturedEdge(*pair, *_kind(edge.attributes)))
            count = sum(size for _, size in nodes)
            if count > _MOST_NODES:
                raise InvalidInput(f"{self.name}: more than {_MOST_NODES:,} nodes")
            self.bodies[number] = CapturedGraph(tuple(node for node, _ in nodes), tuple(edges.values())), count
        return self.bodies[number]

    def _node(self, node: DotNode, around: tuple[int, ...]) -> tuple[CapturedNode, int]:
        """A node, and how many it stands for."""
        label = _ESCAPED.sub(r"\1", node.attributes.get("label", "").replace("\\n", "\n"))
        words = _WORD.findall(label)
        kind = _SHAPES.get(node.attributes.get("shape", "")) or next((_KINDS[w] for w in words[:2] if w in _KINDS), "")
        if kind == "kernel":
            return self._kernel(label, words), 1
        inner = [self.subgraphs[word] for word in words if word in self.subgraphs]
        if kind in ("", "graph") and inner:
            body, count = self._body(inner[0], around)
            return CapturedNode("graph", body=body), count + 1
        self.drawn.update(inner)
        if kind in ("", "graph"):
            return CapturedNode("unknown", unsupported=("its kind is not known",)), 1
        return CapturedNode(kind, unsupported=() if kind == "empty" else ("a DOT file does not hold it",)), 1

    def _kernel(self, label: str, words: Sequence[str]) -> CapturedNode:
        launch = _LAUNCH.search(label)
        name = launch[1].strip() if launch else next((word for word in words if not word.isdigit()), "")
        if name not in self.functions:
            self.numbers[name] = len(self.functions)
            self.functions[name] = CapturedFunction(name or "kernel")
        grid, block = (_dimensions(launch[at]) if launch else (1, 1, 1) for at in (2, 3))
        shared = int(launch[4]) if launch and len(launch[4]) < 10 else 0
        attributes = {"cooperative": 1} if _COOPERATIVE.search(label) else {}
        return CapturedNode("kernel", self.numbers[name], grid, block, shared, attributes=attributes)


def _dimensions(text: str) -> tuple[int, int, int]:
    """``5`` or ``{5,2}``, with ones for what is not told."""
    numbers = [int(digits) for digits in re.findall(r"\d+", text)[:3] if len(digits) < 11]
    x, y, z = (*numbers, 1, 1, 1)[:3]
    return (x, y, z) if min(x, y, z) > 0 and max(x, y, z) <= _MOST_THREADS else (1, 1, 1)


def _kind(attributes: Mapping[str, str]) -> tuple[str, int]:
    """The kind of an edge, and the port that it leaves from; ``other`` if it says what is not known here."""
    told = {key: value for key, value in attributes.items() if key not in _SILENT}
    if not told:
        return "full", 0
    text = " ".join(f"{key}={value}" for key, value in told.items())
    port = _PORT.search(text)
    if port is not None:
        number = int(port[1])
        return _PORTS.get(number, "other"), number
    if "programmatic" in text.lower():
        return "programmatic", 1
    return "other", 0
