"""What is wrong with a graph, on the page: findings with the schedule that shows each, its nodes, and repairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from forerun.ir.graph import Dependency, Graph
from forerun.ir.types import DependencyKind
from forerun.report.cards import Marks, make_cards
from forerun.report.drawing import card_layout, draw_card
from forerun.report.fold import Segment
from forerun.report.markup import Markup, join, tag
from forerun.support.json_reader import JsonObject

__all__ = ["Finding", "draw_findings", "read_finding"]

SHOWN_FINDINGS = 4
KEPT_FINDINGS = 20
"""The others unfold."""
DRAWN_NODES = 12
"""The longest chain of a finding that is drawn, in nodes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding of the summary; the fields are those of ``check --json``.

    Line (0 if it is not known) and column are places in the text of the graph. ``nodes`` are in the order of the chain.
    A step of the schedule comes with whether it is one of the two accesses, a repair with whether all is proved then.
    """

    code: str
    subject: str
    message: str
    hint: str = ""
    line: int = 0
    column: int = 0
    nodes: tuple[str, ...] = ()
    steps: tuple[tuple[str, bool], ...] = ()
    steps_left_out: int = 0
    missing: str = ""
    reason: str = ""
    repairs: tuple[tuple[str, bool], ...] = ()


def read_finding(reader: JsonObject) -> Finding:
    """A finding from a summary.

    Raises:
        InvalidInput: If it is damaged.
    """
    location, witness = reader.inside("location", optional=True), reader.inside("witness", optional=True)
    return Finding(
        reader.text("code"),
        f"{location.text('kind', '')} {location.text('name', '')}".strip(),
        reader.text("message"),
        reader.text("hint", ""),
        location.integer("line", 0),
        location.integer("column", 0),
        tuple(reader.list_of("nodes", str, optional=True)),
        tuple((step.text("text"), step.text("event") == "access") for step in witness.each("steps", optional=True)),
        witness.integer("steps_left_out", 0),
        witness.text("missing", ""),
        witness.text("reason", ""),
        tuple((each.text("sentence"), each.flag("proved", False)) for each in reader.each("repairs", optional=True)),
    )


def draw_findings(findings: Sequence[Finding], count: int, file: str, graph: Graph | None) -> Markup:
    """The findings of a graph, the first one unfolded, with pictures of their nodes; ``count`` is how many there are.

    Lines and columns are of the file.
    """
    if not findings:
        return join()
    kept = findings[:KEPT_FINDINGS]
    items = [_finding(each, file, graph, is_open=number == 0) for number, each in enumerate(kept)]
    parts = items[:SHOWN_FINDINGS]
    if len(items) > SHOWN_FINDINGS:
        summary = tag("summary", f"{len(items) - SHOWN_FINDINGS} more")
        parts.append(tag("details", summary, *items[SHOWN_FINDINGS:], class_="more"))
    if count > len(items):
        parts.append(tag("p", f"Not shown: {count - len(items):,} more.", class_="note"))
    return tag("div", tag("h3", "What is wrong"), *parts, class_="findings")


def _finding(finding: Finding, file: str, graph: Graph | None, *, is_open: bool) -> Markup:
    subject = tag("b", f"{finding.subject}:") if finding.subject else ""
    summary = tag("summary", tag("b", finding.code, class_="badge failed"), " ", subject, " ", finding.message)
    place = f"{file}, line {finding.line}, column {finding.column}" if finding.line and file else ""
    parts = [tag("p", place, class_="note")] if place else []
    if finding.steps:
        parts.append(tag("div", _schedule(finding), _picture(finding, graph), class_="evidence"))
    parts += _repairs(finding)
    return tag("details", summary, *parts, class_="finding", open=is_open)


def _schedule(finding: Finding) -> Markup:
    steps = [tag("li", text, class_="access" if is_access else None) for text, is_access in finding.steps]
    others = finding.steps_left_out
    left_out = f" ({others:,} step{'s' * (others != 1)} of other nodes left out)" if others else ""
    return tag(
        "div",
        tag("h4", "A schedule that nothing prevents", tag("span", left_out)),
        tag("ol", *steps),
        tag("p", tag("b", "missing"), " ", tag("code", finding.missing)),
        tag("p", tag("b", "because"), " ", finding.reason),
        class_="schedule",
    )


def _repairs(finding: Finding) -> Iterator[Markup]:
    proved = tag("span", "✓ then all is proved", class_="badge proved")
    items = [tag("li", sentence, *([" ", proved] if is_proved else [])) for sentence, is_proved in finding.repairs]
    if items:
        yield tag("h4", "Each of these was tried, and repairs it")
        yield tag("ul", *items, class_="repairs")
    elif finding.hint:
        yield tag("p", tag("b", "hint"), " ", finding.hint)


def _picture(finding: Finding, graph: Graph | None) -> Markup:
    """The nodes of the chain, with what leads from one to the next; a red arrow where an order is missing."""
    nodes = tuple(dict.fromkeys(finding.nodes))
    if graph is None or not 1 < len(nodes) <= DRAWN_NODES or not all(node in graph.nodes for node in nodes):
        return join()
    nodes = tuple(sorted(nodes, key=list(graph.nodes).index))
    ends = finding.nodes[0], finding.nodes[-1]
    marks = Marks(faults=frozenset(ends), missing=frozenset() if graph.dependency(*ends) else frozenset({ends}))
    (card,) = make_cards(graph, marks, [Segment("", nodes)])
    card.inner += (Dependency(*pair, DependencyKind.FULL) for pair in marks.missing)
    layout = card_layout(card)
    return tag("div", draw_card(graph, card, marks, layout, (layout.left, layout.right)), class_="scroll")
