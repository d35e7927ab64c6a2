"""The race check: is every conflict ordered, and does every node finish before the graph does?"""

from __future__ import annotations

from dataclasses import dataclass

from forerun.ir.diagnostics import Diagnostic, Location
from forerun.ir.graph import Graph
from forerun.ir.nodes import ChildGraphNode, ConditionalNode
from forerun.ir.semantics.access import NodeAccess, with_tables
from forerun.ir.semantics.hazards import Conflict, conflicts
from forerun.ir.semantics.order import EventOrder, event_order
from forerun.ir.types import DependencyKind

__all__ = ["Verdict", "check", "is_ordered"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checker found.

    Attributes:
        status: ``proved`` (race-free and drained), ``refuted`` (some findings are certain), or ``unsupported`` (all
            findings rest on facts that are not known exactly, such as a black box's accesses).
        findings: One a race or undrained node, in launch order.
    """

    status: str
    findings: tuple[Diagnostic, ...] = ()

    @property
    def proved(self) -> bool:
        """Whether nothing is left open."""
        return self.status == "proved"


def check(graph: Graph) -> Verdict:
    """Decide whether a verified graph is race-free and drained under the strict rules (docs/ir.md, "Meaning").

    Bodies of child graphs and conditionals are checked as graphs of their own; each of their runs is over before what
    follows starts.
    """
    order = event_order(graph)
    certain, findings = False, list[Diagnostic]()
    for conflict in conflicts(graph):
        if not is_ordered(order, conflict.earlier, conflict.later):
            certain = certain or conflict.certain
            findings.append(_race(graph, order, conflict))
    for name in order.undrained(graph):
        certain = True
        findings.append(_undrained(name))
    for node in graph:
        bodies = node.bodies if isinstance(node, ConditionalNode) else ()
        for body in (node.body,) if isinstance(node, ChildGraphNode) else bodies:
            inner = check(with_tables(graph, body))
            certain = certain or inner.status == "refuted"
            findings += inner.findings
    if not findings:
        return Verdict("proved")
    return Verdict("refuted" if certain else "unsupported", tuple(findings))


def is_ordered(order: EventOrder, earlier: NodeAccess, later: NodeAccess) -> bool:
    """Whether out(earlier) = C reaches in(later), which is S for an access before the wait, else W."""
    if later.early:
        return order.completes_before_start(earlier.node, later.node)
    return order.completes_before_wait(earlier.node, later.node)


def _race(graph: Graph, order: EventOrder, conflict: Conflict) -> Diagnostic:
    earlier, later = conflict.earlier, conflict.later
    when = "before its wait" if later.early else "after its wait"
    where = f" in phase '{later.phase}'" if later.phase else ""
    message = (
        f"{conflict.kind} race: {later.verb} %{later.buffer} bytes {later.bytes}{where}, {when}, "
        f"while '{earlier.node}', which {earlier.verb} bytes {earlier.bytes} through %{earlier.buffer}, "
        "may not be complete"
    )
    return Diagnostic(
        "R1", message, Location("node", later.node, detail=f"%{later.buffer}"), _repair(graph, order, conflict)
    )


def _repair(graph: Graph, order: EventOrder, conflict: Conflict) -> str:
    u, v = conflict.earlier.node, conflict.later.node
    present = graph.dependency(u, v)
    if conflict.later.early and order.completes_before_wait(u, v):
        if present is not None and present.kind is DependencyKind.PROGRAMMATIC:
            return f"make the dependency '{u}' -> '{v}' full, or move the access after the wait of '{v}'"
        return f"add a full dependency '{u}' -> '{v}', or move the access after the wait of '{v}'"
    if present is not None:
        return f"make the dependency '{u}' -> '{v}' full"
    return f"add a full dependency '{u}' -> '{v}'"


def _undrained(name: str) -> Diagnostic:
    message = "may still run when the graph's last nodes are complete: its completion reaches no sink's"
    hint = "give it a full dependency to a node that is certain to complete later, or make it a sink"
    return Diagnostic("R2", message, Location("node", name), hint)
