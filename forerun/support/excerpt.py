"""A line of a text with carets under a part of it, and its neighbours: how findings about a text are drawn."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from forerun.support.diagnostics import Diagnostic
from forerun.support.escaping import masked

__all__ = ["Mark", "draw_in_text", "drawing", "excerpt"]

_WIDTH = 100
_CUT = "..."
_BEFORE_CARET = 40


class Mark(NamedTuple):
    """What to underline: a one-based line, a zero-based column, and a number of characters."""

    line: int
    column: int
    length: int


def draw_in_text(diagnostic: Diagnostic, text: str) -> str:
    r"""A finding about a text, drawn under the line where it is.

    Example:
        >>> from forerun.support.diagnostics import Location
        >>> print(draw_in_text(Diagnostic("X1", "a lone bracket", Location("text", "notes", 2, 3)), "a\nb ]\nc"))
        error[X1]: a lone bracket
         --> notes:2:3
          |
        1 | a
        2 | b ]
          |   ^
        3 | c
    """
    place = diagnostic.location
    lines = text.split("\n")

    def text_of(line: int) -> str | None:
        return lines[line - 1].removesuffix("\r") if 1 <= line <= len(lines) else None

    head = f"{diagnostic.severity}[{diagnostic.code}]: {diagnostic.message}"
    return drawing(head, str(place), Mark(place.line, place.column - 1, place.length), text_of, diagnostic.hint)


def drawing(head: str, place: str, mark: Mark | None, text_of: Callable[[int], str | None], hint: str) -> str:
    """A finding's sentence (the head), its place, the excerpt around the mark, and the hint, if there are any.

    ``text_of`` gives a line by its one-based number, ``None`` if the text has no such line.
    """
    margin = "" if mark is None else " " * len(str(mark.line + 1))
    lines = [masked(head)]
    if mark is not None:
        lines.append(f"{margin}--> {masked(place)}")
        lines += excerpt(mark, text_of, margin)
    if hint:
        lines.append(f"{margin} = hint: {masked(hint)}")
    return "\n".join(lines)


def excerpt(mark: Mark, text_of: Callable[[int], str | None], margin: str) -> list[str]:
    """The line with carets, and its neighbours."""
    width = _WIDTH - len(margin) - len(" | ")
    start, carets = _window(text_of(mark.line) or "", mark, width)
    lines = [f"{margin} |"]
    for number in (mark.line - 1, mark.line, mark.line + 1):
        text = text_of(number)
        if text is None or (not text and number != mark.line):
            continue
        shown = _slice(text, start if number == mark.line else 0, width)
        lines.append(f"{number:>{len(margin)}} | {masked(shown)}".rstrip())
        if number == mark.line:
            lines.append(f"{margin} | {carets}")
    return lines


def _window(text: str, mark: Mark, width: int) -> tuple[int, str]:
    """Where the shown part of a long line starts, and the line with the carets under it."""
    start = 0
    if len(text) > width and mark.column + mark.length > width - len(_CUT):
        start = max(mark.column - _BEFORE_CARET, 0)
    lead = (_CUT if start else "") + text[start : mark.column]
    carets = text[mark.column : mark.column + mark.length] or " "
    room = max(width - len(_CUT) - _columns(lead), 1)
    return start, " " * _columns(lead) + "^" * min(_columns(carets), room)


def _slice(text: str, start: int, width: int) -> str:
    shown = (_CUT if start else "") + text[start:]
    return shown if len(shown) <= width else shown[: width - len(_CUT)] + _CUT


def _columns(text: str) -> int:
    """Columns of a terminal that a piece of text takes."""
    shown = [character for character in text if not unicodedata.combining(character)]
    return len(shown) + sum(unicodedata.east_asian_width(character) in "WF" for character in shown)
