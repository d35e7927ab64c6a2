"""What a wrong pass is, how a function on graphs becomes one, and what several of them do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from forerun.ir.graph import Dependency, Graph
from forerun.ir.nodes import KernelNode
from forerun.ir.types import DependencyKind
from forerun.passes.infra.base import Pass, PassContext
from forerun.passes.infra.registry import get

__all__ = ["WRONG_PASSES", "WrongPass", "both_are_kernels", "reduced", "weakened_where", "wrong_pass"]


@dataclass(frozen=True)
class WrongPass:
    """A wrong pass: what is wrong with it, the pass itself, and the law that it must be caught by."""

    name: str
    wrong: str
    law: str
    subject: Pass


WRONG_PASSES: list[WrongPass] = []

Rewrite = Callable[[Graph], Graph]


def wrong_pass(law: str, wrong: str) -> Callable[[Rewrite], type[Pass]]:
    """Makes a function a pass that takes the place of the real one that its module is named for, and lists it.

    Args:
        law: What the laws say about it first, on some graph: ``race`` of ``race: ...``.
        wrong: What it believes that is not so.
    """

    def add(rewrite: Rewrite) -> type[Pass]:
        def apply(self: Pass, graph: Graph, context: PassContext) -> Graph:
            return rewrite(graph)

        stage = rewrite.__module__.rpartition(".")[2].replace("_", "-")
        members = {"name": stage, "changes": get(stage).changes, "apply": apply, "__doc__": wrong}
        members |= {"__module__": rewrite.__module__, "__qualname__": rewrite.__qualname__}
        cls = dataclass(frozen=True)(type(rewrite.__name__, (Pass,), members))
        WRONG_PASSES.append(WrongPass(rewrite.__name__.replace("_", "-"), wrong, law, cls()))
        return cls

    return add


def weakened_where(graph: Graph, kind: DependencyKind, where: Callable[[Graph, Dependency], bool]) -> Graph:
    """The graph with some dependencies of another kind."""
    edit = graph.edit()
    for d in graph.dependencies:
        if where(graph, d):
            edit.set_dependency(replace(d, kind=kind))
    return edit.commit()


def reduced(graph: Graph, implied: Callable[[Dependency], bool]) -> Graph:
    """The graph without some dependencies."""
    edit = graph.edit()
    for d in graph.dependencies:
        if implied(d):
            edit.remove_dependency(*d.pair)
    return edit.commit()


def both_are_kernels(graph: Graph, d: Dependency) -> bool:
    """Whether a dependency is between kernel nodes."""
    return all(isinstance(graph.nodes[name], KernelNode) for name in d.pair)
