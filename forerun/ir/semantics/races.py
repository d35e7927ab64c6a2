"""The race check: is every conflict ordered, and does every node finish before the graph does?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from forerun.ir.analysis import Analysis
from forerun.ir.graph import Graph
from forerun.ir.semantics.access import NodeAccess, accesses, with_tables
from forerun.ir.semantics.alike import Reached
from forerun.ir.semantics.hazards import Clash, Conflict, conflicts, is_certain
from forerun.ir.semantics.order import EventOrder, order_under, require_assumptions
from forerun.ir.walk import BodyPath, bodies_of
from forerun.support.diagnostics import Diagnostic, Location

__all__ = ["MAX_RACES", "Race", "Undrained", "Verdict", "are_all_ordered", "check", "is_ordered", "open_clashes"]

MAX_RACES = 1000
"""How many races of a graph are kept; all are counted."""

MAX_TRIED = 2000
"""For how many kinds of races beyond those values of loaded scalars are looked for that make them certain."""


@dataclass(frozen=True, slots=True)
class Race:
    """Two conflicting accesses that may be performed in either order; ``earlier`` comes first in launch order.

    Attributes:
        missing: The order of events that would prevent it: ``C_a -> S_b``.
        certain: Whether both accesses are known to happen, and to touch these bytes.
        body: The nested graph that the nodes are in; empty for the graph itself.
    """

    earlier: NodeAccess
    later: NodeAccess
    missing: str
    certain: bool = True
    body: BodyPath = ()

    @property
    def kind(self) -> str:
        """``RAW``, ``WAR`` or ``WAW``."""
        return Conflict(self.earlier, self.later).kind


@dataclass(frozen=True, slots=True)
class Undrained:
    """A node that may outlive the graph; ``body`` is the nested graph that it is in, empty for the graph itself."""

    node: str
    body: BodyPath = ()

    @property
    def full_name(self) -> str:
        """The name after those of the nodes around it: ``loop/copy``."""
        return _full_name(self.body, self.node)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checker found.

    Attributes:
        status: ``proved`` (race-free and drained), ``refuted`` (some findings are certain), or ``unsupported`` (all
            findings rest on facts that are not known exactly, such as a black box's accesses).
        findings: One for each race of ``races``, in launch order, then one for each undrained node.
        races: The races; of several accesses that a write in between covers, only the nearest. Where there are more
            than :data:`MAX_RACES`, the first of them, and the first that is certain.
        outliving: The nodes that may outlive the graph.
        left_out: How many races were counted, but are not in ``races``.
    """

    status: str
    findings: tuple[Diagnostic, ...] = ()
    races: tuple[Race, ...] = ()
    outliving: tuple[Undrained, ...] = ()
    left_out: int = 0

    @property
    def count(self) -> int:
        """How many findings there are, those included that are left out."""
        return len(self.findings) + self.left_out

    @property
    def proved(self) -> bool:
        """Whether nothing is left open."""
        return self.status == "proved"

    @property
    def undrained(self) -> tuple[str, ...]:
        """The full names of the nodes that may outlive the graph."""
        return tuple(found.full_name for found in self.outliving)


def check(graph: Graph, assumptions: Iterable[str] = frozenset()) -> Verdict:
    """Decide whether a verified graph is race-free and drained (docs/checker.md).

    Bodies of child graphs and conditionals are checked as graphs of their own; each of their runs is over before what
    follows starts. Without assumptions (``H6``, ``H8``) the strict rules decide, and the verdict is kept.

    Raises:
        InvalidInput: If an assumption is unknown.
    """
    known = require_assumptions(assumptions)
    return _check(graph, known) if known else _strict(graph)


def _check(graph: Graph, assumptions: frozenset[str]) -> Verdict:
    """Findings of nested graphs come after those of the graph around them."""
    found = _Found(assumptions)
    found.collect(graph, ())
    if not found.races and not found.outliving:
        return Verdict("proved")
    findings = [_race_finding(inner, race, assumptions) for inner, race in found.races]
    findings += map(_undrained_finding, found.outliving)
    races = tuple(race for _, race in found.races)
    status = "refuted" if found.certain else "unsupported"
    return Verdict(status, tuple(findings), races, tuple(found.outliving), found.count - len(races))


_strict = Analysis(
    {"nodes", "dependencies", "kernels", "buffers", "allocations"}, lambda graph: _check(graph, frozenset())
)


class _Found:
    """What is found in a graph and in those inside it; a race with the graph that it is in.

    All races are counted; the first ones are kept, and with them the first that is certain.
    """

    def __init__(self, assumptions: frozenset[str]) -> None:
        self.assumptions = assumptions
        self.races: list[tuple[Graph, Race]] = []
        self.count = 0
        self.outliving: list[Undrained] = []
        self.certain = False
        self._tried = 0

    def collect(self, graph: Graph, path: BodyPath) -> None:
        """Look into a graph, and into its bodies."""
        order = order_under(graph, self.assumptions)
        for clash, unordered in open_clashes(graph, order):
            count = sum(alike.count(nodes) for alike, nodes in unordered)
            pairs = clash.conflicts(unordered)
            room = max(0, MAX_RACES - len(self.races))
            kept = [_race_of(graph, order, c, path) for c in islice(pairs, room)]
            self.certain = self.certain or any(race.certain for race in kept)
            if len(kept) < count and not self.certain:
                kept += self._first_certain(graph, order, clash.later, unordered, path)
            self.count += count
            self.races += ((graph, race) for race in kept)
        outliving = [Undrained(name, path) for name in order.undrained(graph)]
        self.outliving += outliving
        self.certain = self.certain or bool(outliving)
        for inner_path, body in bodies_of(graph, path):
            self.collect(with_tables(graph, body), inner_path)

    def _first_certain(
        self, graph: Graph, order: EventOrder, later: NodeAccess, unordered: Reached, path: BodyPath
    ) -> list[Race]:
        """A certain race, where not all are kept and none of those is certain.

        Whether one is certain is the same for accesses that are alike, but for what is open (docs/pdl.md, rule 11).
        """
        for alike, nodes in unordered:
            nodes &= ~(_triggered(order, later) >> alike.base) if alike.first.released else -1
            self._tried += not (alike.first.bytes.is_constant and later.bytes.is_constant)
            if nodes and self._tried <= MAX_TRIED and is_certain(graph, Conflict(alike.first, later)):
                _, earlier = next(alike.of(nodes))
                self.certain = True
                return [_race_of(graph, order, Conflict(earlier, later), path)]
        return []


