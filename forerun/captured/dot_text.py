"""The part of the DOT language that drawings of CUDA graphs are written in: nodes, edges and subgraphs with attributes.

Source: graphviz.org, "DOT Language". HTML labels, and subgraphs as ends of edges, are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from forerun.support.diagnostics import InvalidInput

__all__ = ["DotDrawing", "DotEdge", "DotNode", "read_drawing"]

_TOKEN = re.compile(
    r"""(?P<space>\s++|//[^\n]*+|/\*.*?\*/|\#[^\n]*+)"""
    r"""|(?P<arrow>->)"""
    r"""|(?P<mark>[{}\[\]=;,:])"""
    r"""|"(?P<quoted>(?:[^"\\]++|\\.)*+)\""""
    r"""|(?P<word>[^\s{}\[\]=;,:"<>-]++|-?[0-9.]++)""",
    re.DOTALL,
)
_MOST_DEPTH = 64
_DEFAULTS = ("graph", "node", "edge")


@dataclass(slots=True)
class DotNode:
    """A node: what it is called, the subgraph that it stands in (0: none), and its attributes; of a key the last."""

    name: str
    subgraph: int
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DotEdge:
    """An edge between the nodes of two names."""

    source: str
    target: str
    attributes: Mapping[str, str]


@dataclass
class DotDrawing:
    """What a DOT file draws.

    Attributes:
        nodes: By name, in the order of the text.
        edges: In the order of the text.
        labels: The label of each subgraph, in the order of the text; first that of the whole.
    """

    nodes: dict[str, DotNode] = field(default_factory=dict)
    edges: list[DotEdge] = field(default_factory=list)
    labels: list[str] = field(default_factory=lambda: [""])


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def read_drawing(text: str, name: str) -> DotDrawing:
    """Read a DOT file.

    Args:
        text: What it holds.
        name: What it is called in errors.

    Raises:
        InvalidInput: If it is not one, with line and column.
    """
    return _Reader(text, name).drawing()


class _Reader:
    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name
        self.tokens = self._tokens()
        self.token = next(self.tokens)
        self.found = DotDrawing()
        self.open: list[int] = []
        """The subgraphs around the place, the innermost last."""

    def drawing(self) -> DotDrawing:
        self._skip("strict")
        if not self._skip("digraph"):
            raise self._error("a directed graph begins with 'digraph'")
        if self.token.text != "{":
            self._identifier()
        self._expect("{")
        self.open = [0]
        while self.open:
            self._statement()
        if self.token.kind != "end":
            raise self._error("the graph has ended here")
        return self.found

    def _statement(self) -> None:
        token = self.token
        if token.kind == "mark" and token.text == "}":
            self._next()
            self.open.pop()
        elif token.kind == "mark" and token.text in ";,":
            self._next()
        elif token.kind == "mark" and token.text == "{":
            self._open_subgraph()
        elif token.kind == "word" and token.text == "subgraph":
            self._next()
            if self.token.text != "{":
                self._identifier()
            self._open_subgraph()
        elif token.kind == "word" and token.text in _DEFAULTS:
            self._next()
            self._attributes()
        else:
            self._named(self._identifier())

    def _open_subgraph(self) -> None:
        self._expect("{")
        if len(self.open) >= _MOST_DEPTH:
            raise self._error(f"subgraphs are nested more than {_MOST_DEPTH} deep")
        self.open.append(len(self.found.labels))
        self.found.labels.append("")

    def _named(self, name: str) -> None:
        """What begins with a name: an attribute of the subgraph, a node, or edges."""
        if self._skip("="):
            value = self._identifier()
            if name == "label":
                self.found.labels[self.open[-1]] = value
            return
        ends = [name]
        self._port()
        while self.token.kind == "arrow":
            self._next()
            ends.append(self._identifier())
            self._port()
        attributes = self._attributes()
        for end in ends:
            self.found.nodes.setdefault(end, DotNode(end, self.open[-1]))
        if len(ends) == 1:
            self.found.nodes[name].attributes.update(attributes)
        for source, target in pairwise(ends):
            self.found.edges.append(DotEdge(source, target, attributes))

    def _port(self) -> None:
        while self._skip(":"):
            self._identifier()

    def _attributes(self) -> dict[str, str]:
        found: dict[str, str] = {}
        while self._skip("["):
            while not self._skip("]"):
                key = self._identifier()
                found[key] = self._identifier() if self._skip("=") else "true"
                while self.token.kind == "mark" and self.token.text in ";,":
                    self._next()
        return found

    def _identifier(self) -> str:
        token = self.token
        if token.kind not in ("word", "quoted"):
            raise self._error("a name is missing here")
        self._next()
        return token.text

    def _skip(self, text: str) -> bool:
        """Whether this text comes next, which is then passed."""
        found = self.token.kind in ("word", "mark") and self.token.text == text
        if found:
            self._next()
        return found

    def _expect(self, text: str) -> None:
        if not self._skip(text):
            raise self._error(f"'{text}' is missing here")

    def _next(self) -> None:
        self.token = next(self.tokens)

    def _tokens(self) -> Iterator[_Token]:
        at = 0
        while at < len(self.text):
            match = _TOKEN.match(self.text, at)
            if match is None or match.lastgroup is None:
                raise self._error("this cannot be read", at)
            if match.lastgroup != "space":
                yield _Token(match.lastgroup, match[match.lastgroup].replace('\\"', '"'), at)
            at = match.end()
        while True:
            yield _Token("end", "", at)

    def _error(self, message: str, at: int | None = None) -> InvalidInput:
        place = self.token.at if at is None else at
        line = self.text.count("\n", 0, place) + 1
        column = place - self.text.rfind("\n", 0, place)
        return InvalidInput(
            f"{self.name}:{line}:{column}: {message}", hint="a DOT file that the CUDA driver wrote is read"
        )
