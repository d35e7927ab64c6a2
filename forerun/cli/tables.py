"""Tables and sentences about a run of a pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forerun.report.words import counted, duration
from forerun.support.escaping import visible

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from forerun.passes.infra.summary import Summary

__all__ = ["pass_details", "pass_table", "time_sentence"]

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
    return f"{len(summary.passes)} passes in {duration(summary.seconds)}, of which {duration(checks)} for checking them"


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