def open_clashes(graph: Graph, order: EventOrder) -> Iterator[tuple[Clash, Reached]]:
    """The conflicts that an order leaves open: for each later access the earlier ones, those that are alike together.

    Bodies are not looked into.
    """
    if are_all_ordered(graph, order):
        return
    for clash in conflicts(graph).clashes:
        found = []
        for alike, nodes in clash.earlier:
            nodes &= ~(_ordered(order, clash.later, released=alike.first.released) >> alike.base)
            if nodes:
                found.append((alike, nodes))
        if found:
            yield clash, tuple(found)


def are_all_ordered(graph: Graph, order: EventOrder) -> bool:
    """Whether every two nodes that touch an allocation, one of them writing, are ordered, whatever bytes these are.

    That holds for most graphs that are right, and takes no comparison of bytes.
    """
    written: dict[str, int] = {}
    touched: dict[str, int] = {}
    for position, found in enumerate(accesses(graph).values()):
        for access in found:
            earlier = (touched if access.write else written).get(access.allocation, 0)
            if earlier and earlier & ~_ordered(order, access, released=False):
                return False
        bit = 1 << position
        for access in found:
            touched[access.allocation] = touched.get(access.allocation, 0) | bit
            if access.write:
                written[access.allocation] = written.get(access.allocation, 0) | bit
    return True


def is_ordered(order: EventOrder, earlier: NodeAccess, later: NodeAccess) -> bool:
    """Whether out(earlier) reaches in(later), which is S for an access before the wait, else W.

    out(earlier) is C; with H8 it is T for an access that a fenced trigger releases, but not for a later one that goes
    through the copy engine (docs/pdl.md, rule 11): only a wait that covers the source orders that one.
    """
    return bool(_ordered(order, later, released=earlier.released) >> order.position[earlier.node] & 1)


def _ordered(order: EventOrder, later: NodeAccess, *, released: bool) -> int:
    """The nodes whose accesses, released or not, are ordered before a later access, as a set of launch positions."""
    v = order.position[later.node]
    complete = (order.before_start if later.early else order.before_wait)[v]
    return complete | (_triggered(order, later) if released and not later.asynchronous else 0)


def _triggered(order: EventOrder, later: NodeAccess) -> int:
    """The nodes whose T reaches in(later): H8 orders what a fence before T released."""
    v = order.position[later.node]
    return (order.triggered_before_start if later.early else order.triggered_before_wait)[v]


def _race_of(graph: Graph, order: EventOrder, conflict: Conflict, path: BodyPath) -> Race:
    earlier, later = conflict.earlier, conflict.later
    # Whether a copy engine sees what a fence released is an open question (docs/pdl.md, rule 11).
    open_question = earlier.released and _triggered(order, later) >> order.position[earlier.node] & 1
    missing = f"C_{earlier.node} -> {'S' if later.early else 'W'}_{later.node}"
    return Race(earlier, later, missing, is_certain(graph, conflict) and not open_question, path)


# Findings


def _race_finding(graph: Graph, race: Race, assumptions: frozenset[str]) -> Diagnostic:
    earlier, later = race.earlier, race.later
    when = "before its wait" if later.early else "after its wait"
    where = f" in phase '{later.phase}'" if later.phase else ""
    message = (
        f"{race.kind} race: {later.verb} %{later.buffer} bytes {later.bytes}{where}, {when}, "
        f"while '{earlier.node}', which {earlier.verb} bytes {earlier.bytes} through %{earlier.buffer}, "
        "may not be complete"
    )
    location = Location("node", _full_name(race.body, later.node), detail=f"%{later.buffer}")
    return Diagnostic("R1", message, location, _repair(graph, race, assumptions))


def _repair(graph: Graph, race: Race, assumptions: frozenset[str]) -> str:
    u, v = race.earlier.node, race.later.node
    order, present = order_under(graph, assumptions), graph.dependency(u, v)
    full = f"add a full dependency '{u}' -> '{v}'"
    if present is not None:
        full = f"make the dependency '{u}' -> '{v}' full"
    if not race.later.early or not order.completes_before_wait(u, v):
        return full
    return f"{full}, or " + (f"move the access after the wait of '{v}'" if order.always_waits(v) else f"let '{v}' wait")


def _undrained_finding(undrained: Undrained) -> Diagnostic:
    message = "may still run when the graph's last nodes are complete: its completion reaches no sink's"
    hint = "give it a full dependency to a node that is certain to complete later, or make it a sink"
    return Diagnostic("R2", message, Location("node", undrained.full_name), hint)


def _full_name(path: BodyPath, name: str) -> str:
    return "/".join([*(node for node, _ in path), name])
