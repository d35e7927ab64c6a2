"""Invariants of constants that have names: whoever runs the graph may give them other values."""

from __future__ import annotations

from collections.abc import Iterator

from forerun.ir.graph import Graph
from forerun.ir.nodes import ConstantArgument
from forerun.ir.parameters import named_uses
from forerun.ir.types import DType
from forerun.support.diagnostics import Diagnostic, Location

__all__ = ["check"]


def check(graph: Graph) -> Iterator[Diagnostic]:
    """Yield violations of N17."""
    first: dict[str, tuple[ConstantArgument, DType]] = {}
    for use in named_uses(graph):
        kernel = graph.kernels.get(use.kernel)
        parameter = None if kernel is None else kernel.parameter(use.parameter)
        if kernel is None or parameter is None:
            continue  # N1 or N2
        at = Location("node", use.path, detail=use.parameter)
        name = use.argument.name
        known, dtype = first.setdefault(name, (use.argument, parameter.dtype))
        if (known, dtype) != (use.argument, parameter.dtype):
            here = f"{use.argument.value} ({parameter.dtype})"
            yield Diagnostic("N17", f"'{name}' is {here} here, and {known.value} ({dtype}) elsewhere", at)
        if use.parameter in kernel.region_symbols:
            hint = "load it from a buffer with bounds, or give the constant no name"
            yield Diagnostic("N17", f"'{name}' may change, but a region of '{kernel.name}' depends on it", at, hint)
