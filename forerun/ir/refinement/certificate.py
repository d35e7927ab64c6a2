"""Certificates: whether a rewritten graph means the same as the graph before.

:func:`certify` proves that G1, the graph after, *refines* G0, the graph before: every result of G1 is a result that G0
allows. Nodes are matched by name. What is compared is listed in :data:`RULES`; races are found by
:func:`forerun.ir.semantics.check`.

Why this suffices. Let G1 be race-free and drained. Then events order every two conflicting accesses as launch order
does, so every run of G1 gives what its nodes give one by one in launch order. Running G0's nodes one by one in launch
order is a run that G0 allows too. Both run the same nodes (C1, C2, C6 to C9, C11), or fused ones that stand for them
(C12 to C16, see :mod:`~forerun.ir.refinement.fused`), but for nodes that would compute again what another has computed
(C20, see :mod:`~forerun.ir.refinement.merged`), and copies of constants that are bound directly now (C21, see
:mod:`~forerun.ir.refinement.folded`), and but for nodes that prepare what fused nodes use (C23, see
:mod:`~forerun.ir.refinement.scratch`); and a node computes the same from the same bytes (C4), at any place where the
code of its phases is known (C7). So it is enough that every two conflicting accesses have one direction in both launch
orders (C3). Where nodes work on copies of buffers, all this is about the graph after with the buffers themselves; that
it gives what the graph after gives is C22 (:mod:`~forerun.ir.refinement.copied`).
Where temporaries have moved, all this is about the graph after with the places of before; that it gives, node by node,
what the graph after gives is C17 (:mod:`~forerun.ir.refinement.relocation`), and races are looked for in the latter.
What others see of a replay while it runs is kept as well (C5).

Why direct conflicts suffice for C3. A pair (a, b) is left out of :func:`forerun.ir.semantics.conflicts` only if a write
w between the two, in G1's launch order, covers the bytes of a. Then w conflicts with a, and with b, since b overlaps a.
By induction on the distance in G1, a is before w and w before b in G0, and G0's launch order is transitive.

What is not known to be harmless is ``unsupported``, with the reason; ``refuted`` needs a certain finding.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from forerun.ir.analysis import Analysis
from forerun.ir.graph import Graph
from forerun.ir.refinement.copied import copied, in_order_of, without_copies
from forerun.ir.refinement.fused import claims
from forerun.ir.refinement.relocation import misreads, moved, undone
from forerun.ir.refinement.rules import RULES, Findings, compare
from forerun.ir.semantics.access import accesses, with_tables
from forerun.ir.semantics.alignment import WIDEST_ACCESS, lowered
from forerun.ir.semantics.event_nodes import same_access
from forerun.ir.semantics.hazards import conflicts
from forerun.ir.semantics.order import event_order, order_under
from forerun.ir.semantics.races import Race, Verdict, are_all_ordered, check, is_ordered
from forerun.ir.walk import bodies_of
from forerun.support.diagnostics import Location

__all__ = ["RULES", "certify"]


def certify(
    before: Graph,
    after: Graph,
    assumptions: Collection[str] = frozenset(),
    fusions: Mapping[str, tuple[str, ...]] | None = None,
) -> Verdict:
    """Decide whether a verified graph that was rewritten refines the graph before.

    A graph before with races has many meanings, launch order being one of them; ``infer-dependencies`` chooses that
    one. So if ``after`` is proved and keeps the directions of launch order, the rewrite is proved, whatever ``before``
    was. If neither is proved, the rewrite is refuted for a race that was ordered before, and else ``unsupported``.

    Args:
        before: The graph before.
        after: The graph after.
        assumptions: Opt-in rules of the event order, such as ``H6``.
        fusions: For each fused node of after the nodes of before that it stands for; by default, what the nodes of
            ``after`` claim. That the new kernel computes what the old ones compute is not judged here.

    Returns:
        The verdict. Findings have codes of :data:`RULES`, or those of :func:`forerun.ir.semantics.check`.
    """
    findings = Findings()
    claimed = claims(after) if fusions is None else fusions
    ordered = in_order_of(before, after) if copied(before, after) else after
    names = moved(before, ordered)
    undone = _without_copies(before, _in_place(before, ordered, names, findings), findings)
    compare(before, undone, findings, assumptions, fusions=claimed)
    if not findings.diagnostics and not assumptions and not names and _is_still_ordered(before, after):
        return Verdict("proved")
    meaning = check(after, assumptions)
    if not meaning.proved:
        _judge_races(before, after, meaning, assumptions, findings)
    found = (*findings.diagnostics, *meaning.findings)
    status = "refuted" if findings.refuted else "unsupported" if found else "proved"
    return replace(meaning, status=status, findings=found, left_out=findings.left_out + meaning.left_out)


def _without_copies(before: Graph, after: Graph, findings: Findings) -> Graph:
    """The graph after with the buffers of before in the place of their copies (C22)."""
    undone, wrong = without_copies(before, after)
    for found in wrong:
        at = Location("node", found.node) if found.node else Location("graph", after.name)
        findings.add("C22", found.message, at)
    return undone


def _in_place(before: Graph, after: Graph, names: frozenset[str], findings: Findings) -> Graph:
    """The graph after with temporaries where they were, once it is compared with the graph after (C17)."""
    if not names:
        return after
    old = undone(before, after, names)
    for found in misreads(old, after, names):
        at = Location("node", found.node, detail=f"%{found.buffer}") if found.node else Location("buffer", found.buffer)
        hint = "temporaries may share bytes if all uses of the one come before all uses of the other"
        findings.add("C17", found.message, at, hint, certain=found.certain)
    for name, message in lowered(before, after, names):
        hint = f"put it at a multiple of {WIDEST_ACCESS} bytes, or declare the parameter's alignment (align)"
        findings.add("C19", message, Location("buffer", name), hint)
    return old


def _is_still_ordered(before: Graph, after: Graph) -> bool:
    """Whether the conflicts of before, which are known, are ordered after, and all nodes finish in time.

    That saves finding the conflicts again, if the nodes and their accesses are the same, but for when these happen. If
    it says no, :func:`forerun.ir.semantics.check` says why.
    """
    if list(before.nodes) != list(after.nodes) or next(bodies_of(after), None) is not None:
        return False
    order = event_order(after)
    if are_all_ordered(after, order):
        return not order.undrained(after)
    pairs = _conflicting(before)
    _conflicting.keep(after, pairs)
    early = {(a.node, a.phase): a.early for found in accesses(after).values() for a in found}
    for base, nodes, v, phase in pairs:
        known = (order.before_start if early[v, phase] else order.before_wait)[order.position[v]]
        if nodes & ~(known >> base):
            return False
    return not order.undrained(after)


def _pairs(graph: Graph) -> tuple[tuple[int, int, str, str], ...]:
    clashes = conflicts(graph).clashes
    found = ((alike.base, nodes, c.later.node, c.later.phase) for c in clashes for alike, nodes in c.earlier)
    return tuple(dict.fromkeys(found))


_conflicting = Analysis({"nodes", "kernels", "buffers", "allocations"}, _pairs)
"""The nodes of the direct conflicts, and the phase of the later one: what does not depend on when accesses happen.

