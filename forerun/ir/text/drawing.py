"""Draws diagnostics under the lines that they are about, in the user's own text or in the printed form of a graph."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from forerun.ir.graph import Graph
from forerun.ir.text.parser import parse_graph_with_locations
from forerun.ir.text.source import SourceMap, locate
from forerun.ir.text.spelling import reference, word
from forerun.support.diagnostics import Diagnostic, InvalidInput, Location
from forerun.support.excerpt import Mark, drawing

__all__ = ["draw", "place_in"]

_MAX_ELEMENT_LINES = 500
_SIGILS = {"node": "#", "buffer": "%", "kernel": "@"}


def draw(diagnostics: Iterable[Diagnostic], source: Graph | SourceMap | str, *, limit: int | None = 20) -> str:
    """Diagnostics as text, each under the line that it is about, with one line of context on either side.

    Lines are of at most 100 columns where the source is concerned; there is no line feed at the end. The source is a
    graph, the user's text, or what :func:`~forerun.ir.text.parser.parse_graph_with_locations` returns for that, which
    saves another parse. Those beyond the limit are counted.

    Example:
        >>> from forerun.ir.nodes import EmptyNode
        >>> graph = Graph("tiny", nodes=[EmptyNode("start")])
        >>> print(draw([Diagnostic("X1", "nothing to do", Location("node", "start"), "remove it")], graph))
        error[X1]: node start: nothing to do
         --> tiny:4:6
          |
        4 | node #start = empty
          |      ^^^^^^
          = hint: remove it
    """
    found = list(diagnostics)
    if isinstance(source, str):
        source = _read(source, found)
    elif isinstance(source, Graph):
        source = locate(source)
    drawings = [_drawing(diagnostic, source) for diagnostic in found[:limit]]
    if limit is not None and len(found) > limit:
        drawings.append(f"... and {len(found) - limit} more")
    return "\n\n".join(drawings)


def place_in(source: SourceMap, location: Location) -> Location:
    """The location with the line and the column (one-based) that :func:`draw` shows; as it is, if it is not there."""
    mark = _mark(location, source)
    return location if mark is None else replace(location, line=mark.line, column=mark.column + 1, length=mark.length)


def _read(text: str, diagnostics: list[Diagnostic]) -> SourceMap:
    """The places in a text, if it is needed and if it parses."""
    if all(diagnostic.location.kind == "text" for diagnostic in diagnostics):
        return SourceMap("<text>", text, {})
    try:
        return parse_graph_with_locations(text)[1]
    except InvalidInput:
        return SourceMap("<text>", text, {})


def _drawing(diagnostic: Diagnostic, source: SourceMap) -> str:
    location = diagnostic.location
    mark, about = _mark(location, source), f"{location}: "
    place = "" if mark is None else f"{source.name}:{mark.line}:{mark.column + 1}"
    if location.kind == "text":
        place, about = str(location), ""
    head = f"{diagnostic.severity}[{diagnostic.code}]: {about}{diagnostic.message}"
    return drawing(head, place, mark, source.text_of, diagnostic.hint)


# What to underline


def _mark(location: Location, source: SourceMap) -> Mark | None:
    line = source.line(location)
    if line is None:
        return None
    if location.kind == "text":
        return Mark(line, location.column - 1, location.length)
    text = source.text_of(line) or ""
    found = _detail(location.detail, line, _indent(text), source) if location.detail else None
    return found or _name(location, line, text)


def _detail(detail: str, line: int, indent: int, source: SourceMap) -> Mark | None:
    """The first place of a detail in its element: in its line, or in those after it that are indented deeper."""
    pattern = re.compile(rf"(?<![\w.]){re.escape(detail)}(?![\w.])")
    for number in range(line, line + _MAX_ELEMENT_LINES):
        text = source.text_of(number)
        if text is None or (number > line and _indent(text) <= indent):
            return None
        match = pattern.search(text)
        if match is not None:
            return Mark(number, match.start(), len(detail))
    return None


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip())


def _name(location: Location, line: int, text: str) -> Mark:
    """The element's name in its line, without the path if it is in a body; or else the whole line."""
    for spelled in _spellings(location.kind, location.name):
        if spelled in text:
            return Mark(line, text.index(spelled), len(spelled))
    return Mark(line, _indent(text), max(len(text.strip()), 1))


def _spellings(kind: str, name: str) -> list[str]:
    """How an element's name may stand in its line."""
    if kind == "phase":
        return [f"phase {word(name.rpartition('.')[2])}"]
    if kind == "dependency":
        source = name.partition(" -> ")[0]
        return [reference("#", source), reference("#", source.rpartition("/")[2])]
    # An allocation may be declared by the line of its buffer.
    sigils = "$%" if kind == "allocation" else _SIGILS.get(kind, "")
    return [reference(sigil, spelled) for sigil in sigils for spelled in (name, name.rpartition("/")[2])]
