"""Findings explained: each with a schedule that shows it, and repairs that were tried."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from forerun.ir.explain.repair import Repair, drain_repairs, repairs
from forerun.ir.explain.witness import Witness, drain_witness, witness
from forerun.ir.graph import Graph
from forerun.ir.semantics.races import Race, Undrained, Verdict
from forerun.support.diagnostics import Diagnostic
from forerun.support.escaping import visible

__all__ = ["MAX_EXPLAINED", "Explanation", "explain"]

MAX_EXPLAINED = 100
"""How many findings of a verdict get a schedule and repairs if nothing else is asked for."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A finding with what explains it; bare for one that is neither a race nor an undrained node."""

    finding: Diagnostic
    race: Race | None = None
    witness: Witness | None = None
    repairs: tuple[Repair, ...] = ()

    def lines(self) -> Iterator[str]:
        """The text that goes under the drawn finding: the schedule, and the repairs; nothing if it is bare."""
        if self.witness is not None:
            yield from (f"  {line}" for line in self.witness.lines())
        if self.repairs:
            yield "  each of these was tried, and repairs it:"
        for number, repair in enumerate(self.repairs, 1):
            yield f"    {number}. {visible(repair.sentence)}" + (" (then all is proved)" if repair.proved else "")


def explain(
    graph: Graph, verdict: Verdict, assumptions: Iterable[str] = frozenset(), limit: int | None = None
) -> list[Explanation]:
    """The findings that a verdict holds, the first of them explained; each repair checks the whole graph again.

    Args:
        graph: The graph that was checked, or the one after a rewrite that was certified.
        verdict: The verdict on it, under the same assumptions.
        assumptions: Opt-in rules.
        limit: How many are explained; ``None`` is :data:`MAX_EXPLAINED`.
    """
    limit = MAX_EXPLAINED if limit is None else limit
    subjects: list[Race | Undrained] = [*verdict.races, *verdict.outliving]
    bare = len(verdict.findings) - len(subjects)  # a certificate's own findings come first
    found = [Explanation(finding) for finding in verdict.findings[:bare]]
    for number, (finding, subject) in enumerate(zip(verdict.findings[bare:], subjects, strict=True), bare):
        race = subject if isinstance(subject, Race) else None
        if number >= limit:
            found.append(Explanation(finding, race))
        elif isinstance(subject, Race):
            how = witness(graph, subject, assumptions), repairs(graph, subject, assumptions)
            found.append(Explanation(finding, subject, *how))
        else:
            at = subject.node, assumptions
            schedule = drain_witness(graph, *at, body=subject.body)
            found.append(Explanation(finding, None, schedule, drain_repairs(graph, *at, body=subject.body)))
    return found
