"""Analyses of a graph: computed once, and kept across edits that touch nothing they depend on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar, cast

if TYPE_CHECKING:
    from forerun.ir.delta import Delta
    from forerun.ir.graph import Graph

__all__ = ["TABLES", "Analysis", "carry_over"]

_Result = TypeVar("_Result")

TABLES = ("allocations", "buffers", "kernels")


class Analysis(Generic[_Result]):
    """A pure function of some parts of a graph.

    Args:
        depends: The parts it reads: names of fields of :class:`forerun.ir.delta.Delta`.
        compute: The function. It must not read any other part, nor change the graph.
    """

    def __init__(self, depends: set[str], compute: Callable[[Graph], _Result]) -> None:
        self.depends = frozenset(depends)
        self._is_of_tables = self.depends.issubset(TABLES)
        self.compute = compute

    def __call__(self, graph: Graph) -> _Result:
        """The result for a graph, computed on the first call."""
        if self not in graph.cache:
            owner = graph.owner_of_tables if self._is_of_tables else None
            graph.cache[self] = self.compute(graph) if owner is None else self(owner)
        return cast(_Result, graph.cache[self])

    def keep(self, graph: Graph, result: _Result) -> None:
        """Store the result for a graph, where it is known without computing it."""
        graph.cache[self] = result


def carry_over(base: Graph, delta: Delta, result: Graph) -> None:
    """Give an edited graph those analyses of its base that the edit cannot have changed."""
    changed = delta.parts
    for analysis, value in base.cache.items():
        if not analysis.depends & changed:
            result.cache[analysis] = value
