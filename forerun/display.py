"""What graphs and summaries look like when they are printed, and in notebooks. Printers load when they are needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from forerun.support.display import register_display

if TYPE_CHECKING:
    from forerun.ir.graph import Graph
    from forerun.passes.infra.summary import Summary

__all__ = ["register_displays"]

_DRAWN_WHOLE = 200
"""Nodes that a picture in one piece has at most."""
_WIDTH = 100


def register_displays() -> None:
    """Make :class:`~forerun.ir.graph.Graph` and :class:`~forerun.passes.infra.summary.Summary` show themselves."""
    for function in (_graph_text, _graph_save, _graph_svg, _graph_html, _summary_text, _summary_html):
        register_display(function.__name__[1:].replace("_", "."), function)


def _graph_text(graph: Graph) -> str:
    from forerun.ir.text.printer import print_shortened

    return print_shortened(graph).rstrip("\n")


def _graph_save(graph: Graph, path: str | Path) -> Path:
    from forerun.ir.files import save

    return save(graph, path)


def _graph_svg(graph: Graph) -> str | None:
    if not 0 < len(graph) <= _DRAWN_WHOLE:
        return None
    from forerun.report.standalone import standalone_svg

    return standalone_svg([(graph.name, graph)])


def _graph_html(graph: Graph) -> str:
    from forerun.report.standalone import graph_frame

    return graph_frame(graph)


def _summary_text(summary: Summary) -> str:
    from io import StringIO

    from rich.console import Console

    from forerun.cli.tables import pass_table, time_sentence

    console = Console(file=StringIO(), width=_WIDTH, color_system=None, force_jupyter=False)
    with console.capture() as capture:
        console.print(pass_table(summary))
    return f"{capture.get()}{time_sentence(summary)}"


def _summary_html(summary: Summary) -> str:
    from forerun.cli.tables import pass_table, time_sentence
    from forerun.report.markup import tag

    columns: list[Any] = pass_table(summary).columns
    head = tag("tr", *(tag("th", str(column.header)) for column in columns))
    rows = zip(*(column.cells for column in columns), strict=True)
    body = [tag("tr", *(tag("td", str(cell)) for cell in row)) for row in rows]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), tag("p", time_sentence(summary)))
