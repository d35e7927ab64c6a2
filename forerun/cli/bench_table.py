"""The tables of ``forerun bench``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from forerun.support.escaping import visible

if TYPE_CHECKING:
    from rich.table import Table

    from forerun.measure.roofline import Row

__all__ = ["roofline_table"]

_COLUMNS = ("nodes", "MB", "us", "share", "GB/s", "ceiling", "work", "gap", "early")


def roofline_table(title: str, rows: Sequence[Row], step: Row, ceiling: float) -> Table:
    """A row for each kernel or node, and one for the step; 80 columns are enough for the usual ones.

    Args:
        title: What the rows are.
        rows: In the order in which they are shown.
        step: Their sum.
        ceiling: Bytes a second that the GPU reads.
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
