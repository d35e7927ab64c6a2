"""Verdicts for people and for machines: findings with the schedule that shows them, and repairs that were tried."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from forerun.cli.console import print_plain, result_console
from forerun.cli.errors import diagnostics_as_json

if TYPE_CHECKING:
    from rich.text import Text

    from forerun.ir.explain import Explanation, Witness
    from forerun.ir.semantics import NodeAccess, Race
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


def findings_as_json(found: list[Explanation]) -> list[dict[str, Any]]:
    """The findings as docs/cli.md describes them."""
    diagnostics = diagnostics_as_json(explanation.finding for explanation in found)
    return [
        {
            **diagnostic,
            "race": None if explanation.race is None else _race(explanation.race),
            "witness": None if explanation.witness is None else _witness(explanation.witness),
            "repairs": [{"sentence": r.sentence, "proved": r.proved} for r in explanation.repairs],
        }
        for diagnostic, explanation in zip(diagnostics, found, strict=True)
    ]


def _race(race: Race) -> dict[str, Any]:
    return {
        "kind": race.kind,
        "certain": race.certain,
        "missing": race.missing,
        "earlier": _access(race.earlier),
        "later": _access(race.later),
    }


def _access(access: NodeAccess) -> dict[str, Any]:
    return {
        "node": access.node,
        "phase": access.phase,
        "write": access.write,
        "before_wait": access.early,
        "buffer": access.buffer,
        "allocation": access.allocation,
        "bytes": str(access.bytes),
    }


def _witness(witness: Witness) -> dict[str, Any]:
    return {
        "steps": [
            {"node": step.node, "event": step.event or "access", "text": str(step)}
            | ({} if step.access is None else {"access": _access(step.access)})
            for step in witness.steps
        ],
        "chain": [{"source": d.source, "target": d.target, "kind": str(d.kind)} for d in witness.chain],
        "missing": witness.missing,
        "reason": witness.reason,
    }
