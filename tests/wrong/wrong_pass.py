"""What a wrong pass is, and how a function on graphs becomes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from forerun.ir.graph import Graph
from forerun.passes.infra.base import Pass, PassContext

__all__ = ["WRONG_PASSES", "WrongPass", "wrong_pass"]


@dataclass(frozen=True)
class WrongPass:
    """A wrong pass: what is wrong with it, the pass itself, and the law that it must be caught by."""

    name: str
    wrong: str
    law: str
    subject: Pass


WRONG_PASSES: list[WrongPass] = []

Rewrite = Callable[[Graph], Graph]


def wrong_pass(stage: str, law: str, wrong: str) -> Callable[[Rewrite], Rewrite]:
    """Adds a function to the list, as a pass that gets what the real pass of that name gets."""

    def add(rewrite: Rewrite) -> Rewrite:
        def apply(self: Pass, graph: Graph, context: PassContext) -> Graph:
            return rewrite(graph)

        name = rewrite.__name__.replace("_", "-")
        cls = dataclass(frozen=True)(type(name, (Pass,), {"name": stage, "apply": apply, "__module__": __name__}))
        WRONG_PASSES.append(WrongPass(name, wrong, law, cls()))
        return rewrite

    return add
