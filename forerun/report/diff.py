"""A unified diff as HTML: coloured, and cut where it is long."""

from __future__ import annotations

from forerun.report.markup import Markup, join, tag

__all__ = ["draw_diff"]

SHOWN_LINES = 120
"""How many lines are shown at once; the others unfold."""
KEPT_CHARACTERS = 1_500_000
"""What the page holds of one diff; the rest is in the dump folder only."""

_CLASSES = {"+": "add", "-": "del", "@": "hunk"}


def draw_diff(text: str, file: str) -> Markup:
    """The diff, folded; ``file`` is the name of the one that holds it, for what does not fit."""
    lines = _body(text)
    if not lines:
        return tag("p", "The text of the graph is the same.", class_="note")
    added = sum(line.startswith("+") for line in lines)
    removed = sum(line.startswith("-") for line in lines)
    kept = _fitting(lines)
    summary = tag("summary", tag("b", "Diff"), tag("span", f"+{added:,} \N{MINUS SIGN}{removed:,} lines"))
    parts = [summary, _block(kept[:SHOWN_LINES])]
    if len(kept) > SHOWN_LINES:
        more = tag("summary", f"show all {len(kept):,} lines")
        parts.append(tag("details", more, _block(kept[SHOWN_LINES:]), class_="more"))
    if len(lines) > len(kept):
        parts.append(tag("p", f"{len(lines) - len(kept):,} more lines are in {file}.", class_="note"))
    return tag("details", *parts, class_="diff")


def _body(text: str) -> list[str]:
    """The lines without the two that name the files."""
    lines = text.splitlines()
    return lines[2:] if len(lines) > 1 and lines[0].startswith("---") and lines[1].startswith("+++") else lines


def _fitting(lines: list[str]) -> list[str]:
    room = KEPT_CHARACTERS
    for count, line in enumerate(lines):
        room -= len(line) + 20
        if room < 0:
            return lines[:count]
    return lines


def _block(lines: list[str]) -> Markup:
    spans = (tag("span", line + "\n", class_=_CLASSES.get(line[:1])) for line in lines)
    return tag("pre", join(*spans), tabindex="0")
