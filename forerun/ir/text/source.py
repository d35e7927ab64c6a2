"""Where the elements of a graph stand in a text: the user's own file, or the printed form."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from forerun.ir.graph import Graph
from forerun.ir.text.printer import graph_lines
from forerun.ir.text.spelling import BYTE_ORDER_MARK, word
from forerun.support.diagnostics import Location

__all__ = ["SourceMap", "locate"]


class SourceMap:
    """A text with a name, and the line of each element that it declares.

    Places are by ``(kind, name)``; elements of bodies are named after the nodes around them, ``loop/copy``. The line of
    a place is one-based.

    Example:
        >>> from forerun.ir.nodes import EmptyNode
        >>> source = locate(Graph("tiny", nodes=[EmptyNode("start"), EmptyNode("stop")]))
        >>> source.line(Location("node", "stop"))
        5
    """

    def __init__(
        self, name: str, text: str, places: Mapping[tuple[str, str], int], line_of: Callable[[int], int] = int
    ) -> None:
        self.name = name
        self.text = text.removeprefix(BYTE_ORDER_MARK)
        self._places = places
        self._line_of = line_of
        self._starts = [0]

    def text_of(self, line: int) -> str | None:
        """A line without its end; ``None`` if the text has no such line."""
        starts = self._starts
        while len(starts) <= line and starts[-1] <= len(self.text):
            stop = self.text.find("\n", starts[-1])
            starts.append(len(self.text) + 1 if stop < 0 else stop + 1)
        if not 1 <= line < len(starts):
            return None
        return self.text[starts[line - 1] : starts[line] - 1].removesuffix("\r")

    def line(self, location: Location) -> int | None:
        """The one-based line of an element, or of a place in this text; ``None`` if it has none."""
        if location.kind == "text":
            return None if self.text_of(location.line) is None else location.line
        if location.kind == "graph":
            return self._line(("graph", ""))
        line = self._line((location.kind, location.name))
        if line is None and location.kind == "allocation":  # one that its buffer's line declares
            line = self._line(("buffer", location.name))
        return self._line_in_body(location) if line is None else line

    def _line(self, key: tuple[str, str]) -> int | None:
        place = self._places.get(key)
        return None if place is None else self._line_of(place)

    def _line_in_body(self, location: Location) -> int | None:
        """The first element of some body that has the name without the path."""
        ending = "/" + location.name
        keys = (key for key in self._places if key[0] == location.kind and key[1].endswith(ending))
        found = next(keys, None)
        return None if found is None else self._line(found)


def locate(graph: Graph) -> SourceMap:
    """The printed form of a graph, with the line of each element."""
    places: dict[tuple[str, str], int] = {}
    lines = []
    for number, (kind, name, text) in enumerate(graph_lines(graph), 1):
        places.setdefault((kind, name), number)
        lines.append(text)
    return SourceMap(word(graph.name), "\n".join(lines) + "\n", places)
