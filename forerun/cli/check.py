"""``forerun check``: is a graph valid and free of races, and is a rewrite of it right?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forerun.cli import completion, options
from forerun.cli.console import print_json, print_plain, result_console
from forerun.cli.errors import Status, drawing, guarded
from forerun.cli.files import STANDARD, imported_capture, is_capture, is_dot, load_modules, read_graph, refuse_dot
from forerun.cli.options import refuse_unused
from forerun.cli.progress import progress
from forerun.report.words import counted, plural

if TYPE_CHECKING:
    from rich.text import Text

    from forerun.ir.explain import Explanation
    from forerun.ir.graph import Graph
    from forerun.ir.semantics import Verdict
    from forerun.ir.text import SourceMap
    from forerun.support.diagnostics import Diagnostic

__all__ = ["check"]

SHOWN_FINDINGS = 10
SHOWN_ADVICE = 3
EXPLAINED_FINDINGS = 20
"""How many findings get a schedule and repairs in JSON; each repair that is tried checks the whole graph again."""

_STATUS = {"proved": Status.OK, "refuted": Status.REFUTED, "unsupported": Status.UNSUPPORTED}
_MEANING = {
    "proved": "every conflict is ordered, and every node ends before the graph does",
    "refuted": "some conflict is not ordered, or some node may outlive the graph",
    "unsupported": "it rests on facts that are not known exactly",
}
_REWRITE = {
    "proved": "every result of the second graph is one that the first allows",
    "refuted": "the second graph may give what the first does not",
    "unsupported": "it cannot be shown that the second graph gives only what the first does",
}


@guarded
def check(
    ctx: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A graph (.fir), the folder of a captured one, or its DOT file; '-' is standard input.",
            autocompletion=completion.graphs,
        ),
    ],
    after: Annotated[
        str | None,
        typer.Argument(
            metavar="AFTER", help="What passes made of it: check the rewrite, too.", autocompletion=completion.graphs
        ),
    ] = None,
    sched: Annotated[
        bool, typer.Option("--sched/--strict", help="Trust the order of starts after triggers (the assumption H6).")
    ] = False,
    assumption: Annotated[
        list[str] | None, typer.Option("--assume", metavar="RULE", help="Trust an opt-in rule: H6 or H8. Repeatable.")
    ] = None,
    litmus: Annotated[
        str | None,
        typer.Option("--litmus", metavar="FILE", help="Trust what this GPU has kept, as 'forerun litmus' recorded."),
    ] = None,
    load: options.Load = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> Status:
    """Decide whether a graph is free of races, or a rewrite right.

    With one file: whether the graph is valid and free of races. With two: whether the second may replace the first.

    Exit status 0 means proved, 1 refuted, 2 invalid, 3 unsupported (neither proved nor refuted).
    """
    from forerun.support.diagnostics import InvalidInput

    assumptions = _assumptions(assumption or (), litmus, sched=sched)
    if file == after == STANDARD:
        raise InvalidInput("standard input cannot be both graphs", hint="name a file for one of them")
    if after is None:
        refuse_unused(ctx, ("load",), "it is for fusion rules of your own, which a second graph may rest on")
    else:
        refuse_dot(file, after)
    load_modules(load or ())
    shown = None if verbose else EXPLAINED_FINDINGS if as_json else SHOWN_FINDINGS
    with progress("checking", shown=not as_json):
        checked = _checked(file, after, assumptions, shown, verbose=verbose)
    status = _STATUS[checked.verdict.status]
    if as_json:
        print_json(_record(checked), checked.verdict.status, status)
        return status
    _print_meaning(checked.verdict, (_MEANING if after is None else _REWRITE)[checked.verdict.status])
    _print_findings(checked.source, checked.found, None if verbose else SHOWN_FINDINGS, checked.verdict.count)
    _print_counts(checked.graph, assumptions)
    _print_advice(checked.advice, checked.source, verbose=verbose)
    _print_trust(checked.fused)
    return status


@dataclass(frozen=True, slots=True)
class _Checked:
    """What was found.

    Attributes:
        graph: The graph, or what passes made of it.
        source: Where its elements stand in its text.
        assumptions: The opt-in rules that were trusted.
        verdict: On the graph, or on the rewrite.
        found: The findings that are explained, which may be fewer than the verdict counts.
        fused: The fused nodes, each with whether a known fusion rule states what it computes.
        advice: Notes on a captured graph.
    """

    graph: Graph
    source: SourceMap
    assumptions: frozenset[str]
    verdict: Verdict
    found: list[Explanation]
    fused: Mapping[str, bool]
    advice: list[Diagnostic]


def _assumptions(named: Iterable[str], litmus: str | None, *, sched: bool) -> frozenset[str]:
    """The opt-in rules to trust: those that are named, and those that a file of litmus tests supports."""
    from forerun.ir.semantics.order import require_assumptions

    trusted = [*named, *(["H6"] if sched else [])]
    if litmus is not None:
        from forerun.runtime.litmus import assumptions_from

        trusted += assumptions_from(litmus)
    return require_assumptions(trusted)


def _checked(
    file: str, after: str | None, assumptions: frozenset[str], shown: int | None, *, verbose: bool
) -> _Checked:
    """Read and decide; at most ``shown`` findings are explained (``None``: all)."""
    from forerun.frontends.captured_advice import of_structure
    from forerun.ir.explain import explain
    from forerun.ir.semantics import check as check_meaning

    fused: dict[str, bool] = {}
    graph, source = _read(file, verbose=verbose)
    if is_dot(file):
        verdict = of_structure(graph)
    elif after is None:
        verdict = check_meaning(graph, assumptions)
    else:
        from forerun.ir.refinement.certificate import certify
        from forerun.passes.fusion.stated import stated

        before, (graph, source) = graph, _read(after, verbose=verbose)
        fused = dict(stated(before, graph))
        verdict = _resting_on_rules(certify(before, graph, assumptions), fused)
    found = explain(graph, verdict, assumptions, shown)
    return _Checked(graph, source, assumptions, verdict, found, fused, _advice(file, after, graph))


def _advice(file: str, after: str | None, graph: Graph) -> list[Diagnostic]:
    """Notes on the folder or DOT file of a captured graph; there are none on others."""
    from forerun.frontends.captured_advice import advice, advice_of_structure

    if after is None and is_capture(file):
        return [*advice(graph), *_advice_of_copies(file)]
    if after is not None and is_capture(file) and is_capture(after):
        return _changed_sources(file, after)
    return list(advice_of_structure(graph)) if is_dot(file) else []


def _record(checked: _Checked) -> dict[str, Any]:
    """What ``--json`` prints."""
    record = {
        "graph": checked.graph.name,
        "nodes": len(checked.graph),
        "dependencies": checked.graph.count_dependencies(),
        "assumptions": sorted(checked.assumptions),
        "fused": list(checked.fused),
        "count": checked.verdict.count,
        "findings": [explanation.to_json(checked.source) for explanation in checked.found],
    }
    if checked.advice:
        record["advice"] = [{"code": d.code, "message": d.message, "where": d.location.name} for d in checked.advice]
    return record


def _print_trust(fused: Mapping[str, bool]) -> None:
    """Say what is not proved, but taken from fusion rules."""
    if fused and all(fused.values()):
        whose = plural(len(fused), "fused node")
        print_plain(result_console(), f"taken on trust, as fusion rules state it: what the kernels of {whose} compute")


def _advice_of_copies(folder: str) -> list[Diagnostic]:
    """What a captured graph's copies from the host bring, and whether their sources changed."""
    from forerun.captured import load_capture
    from forerun.external.source_advice import advice_of_copies

    return list(advice_of_copies(imported_capture(folder))) if load_capture(folder).host_sources else []


