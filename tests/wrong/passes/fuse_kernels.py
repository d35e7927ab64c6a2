"""Wrong passes that fuse, by patches of the right one: each lacks a condition, or has a rule that is not true."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from forerun.ir.fusion import FusionRule
from forerun.ir.graph import Graph
from forerun.kernels.builtin import KERNELS
from forerun.passes import fuse_kernels
from forerun.passes.fusion import legality
from forerun.passes.infra.base import PassContext
from tests.passes.fusion_programs import ADD3, ADD_ADD, COPY_ADD, RULES, SPREAD_ADD, SPREAD_THEN_ADD, rule

__all__ = ["TWINS", "Twin"]


@dataclass(frozen=True)
class Twin:
    """What is replaced in the pass, and the rules that are applied.

    Attributes:
        replaced: Values by name of an object and attribute.
        rules: The rules.
        by_value: Whether only values tell: a rule says of a kernel that it computes what it does not.
    """

    replaced: Mapping[tuple[Any, str], Any] = field(default_factory=dict)
    rules: tuple[FusionRule, ...] = RULES
    by_value: bool = False

    @property
    def has_right_rules(self) -> bool:
        """Whether only the pass is wrong."""
        return self.rules is RULES

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for (owner, name), value in self.replaced.items():
                patch.setattr(owner, name, value)
            yield

    def apply(self, graph: Graph) -> Graph:
        with self.at_work():
            return fuse_kernels.fused(graph, self.rules, PassContext(fuse_kernels.FuseKernels()))


def _without(name: str, rules: tuple[FusionRule, ...] = RULES) -> Twin:
    kept = tuple(test for test in legality._TESTS if test.__name__ != name)
    assert len(kept) == len(legality._TESTS) - 1
    return Twin({(legality, "_TESTS"): kept}, rules)


TWINS = {
    "fuses although the temporary is read elsewhere": _without("_temporaries"),
    "moves over a conflicting access": _without("_between"),
    "writes what it reads": _without("_reuse"),
    "believes that what is handed on is all": _without("_reads"),
    "believes that nobody else needs what it recomputes": Twin({(fuse_kernels, "staying"): lambda *_: set()}),
    "drops an operand": _without("_reads", (rule("add-add", ADD3, *ADD_ADD, c="a"),)),
    "reads what it computes on the way": _without("_reads", (rule("copy-add", KERNELS["add_i32"], *COPY_ADD, b="t"),)),
    "swaps the operands": Twin(rules=(rule("spread-add", SPREAD_ADD, *SPREAD_THEN_ADD, a="b", b="a"),), by_value=True),
    "swaps the results": Twin(rules=(rule("spread-add", SPREAD_ADD, *SPREAD_THEN_ADD, y="w", w="y"),), by_value=True),
}
