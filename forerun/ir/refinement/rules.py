"""What a rewrite changed, compared with what it may change: the rules of a certificate, but for races.

:mod:`forerun.ir.refinement.certificate` says what they are for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace

from forerun.ir.buffer import Allocation
from forerun.ir.declaration import contradiction, runs_anywhere, runs_code_of
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import AllocNode, EmptyNode, FreeNode, KernelNode, Node
from forerun.ir.refinement.body_order import LostOrder, lost_orders, other_body
from forerun.ir.refinement.folded import without_folded
from forerun.ir.refinement.fused import Fused, claims, is_temporary
from forerun.ir.refinement.merged import without_merged
from forerun.ir.refinement.scratch import without_scratch
from forerun.ir.semantics.access import HOST_EFFECTS, NodeAccess, accesses, is_event
from forerun.ir.semantics.constants import changed_constants
from forerun.ir.semantics.event_nodes import crossings, event_nodes
from forerun.ir.semantics.hazards import PhaseClashes, conflicts, is_certain
from forerun.ir.semantics.nested import inner_graph
from forerun.ir.semantics.order import order_under
from forerun.ir.walk import bodies_in, kernel_nodes, without_bodies
from forerun.support.diagnostics import Diagnostic, Location, Severity

__all__ = ["RULES", "Findings", "compare"]

RULES = {
    # refuted
    "C1": "every write of before, other than to temporaries that nothing reads, has a write of the same bytes after",
    "C2": "every write of after to memory that is visible outside the replay has a write of the same bytes before",
    "C3": "two conflicting accesses have the same order",
    "C4": "phases of a kernel that depend on each other, by locals or bytes, stay ordered in all ways that they were",
    "C5": "what is complete before an event node starts, and what starts after it, stays so",
    "C6": "event nodes and host calls neither appear nor disappear",
    "C11": "a kernel says nothing else of the code of a kernel of before than that one declares",
    "C12": "a fused node reads all that the nodes it stands for read of what others have written",
    "C13": "a fused node reads nothing else",
    "C14": "what a node wrote is written by one node of after, by itself or by one that stands for it",
    "C18": "constants that a phase computes from have the bits that they had",
    "C17": "where temporaries moved, each read sees the same writes, and is known to",
    # unsupported: nothing is known to be wrong, but this version does not know that it is right
    "C7": "nodes of the same name are equal, but for the order of phases, waits, triggers and added CTA barriers; and "
    "for their place, if each phase has a NumPy function",
    "C8": "nodes that appear or disappear do nothing, or are fused or merged, or copy buffers",
    "C9": "allocations and buffers are equal, but for where temporaries of a device lie, and the place of allocations",
    "C19": "temporaries that moved are aligned as before, if a kernel that uses them does not say what it needs",
    "C15": "a fused node stands for known nodes at its place, of which some may stay, and their accesses are known",
    "C16": "no byte is written by two of the nodes that a fused node stands for, or read by one before that",
    "C20": "a node that is merged with another one would compute the same from the same bytes, and nobody misses it",
    "C21": "a copy that is gone brought constants, and its readers have the same ones another way",
    "C22": "a node that works on a copy of a buffer reads there what the buffer would hold, and so do all others",
    "C23": "new nodes prepare in new memory what nodes that stand for others use, from what these read themselves",
    "C10": "a graph after that is not proved comes from a graph before that is, or else the race was there before",
}
"""What a rewrite must keep, by identifier; tests/ir/refinement/test_certificate.py has a negative test for each."""


MAX_FINDINGS = 1000
"""How many findings of a comparison are kept; all are counted."""


@dataclass(slots=True)
class Findings:
    """What was found so far; one certain finding, an error, refutes. The others are warnings."""

    diagnostics: list[Diagnostic] = field(default_factory=list)
    refuted: bool = False
    left_out: int = 0

    def only_count(self, certain: bool) -> bool:
        """Count a finding without keeping it, if as many as there is room for are kept; whether that was done."""
        if len(self.diagnostics) < MAX_FINDINGS:
            return False
        self.left_out += 1
        self.refuted = self.refuted or certain
        return True

    def add(self, code: str, message: str, location: Location, hint: str = "", *, certain: bool = False) -> None:
        """Add a finding."""
        if self.only_count(certain):
            return
        severity = Severity.ERROR if certain else Severity.WARNING
        self.diagnostics.append(Diagnostic(code, message, location, hint, severity))
        self.refuted = self.refuted or certain


def compare(
    before: Graph,
    after: Graph,
    findings: Findings,
    assumptions: Collection[str] = frozenset(),
    path: str = "",
    *,
    fusions: Mapping[str, tuple[str, ...]],
) -> None:
    """Add violations of all rules but C10 to the findings, in the graphs and in the bodies in them.

    ``path`` is what names of nodes in findings begin with: the nodes around a body. ``fusions`` has the nodes of before
    that nodes of after are said to stand for.
    """
    before, unfolded = without_folded(before, after)
    for copy, why in unfolded.items():
        message = f"copy '{path}{copy}' is gone, but was not folded: {why}"
        findings.add("C21", message, Location("graph", after.name))
    before, wrong = without_merged(before, after, fusions)
    for gone, (kept, reason) in wrong.items():
        at = Location("node", path + kept)
        findings.add("C20", f"stands for '{gone}', which is gone, but was not merged with it: {reason}", at)
    scratch = frozenset[str]()
    if not path:
        before, after, scratch, misused = without_scratch(before, after, fusions)
        for name, message in misused:
            findings.add("C23", message, Location("node", name))
    comparison = _Comparison(before, after, findings, assumptions, path, Fused(before, after, fusions, scratch))
    comparison.tables()
    comparison.nodes()
    comparison.directions()
    comparison.events()


class _Comparison:
    def __init__(
        self, before: Graph, after: Graph, findings: Findings, assumptions: Collection[str], path: str, fused: Fused
    ) -> None:
        self.before, self.after = before, after
        self.fused = fused
        self.findings = findings
        self.assumptions, self.path = assumptions, path
        self.gone = [node for name, node in before.nodes.items() if name not in after.nodes]
        self.gone = [node for node in self.gone if node.name not in fused.owners]
        self.added = [node for name, node in after.nodes.items() if name not in before.nodes]
        self.added = [node for node in self.added if node.name not in fused.groups]
        self.kernels = _Kernels(before, after)
        self.phases: dict[str, PhaseClashes] = {}

    def at(self, name: str, detail: str = "") -> Location:
        """Where a node is; the graph, for one that is gone."""
        if name in self.after.nodes:
            return Location("node", self.path + name, detail=detail)
        return Location("graph", self.after.name)

    def tables(self) -> None:
        """C9. Bodies have no tables of their own."""
        for name in () if self.path else _differing(self.before, self.after):
            self.findings.add("C9", f"{name} is not as before", Location("graph", self.after.name))

    def nodes(self) -> None:
        """C1, C2, C4, C6, C7, C8 and C11 to C16."""
        for problem in self.fused.check():
            self.findings.add(problem.code, problem.message, self.at(problem.node), certain=problem.certain)
        for node in self.gone:
            self.writes(node.name, [node, *self.added])
            self.extra(node, "disappeared")
        for node in self.added:
            self.writes(node.name, [node, *self.gone])
            self.extra(node, "is new")
        redefined = self.kernels.redefined
        for name, new in self.after.nodes.items():
            old = self.before.nodes.get(name)
            if old is None or ((old is new or old == new) and not (redefined and _launches(new, redefined))):
                continue
            if isinstance(old, KernelNode) and isinstance(new, KernelNode) and self.same_launch(old, new):
                self.launch(old, new)
            elif bodies_in(old) and without_bodies(old) == without_bodies(new):
                self.bodies(old, new)
            else:
                self.other(old, new, _what_differs(old, new))

    def extra(self, node: Node, what: str) -> None:
        """C6 and C8 for a node that is in one of the graphs."""
        kind = type(node).__name__
        if is_event(node):
            self.findings.add("C6", f"{kind} '{node.name}' {what}", self.at(node.name), certain=True)
        elif not isinstance(node, EmptyNode):
            message = f"{kind} '{node.name}' {what}; nodes are matched by name"
            self.findings.add("C8", message, self.at(node.name))

    def same_launch(self, old: KernelNode, new: KernelNode) -> bool:
        """Whether a node launches on the same arguments, and as before, or as its kernel accepts just as well.

        Only what kernels declare of their launches is known (docs/writing-kernels.md, "Launches").
        """
        kernel = self.before.kernels.get(old.kernel)
        accepted = kernel.launches if kernel is not None else None
        same = old.launch == new.launch
        if not same and accepted is not None and old.launch.cooperative == new.launch.cooperative:
            same = not accepted.refusal(old.launch) and not accepted.refusal(new.launch)
        same = same and old.arguments == new.arguments
        return same and (old.place == new.place or (kernel is not None and runs_anywhere(kernel)))

    def launch(self, old: KernelNode, new: KernelNode) -> None:
        """C4, C7 and C11 for a node that launches another kernel with the same arguments."""
        reason, lost = self.kernels.compare(old.kernel, new.kernel)
        clash = self.kernels.clash(old.kernel, new.kernel) if reason else ""
        if clash:
            message = f"kernel '{new.kernel}' of after contradicts kernel '{old.kernel}' of before: {clash}"
            hint = "what accesses other bytes needs an implementation and phase functions of its own"
            self.findings.add("C11", message, self.at(new.name, f"@{new.kernel}"), hint, certain=True)
        elif reason:
            self.other(old, new, reason)
        for order in lost:
            self.lost_order(new, order)

    def bodies(self, old: Node, new: Node) -> None:
        """All rules, for the bodies of a node."""
        for number, body in enumerate(bodies_in(new)):
            graphs = inner_graph(self.before, old.name, number), inner_graph(self.after, new.name, number)
            compare(*graphs, self.findings, self.assumptions, f"{self.path}{new.name}/", fusions=claims(body))

    def other(self, old: Node, new: Node, reason: str) -> None:
        """C7, for a node that is not the same."""
        self.findings.add("C7", f"is not the node that it was: {reason}", self.at(new.name))
        self.constants(old, new)
        self.writes(new.name, [old, new, *self.added, *self.gone])

    def constants(self, old: Node, new: Node) -> None:
        """C18, for a node that is not the same but runs the same phases."""
        if not isinstance(old, KernelNode) or not isinstance(new, KernelNode):
            return
        kernel = self.before.kernels.get(old.kernel)
        if kernel is None or self.kernels.compare(old.kernel, new.kernel)[0]:
            return
        seen = any(self.is_seen(write) for write in _writes(self.after, {new.name}))
        for message in changed_constants(kernel, old, new):
            self.findings.add("C18", message, self.at(new.name), certain=seen)

    def lost_order(self, node: KernelNode, lost: LostOrder) -> None:
        """C4, for two phases of a node."""
        how = "moved ahead of" if lost.in_role else "is no longer separated by a barrier from"
        certain, why = True, f"uses '{lost.local}' from"
        if not lost.local:
            if node.name not in self.phases:
                self.phases[node.name] = PhaseClashes(self.after, node.name)
            clash = self.phases[node.name].between(lost.earlier, lost.later)
            if clash is None:
                return
            buffer, certain = clash
            why = f"shares bytes of %{buffer} with"
        if self.findings.only_count(certain):
            return
        message = f"phase '{lost.later}' {how} phase '{lost.earlier}', but {why} it"
        self.findings.add("C4", message, Location("phase", f"{node.kernel}.{lost.later}"), certain=certain)

    def writes(self, name: str, among: Iterable[Node]) -> None:
        """C1 and C2 for one node, whose writes are looked for among its own and those of some others."""
        names = {node.name for node in among}
        old, new = _writes(self.before, names), _writes(self.after, names)
        for write in _writes(self.before, {name}):
            if not any(map(write.overlaps, new)) and self.is_seen(write):
                self.findings.add("C1", f"{_spell(write)} is lost", self.at(name), certain=write.definite)
        for write in _writes(self.after, {name}):
            if not any(map(write.overlaps, old)) and not is_temporary(self.after, write):
                self.findings.add("C2", f"{_spell(write)} is new", self.at(name), certain=write.definite)

    def is_seen(self, write: NodeAccess) -> bool:
        """Whether somebody reads what a write leaves: the host, the next replay, or a node that is still there."""
        reads = (a for found in accesses(self.after).values() for a in found if not a.write)
        return not is_temporary(self.before, write) or any(map(write.overlaps, reads))

    def directions(self) -> None:
        """C3."""
        place = {name: i for i, name in enumerate(self.before.nodes)}
        common = [place[name] for name in self.after.nodes if name in place]
        if common == sorted(common) and not self.fused.groups:
            return
        for conflict in conflicts(self.after):
            earlier, later = conflict.earlier, conflict.later
            if max(self.fused.places(earlier), default=-1) >= min(self.fused.places(later), default=len(place)):
                what = f"{later.verb} %{later.buffer} bytes {later.bytes}"
                message = f"{what} after '{earlier.node}', no longer before it"
                hint = f"keep '{later.node}' before '{earlier.node}'"
                certain = is_certain(self.after, conflict)
                self.findings.add("C3", message, self.at(later.node, f"%{later.buffer}"), hint, certain=certain)

    def events(self) -> None:
        """C5."""
        found = [*crossings(self.before, self.after, self.assumptions)]
        known = [event for event in event_nodes(self.before) if event in self.after.nodes]
        if known and self.fused.groups:
            orders = (order_under(graph, self.assumptions) for graph in (self.before, self.after))
            found += self.fused.crossings(known, *orders)
        for event, node, message in found:
            hint = f"keep full dependencies between it and '{event}'"
            self.findings.add("C5", message, self.at(node), hint, certain=True)


def _differing(before: Graph, after: Graph) -> Iterator[str]:
    """The allocations and buffers that are not equal."""
    tables: tuple[tuple[str, Mapping[str, object], Mapping[str, object]], ...] = (
        ("allocation", before.allocations, after.allocations),
        ("buffer", before.buffers, after.buffers),
    )
    for kind, old, new in tables:
        if old != new:
            names = (name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name))
            yield from (f"{kind} '{name}'" for name in names if not _has_only_moved_house(old.get(name), new.get(name)))


def _has_only_moved_house(old: object, new: object) -> bool:
    """Whether an allocation lies at another place, and is the same otherwise: nobody computes from where bytes lie."""
    if not isinstance(old, Allocation) or not isinstance(new, Allocation):
        return False
    return replace(old, place=new.place) == new


# Nodes


def _launches(node: Node, kernels: Collection[str]) -> bool:
    if isinstance(node, KernelNode):
        return node.kernel in kernels
    return any(inner.kernel in kernels for body in bodies_in(node) for _, inner in kernel_nodes(body))


def _what_differs(old: Node, new: Node) -> str:
    if type(old) is not type(new):
        return f"it was a {type(old).__name__}"
    names = [f.name for f in fields(old) if getattr(old, f.name) != getattr(new, f.name)]
    return f"another {' and '.join(names)}"


# Kernels


class _Kernels:
    """Kernels before and after, compared once for each pair."""

    def __init__(self, before: Graph, after: Graph) -> None:
        self.before, self.after = before.kernels, after.kernels
        common = (name for name in after.kernels if name in before.kernels)
        self.redefined = {name for name in common if before.kernels[name] != after.kernels[name]}
        self._known: dict[tuple[str, str], tuple[str, tuple[LostOrder, ...]]] = {}

    def compare(self, old: str, new: str) -> tuple[str, tuple[LostOrder, ...]]:
        """Why two kernels differ by more than the order of their phases, if they do; else the orders that are lost."""
        if (old, new) not in self._known:
            self._known[old, new] = self._judge(self.before.get(old), self.after.get(new))
        return self._known[old, new]

    def clash(self, old: str, new: str) -> str:
        """What the second kernel says of the code of the first one, against what that one declares."""
        declared, kernel = self.before.get(old), self.after.get(new)
        if declared is None or kernel is None or not runs_code_of(kernel, declared):
            return ""
        return contradiction(kernel, declared)

    def _judge(self, old: Kernel | None, new: Kernel | None) -> tuple[str, tuple[LostOrder, ...]]:
        if old is None or new is None:
            return "its kernel is not declared", ()
        reason = other_body(old, new)
        return (reason, ()) if reason else ("", lost_orders(old, new))


# Accesses


def _writes(graph: Graph, names: set[str]) -> list[NodeAccess]:
    """What some nodes write; allocating and freeing do not count."""
    nodes = [graph.nodes[name] for name in names if name in graph.nodes]
    nodes = [node for node in nodes if not isinstance(node, AllocNode | FreeNode)]
    return [access for node in nodes for access in accesses(graph)[node.name] if access.write]


def _spell(write: NodeAccess) -> str:
    if write.allocation == HOST_EFFECTS:
        return f"what host call '{write.node}' does"
    return f"the write of '{write.node}' to %{write.buffer} bytes {write.bytes}"