Earlier nodes are a set of launch positions, counted from a first one.
"""


def _judge_races(
    before: Graph, after: Graph, meaning: Verdict, assumptions: Collection[str], findings: Findings
) -> None:
    """A rewrite answers for the races that it makes, not for those that it received."""
    earlier = check(before, assumptions)
    if earlier.proved:
        findings.refuted = findings.refuted or meaning.status == "refuted"
        return
    made = (race for race in meaning.races if race.certain and _was_ordered(before, assumptions, race))
    outlive = set(meaning.outliving) - set(earlier.outliving)
    findings.refuted = findings.refuted or bool(outlive) or any(made)
    first = earlier.findings[0]
    message = f"the graph before is not race-free: {first.location}: {first.message}"
    findings.add("C10", message, Location("graph", after.name), "repair it first; infer-dependencies orders races")


def _was_ordered(before: Graph, assumptions: Collection[str], race: Race) -> bool:
    """Whether the graph before had the two accesses in this order."""
    for owner, number in race.body:
        inside = dict(bodies_of(before)).get(((owner, number),))
        if inside is None:
            return False
        before = with_tables(before, inside)
    order, table = order_under(before, assumptions), accesses(before)
    first, second = (
        [a for a in table.get(access.node, ()) if same_access(a, access)] for access in (race.earlier, race.later)
    )
    return any(is_ordered(order, a, b) for a in first for b in second)
