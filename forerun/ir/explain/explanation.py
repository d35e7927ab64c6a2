"""Findings explained: each with a schedule that shows it, and repairs that were tried."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from forerun.ir.explain.repair import Repair, drain_repairs, repairs
from forerun.ir.explain.witness import Witness, drain_witness, witness
from forerun.ir.graph import Graph
from forerun.ir.semantics.access import NodeAccess
from forerun.ir.semantics.races import Race, Undrained, Verdict
from forerun.ir.text import SourceMap, place_in
from forerun.ir.walk import BodyPath
from forerun.support.diagnostics import Diagnostic, Location
from forerun.support.escaping import visible

__all__ = ["MAX_EXPLAINED", "Explanation", "explain"]

MAX_EXPLAINED = 100
"""How many findings of a verdict get a schedule and repairs if nothing else is asked for."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A finding with what explains it; bare for one that is neither a race nor an undrained node.

    Attributes:
        witness: A schedule that shows it.
        repairs: Changes that were tried, and repair it.
        body: The nested graph that the nodes are in; empty for the graph itself.
    """

    finding: Diagnostic
    race: Race | None = None
    witness: Witness | None = None
    repairs: tuple[Repair, ...] = ()
    body: BodyPath = ()

    @property
    def nodes(self) -> tuple[str, ...]:
        """Full names of the nodes that it is about, in the order of the chain: ``loop/copy`` for a node in a body."""
        if self.witness is None and self.race is None:
            return (self.finding.location.name,) if self.finding.location.kind == "node" else ()
        ends = (self.race.earlier.node, self.race.later.node) if self.race is not None else ()
        names = ends if self.witness is None else self.witness.nodes
        return tuple("/".join([*(owner for owner, _ in self.body), name]) for name in names)

    def to_json(self, source: SourceMap | None = None) -> dict[str, Any]:
        """The finding as docs/cli.md describes it; without the text that lines and columns are of, they are 0."""
        finding, places = self.finding, []
        if source is not None:
            finding = replace(finding, location=place_in(source, finding.location))
            places = [place_in(source, Location("node", node)) for node in self.nodes]
        return {
            **finding.to_json(),
            "nodes": list(self.nodes),
            "places": [{"node": place.name, "line": place.line, "column": place.column} for place in places],
            "race": None if self.race is None else _race(self.race),
            "witness": None if self.witness is None else _witness(self.witness),
            "repairs": [{"sentence": repair.sentence, "proved": repair.proved} for repair in self.repairs],
        }

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

    The verdict, under the same assumptions, is on the graph, or on the rewrite that made it. Without a limit
    :data:`MAX_EXPLAINED` are explained.
    """
    limit = MAX_EXPLAINED if limit is None else limit
    subjects: list[Race | Undrained] = [*verdict.races, *verdict.outliving]
    bare = len(verdict.findings) - len(subjects)  # a certificate's own findings come first
    found = [Explanation(finding) for finding in verdict.findings[:bare]]
    for number, (finding, subject) in enumerate(zip(verdict.findings[bare:], subjects, strict=True), bare):
        race = subject if isinstance(subject, Race) else None
        if number >= limit:
            found.append(Explanation(finding, race, body=subject.body))
        elif isinstance(subject, Race):
            how = witness(graph, subject, assumptions), repairs(graph, subject, assumptions)
            found.append(Explanation(finding, subject, *how, subject.body))
        else:
            at = subject.node, assumptions
            schedule = drain_witness(graph, *at, body=subject.body)
            tried = drain_repairs(graph, *at, body=subject.body)
            found.append(Explanation(finding, None, schedule, tried, subject.body))
    return found


# For machines


def _race(race: Race) -> dict[str, Any]:
    return {
        "kind": race.kind,
        "certain": race.certain,
        "missing": race.missing,
        "earlier": _access(race.earlier),
        "later": _access(race.later),
    }


def _access(access: NodeAccess) -> dict[str, Any]:
    return {
        "node": access.node,
        "phase": access.phase,
        "write": access.write,
        "before_wait": access.early,
        "buffer": access.buffer,
        "allocation": access.allocation,
        "bytes": str(access.bytes),
    }


def _witness(witness: Witness) -> dict[str, Any]:
    return {
        "steps": [
            {"node": step.node, "event": step.event or "access", "text": str(step)}
            | ({} if step.access is None else {"access": _access(step.access)})
            for step in witness.steps
        ],
        "steps_left_out": len(witness.schedule) - len(witness.steps),
        "chain": [{"source": d.source, "target": d.target, "kind": str(d.kind)} for d in witness.chain],
        "missing": witness.missing,
        "reason": witness.reason,
    }
