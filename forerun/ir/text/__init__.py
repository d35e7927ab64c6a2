"""The textual form of the IR: printed, parsed, drawn with diagnostics, and compared. See docs/text-format.md.

What parses and compares loads on first use: compiling a graph only prints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forerun.ir.text.printer import print_graph, print_kernel, print_node
from forerun.support.lazy import lazy_exports

if TYPE_CHECKING:
    from forerun.ir.text.diff import diff_graphs
    from forerun.ir.text.drawing import draw, place_in
    from forerun.ir.text.parser import parse_graph, parse_graph_with_locations
    from forerun.ir.text.source import SourceMap, locate

__all__ = [
    "SourceMap",
    "diff_graphs",
    "draw",
    "locate",
    "parse_graph",
    "parse_graph_with_locations",
    "place_in",
    "print_graph",
    "print_kernel",
    "print_node",
]

_LAZY = {
    "SourceMap": "forerun.ir.text.source",
    "diff_graphs": "forerun.ir.text.diff",
    "draw": "forerun.ir.text.drawing",
    "locate": "forerun.ir.text.source",
    "parse_graph": "forerun.ir.text.parser",
    "parse_graph_with_locations": "forerun.ir.text.parser",
    "place_in": "forerun.ir.text.drawing",
}

__getattr__ = lazy_exports(__name__, _LAZY)
