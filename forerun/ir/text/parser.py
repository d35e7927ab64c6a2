"""Text to graph: recursive descent, one method a statement, and several errors at once."""

from __future__ import annotations

import re

from forerun.ir.graph import Graph
from forerun.ir.text.graph_reader import GraphReader
from forerun.ir.text.source import SourceMap
from forerun.ir.text.spelling import BYTE_ORDER_MARK, MAX_TEXT
from forerun.support.collection import collection_paused
from forerun.support.diagnostics import Diagnostic, InvalidInput, Location, Severity

__all__ = ["CODES", "parse_graph", "parse_graph_with_locations"]

CODES = {
    "P1": "the text begins with 'forerun 1' and 'graph NAME', and each body with 'graph NAME'",
    "P2": "no control characters, no bytes that are not UTF-8, no symbols of other languages",
    "P3": "a string is closed on its line, and its escapes are known",
    "P4": "numbers are well-formed, and integers where integers belong",
    "P5": "each word is where the grammar expects it",
    "P6": "a word of a closed set is one of the set",
    "P7": "a name is declared once, and a pair of nodes has one dependency",
    "P8": "each block is closed, and each brace closes one",
    "P9": "the text is not too large: characters, characters of a line, items of a list, nested bodies, errors",
    "P10": 'no mark !"..." that the printer left for a value without a textual form',
    "P11": "a clause is given once, and contradicts no other",
}
"""What a well-formed text keeps, by the code of the error about it; tests/ir/text has a negative test for each."""

_CONTROL = bytes(set(range(32)) - set(b"\t\n\r") | {127})
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]|\r(?!\n)")


def parse_graph(text: str | bytes, name: str = "<text>") -> Graph:
    """The graph that a text describes.

    The graph is not verified: names that nothing declares, wrong shapes and cycles are the verifier's.

    Args:
        text: The text form; bytes are UTF-8. A byte order mark and CRLF line ends are fine.
        name: The text's name in error messages.

    Raises:
        InvalidInput: If the text is malformed; all errors at once, up to 20, each with its line and column.

    Example:
        >>> graph = parse_graph('''
        ... forerun 1
        ... graph tiny
        ... buffer %x : f32[4] output
        ... node #clear = fill %x with 0
        ... ''')
        >>> graph.nodes["clear"].destination.buffer
        'x'
    """
    return parse_graph_with_locations(text, name)[0]


def parse_graph_with_locations(text: str | bytes, name: str = "<text>") -> tuple[Graph, SourceMap]:
    """Like :func:`parse_graph`; also returns where each element stands, for drawing diagnostics in the user's text."""
    content = _checked(text, name)
    reader = GraphReader(content, name)
    with collection_paused():
        graph = reader.read()
    if graph is None:
        raise _invalid(name, reader.diagnostics)
    return graph, SourceMap(name, content, reader.places, lambda place: reader.line_of(reader.span(place)[0]))


def _checked(text: str | bytes, name: str) -> str:
    """The text without a byte order mark; it is of a sensible size and has no control characters."""
    if len(text) > MAX_TEXT:
        message = f"the text has {len(text)} characters; the limit is {MAX_TEXT}"
        raise _invalid(name, [Diagnostic("P9", message, Location("text", name, 1, 1))])
    content = text if isinstance(text, str) else _decoded(text, name)
    content = content.removeprefix(BYTE_ORDER_MARK)
    match = None if _is_plain(content) else _FORBIDDEN.search(content)
    if match is None:
        return content
    message = f"the character U+{ord(match[0]):04X} does not belong into a text; is this a graph's text?"
    raise _invalid(name, [Diagnostic("P2", message, _location(content[: match.start()], name))])


def _is_plain(content: str) -> bool:
    """Whether a text is ASCII without control characters; many times faster than the search for what is wrong."""
    if not content.isascii() or "\r" in content:
        return False
    return len(content.encode().translate(None, _CONTROL)) == len(content)


def _decoded(text: bytes, name: str) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        message = f"the byte 0x{text[error.start]:02x} is not UTF-8; is this a graph's text?"
        before = text[: error.start].decode()
    raise _invalid(name, [Diagnostic("P2", message, _location(before, name))])


def _location(before: str, name: str) -> Location:
    """The place after a piece of text."""
    return Location("text", name, before.count("\n") + 1, len(before) - before.rfind("\n"))


def _invalid(name: str, diagnostics: list[Diagnostic]) -> InvalidInput:
    errors = sum(found.severity is Severity.ERROR for found in diagnostics)
    return InvalidInput(f"cannot read {name}: {errors} {'error' if errors == 1 else 'errors'}", tuple(diagnostics))
