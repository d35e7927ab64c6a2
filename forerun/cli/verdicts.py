"""Verdicts for people and for machines: findings with the schedule that shows them, and repairs that were tried."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forerun.cli.boundary import diagnostics_as_json
from forerun.cli.console import print_plain, result_console

if TYPE_CHECKING:
    from rich.text import Text

    from forerun.ir.diagnostics import Diagnostic
    from forerun.ir.graph import Graph
    from forerun.ir.semantics import NodeAccess, Race, Repair, Verdict, Witness

__all__ = ["Detail", "details", "findings_as_json", "print_findings"]


@dataclass(frozen=True, slots=True)
class Detail:
    """A finding with what explains it; bare for one that is neither a race nor an undrained node."""

    finding: Diagnostic
    race: Race | None = None
    witness: Witness | None = None
    repairs: tuple[Repair, ...] = ()


def details(graph: Graph, verdict: Verdict, licences: frozenset[str], limit: int | None) -> list[Detail]:
    """The findings of a verdict on a graph, the first ``limit`` of them explained."""
    from forerun.ir.semantics import drain_repairs, drain_witness, repairs, witness

    subjects: list[Race | str] = [*verdict.races, *verdict.undrained]
    bare = len(verdict.findings) - len(subjects)  # a certificate's own findings come first
    found = [Detail(finding) for finding in verdict.findings[:bare]]
    for number, (finding, subject) in enumerate(zip(verdict.findings[bare:], subjects, strict=True)):
        race = None if isinstance(subject, str) else subject
        if limit is not None and bare + number >= limit:
            found.append(Detail(finding, race))
        elif race is not None:
            found.append(Detail(finding, race, witness(graph, race, licences), repairs(graph, race, licences)))
        elif isinstance(subject, str) and subject in graph.nodes:
            tried = drain_repairs(graph, subject, licences)
            found.append(Detail(finding, None, drain_witness(graph, subject, licences), tried))
        else:
            found.append(Detail(finding))
    return found


# For people


def print_findings(text: str, name: str, found: list[Detail], shown: int | None) -> None:
    """Draw findings in the text of the graph, each with its schedule and repairs, and count those left out."""
    from forerun.ir.text import draw, parse_graph_with_locations

    console = result_console()
    source = parse_graph_with_locations(text, name)[1] if found else text
    for number, detail in enumerate(found[:shown]):
        drawn = [*([""] if number else []), *draw([detail.finding], source).splitlines()]
        for line in [*drawn, *_explanation(detail)]:
            print_plain(console, _styled(line))
    if shown is not None and len(found) > shown:
        print_plain(console, f"\n... and {len(found) - shown} more; -v shows all")


def _explanation(detail: Detail) -> Iterator[str]:
    if detail.witness is not None:
        yield from (f"  {line}" for line in detail.witness.lines())
    if detail.repairs:
        yield "  each of these was tried, and repairs it:"
    for number, repair in enumerate(detail.repairs, 1):
        yield f"    {number}. {repair.sentence}" + (" (then all is proved)" if repair.proved else "")


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


def findings_as_json(found: list[Detail]) -> list[dict[str, Any]]:
    """The findings as docs/cli.md describes them."""
    diagnostics = diagnostics_as_json(detail.finding for detail in found)
    return [
        {
            **diagnostic,
            "race": None if detail.race is None else _race(detail.race),
            "witness": None if detail.witness is None else _witness(detail.witness),
            "repairs": [{"sentence": r.sentence, "proved": r.proved} for r in detail.repairs],
        }
        for diagnostic, detail in zip(diagnostics, found, strict=True)
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
