"""Verdicts for people and for machines: findings with the schedule that shows them, and repairs that were tried."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from forerun.cli.console import print_plain, result_console

if TYPE_CHECKING:
    from rich.text import Text

    from forerun.ir.explain import Explanation
    from forerun.ir.text import SourceMap

__all__ = ["findings_as_json", "print_findings"]


# For people


def print_findings(source: SourceMap, found: list[Explanation], shown: int | None, count: int) -> None:
    """Draw findings in the text of the graph, each with its schedule and repairs, and count those left out.

    Args:
        source: Where elements stand in the text.
        found: What there is to show.
        shown: How many are drawn; ``None`` is all of them.
        count: How many findings there are, those included of which nothing but their number is known.
    """
    from forerun.ir.text import draw

    console = result_console()
    for number, explanation in enumerate(found[:shown]):
        drawn = [*([""] if number else []), *draw([explanation.finding], source).splitlines()]
        for line in [*drawn, *explanation.lines()]:
            print_plain(console, _styled(line))
    drawn_count = len(found[:shown])
    if count > drawn_count:
        every = "all" if count == len(found) else f"the first {len(found):,}"
        hint = f"; -v shows {every}" if len(found) > drawn_count else ""
        print_plain(console, "", f"... and {count - drawn_count:,} more{hint}")


_STYLES = (
    (re.compile(r"(error|warning|note)\["), "bold red"),
    (re.compile(r"\s*\| +\^"), "red"),
    (re.compile(r"  > +\d+ "), "bold yellow"),
    (re.compile(r"  (missing|because)\b"), "cyan"),
    (re.compile(r"    \d\. "), "green"),
)


def _styled(line: str) -> Text:
    from rich.text import Text

    return Text(line, next((style for pattern, style in _STYLES if pattern.match(line)), ""))


# For machines


def findings_as_json(found: list[Explanation], source: SourceMap) -> list[dict[str, Any]]:
    """The findings as docs/cli.md describes them, with their places in the text of the graph."""
    return [explanation.to_json(source) for explanation in found]
