"""Passes that go wrong, for ``--load``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from forerun.ir.graph import Graph
from forerun.passes.infra.base import Pass, PassContext
from forerun.passes.infra.registry import register


@register
@dataclass(frozen=True)
class CutEverything(Pass):
    """Removes all dependencies, one after the other."""

    name: ClassVar[str] = "cut-everything"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        edit = graph.edit()
        for dependency in graph.dependencies:
            if context.should_apply():
                edit.remove_dependency(*dependency.pair)
        return edit.commit()


@register
@dataclass(frozen=True)
class Crash(Pass):
    """Divides by zero."""

    name: ClassVar[str] = "crash"

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        raise ZeroDivisionError("on purpose")
