"""``fuse-persistent``: launches over the parts of a ragged batch become one persistent kernel over a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from forerun.ir.graph import Graph
from forerun.ir.grouping import GroupRule, GroupSettings, group_rules
from forerun.passes.grouping.candidates import candidates
from forerun.passes.grouping.splice import Splicer
from forerun.passes.infra.base import Pass, PassContext, option
from forerun.passes.infra.registry import register
from forerun.schedules.cuts import Invariant
from forerun.support.diagnostics import InvalidInput, Location

__all__ = ["FusePersistent", "made_persistent"]


@register
@dataclass(frozen=True)
class FusePersistent(Pass):
    """Replaces launches over the parts of a batch by a node that makes a schedule and one kernel that works it off.

    The launches write disjoint rows, those of consecutive requests, and differ in nothing else. One schedule serves all
    groups (layers) over the same batch, as long as nobody writes the batch in between. What may be replaced is said by
    group rules, which are declared beside the kernels. Of a batch that the schedule finds bad nothing is run: its
    status says why (docs/schedules.md). Bodies of conditionals are left alone.

    Runs first: on launch order, when all dependencies are full. Results may differ within the rules' tolerances, since
    sums are cut where the schedule cuts the work.
    """

    name: ClassVar[str] = "fuse-persistent"
    keeps_bits: ClassVar[bool] = False
    changes: ClassVar[frozenset[str]] = frozenset({"dependencies", "memory", "nodes"})
    statistics: ClassVar[Mapping[str, str]] = {
        "groups_fused": "groups of launches that became one",
        "nodes_removed": "launches that are gone for it",
        "schedules": "nodes that make a schedule",
        "groups_kept": "groups that stay as they are",
    }

    policy: Literal["prefix-sums", "longest-first", "round-robin"] = option(
        "prefix-sums", help="which CTA takes which items of work"
    )
    cuts: Literal["shares", "whole", "invariant"] = option(
        "shares", help="where work is cut: at the shares of CTAs, nowhere, or so that bits do not depend on the batch"
    )
    chunk: int = option(Invariant().chunk, help="positions of a piece, for cuts=invariant")
    ctas: int = option(132, help="CTAs of the persistent kernel, as many as the GPU has SMs; 0: not known")

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InvalidInput: If one is out of range.
        """
        super().__post_init__()
        for name, most in (("chunk", 2**31 - 1), ("ctas", 1024)):
            if not 0 <= getattr(self, name) <= most:
                raise InvalidInput(f"pass '{self.name}': {name} is from 0 to {most}, not {getattr(self, name)}")

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        """The graph with groups as one node each."""
        return made_persistent(graph, group_rules(), self.settings(), context)

    def settings(self) -> GroupSettings:
        """The options, as rules take them."""
        return GroupSettings(self.policy, self.cuts, self.chunk, self.ctas)


def made_persistent(
    graph: Graph, rules: Mapping[str, GroupRule], settings: GroupSettings, context: PassContext
) -> Graph:
    """The graph with some rules applied, whether they are registered or not."""
    found, refused = candidates(graph, rules.values(), settings)
    splicer = Splicer(graph)
    for candidate in found:
        if context.should_apply(candidate.rule.name):
            splicer.replace(candidate)
            context.count("groups_fused")
            context.observe("nodes_removed", len(candidate.names))
            context.tolerate(candidate.rule.tolerance)
    context.observe("schedules", splicer.preparations)
    for group, reason in refused:
        context.observe("groups_kept")
        context.remark(f"is not made persistent: {reason}", Location("node", group.nodes[-1].name))
    return splicer.commit()
