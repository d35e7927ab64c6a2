"""Tables and sentences about a run of a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from forerun.report.words import counted, duration, plural
from forerun.support.escaping import visible

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from forerun.measure.node_table import Row
    from forerun.passes.infra.summary import Summary

__all__ = ["pass_details", "pass_table", "promise_sentence", "roofline_table", "time_sentence"]

_STYLES = {
    "proved": "green",
    "verified": "green",
    "refuted": "bold red",
    "failed": "bold red",
    "unsupported": "yellow",
    "unchecked": "yellow",
}


def pass_table(summary: Summary) -> Table:
    """Each pass with its time, nodes, dependencies by kind and verdict; 80 columns are enough for the usual ones."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", justify="right", style="dim")
    table.add_column("pass", overflow="fold")
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("nodes", justify="right", no_wrap=True)
    table.add_column("dependencies", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    given = counted(summary.input_dependencies)
    table.add_row("0", "input", "", f"{summary.input_nodes:,}", given, _verdict(summary.input_verdict))
    for record in summary.passes:
        reached = record.verdict != "failed" or record.nodes
        table.add_row(
            str(record.ordinal),
            visible(record.text),
            duration(record.seconds),
            f"{record.nodes:,}" if reached else "",
            counted(record.dependencies) if reached else "",
            _verdict(record.verdict, record.tolerance),
        )
    return table


def time_sentence(summary: Summary) -> str:
    """How long the pipeline took, and what part of that were checks."""
    checks = summary.verification_seconds
    count = plural(len(summary.passes), "pass", "passes")
    return f"{count} in {duration(summary.seconds)}, of which {duration(checks)} for checking them"


def promise_sentence(summary: Summary) -> str:
    """What the pipeline keeps of results."""
    from forerun.passes.infra.named_pipelines import name_of

    named = name_of(summary.pipeline)
    which = f"pipeline '{named}'" if named else "these passes"
    if not summary.tolerance:
        return f"{which}: every bit of the results stays"
    return f"{which}: results stay within {summary.tolerance:.2g} of the greatest magnitude in their buffer"


def pass_details(summary: Summary) -> list[str]:
    """What each pass counted and remarked, a line each."""
    lines: list[str] = []
    for record in summary.passes:
        which = f"pass {record.ordinal}, {record.name}"
        lines += [f"{which}: {counted(record.statistics, zeros=True)}"] if record.statistics else []
        lines += [f"{which}: {remark}" for remark in record.remarks]
    lines += [f"machine code: {remark}" for remark in summary.remarks]
    return lines


def _verdict(verdict: str, tolerance: float = 0.0) -> Text:
    from rich.text import Text

    within = f" ±{tolerance:g}" if tolerance else ""
    return Text(f"{verdict}{within}", style=_STYLES.get(verdict, ""))


_COLUMNS = ("nodes", "MB", "us", "share", "GB/s", "ceiling", "work", "gap", "early")


def roofline_table(title: str, rows: Sequence[Row], step: Row, ceiling: float) -> Table:
    """A row for each kernel or node, and one for the step; 80 columns are enough for the usual ones.

    ``ceiling`` is the bytes a second that the GPU reads.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(title, overflow="fold")
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(visible(row.label), *_cells(row, step, ceiling))
    table.add_row("step", *_cells(step, step, ceiling), style="bold")
    return table


def _cells(row: Row, step: Row, ceiling: float) -> list[str]:
    """Sums over the nodes up to the share of the ceiling; then what a node has in the mean."""
    return [
        f"{row.nodes:,}",
        f"{row.traffic.total / 1e6:.{2 if row.traffic.total < 1e8 else 0}f}",
        f"{row.share / 1e3:.1f}",
        f"{100 * row.share / step.share:.1f} %" if step.share else "",
        f"{row.bandwidth / 1e9:,.0f}",
        f"{100 * row.bandwidth / ceiling:.0f} %" if ceiling else "",
        *(f"{value / row.nodes / 1e3:.2f}" for value in (row.work, row.gap, row.overlap)),
    ]
