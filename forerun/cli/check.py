"""``forerun check``: is a graph valid, and free of races?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from forerun.cli.boundary import diagnostics_as_json, drawing, guarded
from forerun.cli.console import print_json, print_plain, result_console
from forerun.cli.files import read_graph
from forerun.cli.options import JsonOption, VerboseOption
from forerun.cli.status import Status
from forerun.report.words import counted

if TYPE_CHECKING:
    from forerun.ir.graph import Graph
    from forerun.ir.semantics import Verdict

__all__ = ["check"]

SHOWN_FINDINGS = 10

_STATUS = {"proved": Status.OK, "refuted": Status.REFUTED, "unsupported": Status.UNSUPPORTED}
_MEANING = {
    "proved": "every conflict is ordered, and every node ends before the graph does",
    "refuted": "some conflict is not ordered, or some node may outlive the graph",
    "unsupported": "it rests on facts that are not known exactly",
}


@guarded
def check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A graph (.fir); '-' is standard input.")],
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> Status:
    """Decide whether a graph is valid and free of races.

    Exit status 0 means proved, 1 refuted, 2 invalid, 3 unsupported (neither proved nor refuted).
    """
    from forerun.ir.semantics import check as check_meaning
    from forerun.ir.verify import require_valid

    graph, text = read_graph(file)
    with drawing(text):
        require_valid(graph)
    verdict = check_meaning(graph)
    status = _STATUS[verdict.status]
    if as_json:
        print_json(
            {
                "status": verdict.status,
                "exit_status": int(status),
                "graph": graph.name,
                "nodes": len(graph),
                "dependencies": graph.count_dependencies(),
                "findings": diagnostics_as_json(verdict.findings),
            }
        )
    else:
        _print_verdict(graph, text, verdict, None if verbose else SHOWN_FINDINGS)
    return status


def _print_verdict(graph: Graph, text: str, verdict: Verdict, limit: int | None) -> None:
    from rich.text import Text

    from forerun.ir.text import draw

    console = result_console()
    style = {"proved": "bold green", "refuted": "bold red"}.get(verdict.status, "bold yellow")
    print_plain(console, Text.assemble((verdict.status, style), f": {_MEANING[verdict.status]}"))
    shown = verdict.findings[:limit]
    if shown:
        print_plain(console, draw(shown, text).rstrip("\n"))
    if len(verdict.findings) > len(shown):
        print_plain(console, f"... and {len(verdict.findings) - len(shown)} more; -v shows all")
    counts = counted(graph.count_dependencies())
    print_plain(console, f"graph {graph.name}: {len(graph):,} nodes; dependencies: {counts}")
