"""The textual form of the IR: printed, parsed, drawn with diagnostics, and compared. See docs/text-format.md."""

from __future__ import annotations

from forerun.ir.text.diff import diff_graphs
from forerun.ir.text.draw import draw
from forerun.ir.text.parser import parse_graph, parse_graph_with_locations
from forerun.ir.text.printer import print_graph, print_kernel, print_node
from forerun.ir.text.source import SourceMap, locate

__all__ = [
    "SourceMap",
    "diff_graphs",
    "draw",
    "locate",
    "parse_graph",
    "parse_graph_with_locations",
    "print_graph",
    "print_kernel",
    "print_node",
]
