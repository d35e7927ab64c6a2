"""The report: one self-contained HTML page from the dumps of a pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from forerun.report.dump_files import BENCH_FILE, ITEMS_FILE, SUMMARY_FILE, TIMELINE_FILE
from forerun.support.diagnostics import ForerunError
from forerun.support.files import write_whole

if TYPE_CHECKING:
    from forerun.ir.graph import Graph

__all__ = [
    "BENCH_FILE",
    "ITEMS_FILE",
    "SUMMARY_FILE",
    "TIMELINE_FILE",
    "graph_svg",
    "page_of",
    "reporting",
    "write_report",
]


def write_report(dump_dir: str | Path, output: str | Path | None = None) -> Path:
    """Write the page of a dump folder; it needs nothing but itself, and opens from disk.

    Args:
        dump_dir: A folder that the dump instrument wrote.
        output: Where the page goes; by default ``index.html`` in the folder.

    Returns:
        The page's path.

    Raises:
        InvalidInput: If the folder is not a dump, or the page cannot be written.
    """
    path = Path(output) if output is not None else Path(dump_dir) / "index.html"
    write_whole(path, page_of(dump_dir))
    return path


def page_of(dump_dir: str | Path) -> str:
    """The page of a dump folder, as HTML.

    Raises:
        InvalidInput: If the folder is not a dump.
    """
    from forerun.report.load import load_dump
    from forerun.report.page import render

    return render(load_dump(Path(dump_dir)))


def graph_svg(graph: Graph, title: str | None = None) -> str:
    """The picture of a graph as an SVG file that needs nothing but itself.

    Args:
        graph: What to draw; of repeated layers the first is drawn, and the others are counted.
        title: What stands above it; by default the graph's name.

    Example:
        >>> from forerun.ir.graph import Graph
        >>> graph_svg(Graph("nothing")).startswith("<svg ")
        True
    """
    from forerun.report.standalone import standalone_svg

    return standalone_svg([(graph.name if title is None else title, graph)])


@contextmanager
def reporting(folder: str | Path | None) -> Iterator[None]:
    """Writes the report of what the block dumps to a folder, also if the block fails after the dump began."""
    if folder is None:
        yield
        return
    try:
        yield
    except ForerunError:
        if (Path(folder) / SUMMARY_FILE).exists():
            write_report(folder)
        raise
    write_report(folder)