def _changed_sources(first: str, second: str) -> list[Diagnostic]:
    """The copies from the host that bring something else in the second of two captured graphs."""
    from forerun.captured import load_capture
    from forerun.external.source_advice import changed_between

    before = load_capture(first)
    return list(changed_between(before, imported_capture(second))) if before.host_sources else []


def _print_advice(found: list[Diagnostic], source: SourceMap, *, verbose: bool) -> None:
    """Notes on waits, triggers and programmatic dependencies, the first few of each kind."""
    from forerun.ir.text import draw

    for code in dict.fromkeys(one.code for one in found):
        alike = [one for one in found if one.code == code]
        shown = alike if verbose else alike[:SHOWN_ADVICE]
        print_plain(result_console(), "", *draw(shown, source).splitlines())
        if len(alike) > len(shown):
            print_plain(result_console(), f"... and {len(alike) - len(shown):,} more of {code}; -v shows all")


def _resting_on_rules(verdict: Verdict, fused: Mapping[str, bool]) -> Verdict:
    """The verdict, where no graph's text is believed: what a fused node computes must be what a known rule states."""
    from forerun.support.diagnostics import Diagnostic, Location, Severity

    message = "no known fusion rule states that it computes what the nodes compute that it stands for"
    hint = "--load the module that declares the rule"
    unknown = [
        Diagnostic("C15", message, Location("node", name), hint, Severity.WARNING) for name in fused if not fused[name]
    ]
    if not unknown:
        return verdict
    status = "unsupported" if verdict.proved else verdict.status
    return replace(verdict, status=status, findings=(*verdict.findings, *unknown))


def _read(file: str, *, verbose: bool) -> tuple[Graph, SourceMap]:
    """A valid graph, and where its elements stand in its text."""
    from forerun.ir.verify import require_valid

    graph, source = read_graph(file, verbose=verbose)
    with drawing(source, verbose=verbose):
        require_valid(graph)
    return graph, source


def _print_meaning(verdict: Verdict, meaning: str) -> None:
    from rich.text import Text

    style = {"proved": "bold green", "refuted": "bold red"}.get(verdict.status, "bold yellow")
    print_plain(result_console(), Text.assemble((verdict.status, style), f": {meaning}"))


def _print_counts(graph: Graph, assumptions: frozenset[str]) -> None:
    counts = counted(graph.count_dependencies())
    trusted = f"; assumptions: {', '.join(sorted(assumptions))}" if assumptions else ""
    print_plain(result_console(), f"graph {graph.name}: {plural(len(graph), 'node')}; dependencies: {counts}{trusted}")


def _print_findings(source: SourceMap, found: list[Explanation], shown: int | None, count: int) -> None:
    """Draw findings in the text of the graph, each with its schedule and repairs, and count those left out.

    Of ``count`` findings, of which some may be known by nothing but their number, ``shown`` are drawn (``None``: all).
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
