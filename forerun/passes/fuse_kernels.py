"""``fuse-kernels``: several launches become one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from forerun.ir.fusion import FusionRule, Match, Rejection, Replacement, fusion_rules
from forerun.ir.graph import Graph
from forerun.passes.fusion.def_use import DefUse
from forerun.passes.fusion.legality import Candidate, obstacle
from forerun.passes.fusion.matching import attempts, best_attempt
from forerun.passes.fusion.splice import splice, staying
from forerun.passes.infra.base import Pass, PassContext, option
from forerun.passes.infra.bodies import rewrite_all
from forerun.passes.infra.registry import register
from forerun.support.diagnostics import InternalError, InvalidInput, Location, did_you_mean

__all__ = ["FuseKernels", "candidates", "fused"]


@register
@dataclass(frozen=True)
class FuseKernels(Pass):
    """Replaces kernels that follow each other by one that does the same.

    What may be fused is said by rules, which are declared beside the kernels (``fusion_rule``). A rule is applied where
    its kernels hand each other temporaries that nobody else reads, where nothing that comes in between is in the way,
    and where the replacement takes the shapes. A node that comes before several others, such as a norm, may be
    recomputed in each of them. The new node stands in the place of the last one that it replaces.

    Runs first: on launch order, when all dependencies are full. Results may differ within the rules' tolerances.
    """

    name: ClassVar[str] = "fuse-kernels"
    keeps_bits: ClassVar[bool] = False
    changes: ClassVar[frozenset[str]] = frozenset({"dependencies", "memory", "nodes"})
    statistics: ClassVar[Mapping[str, str]] = {
        "groups_fused": "groups of nodes that became one",
        "nodes_removed": "nodes that are gone for it",
        "nodes_recomputed": "nodes that several fused ones compute, or that stay for others",
        "near_misses": "groups of nodes that a rule almost fits",
    }

    rules: str = option("all", help="the rules to use: all, or names with spaces between them")
    off: str = option("", help="rules not to use: names with spaces between them")

    @classmethod
    def help(cls) -> str:
        """Like that of other passes, and the rules."""
        rules = fusion_rules().values()
        width = max((len(rule.name) for rule in rules), default=0)
        rows = [f"  {rule.name:<{width}}  {rule.summary} (within {rule.tolerance:g})" for rule in rules]
        return "\n".join((super().help(), "", "Rules:", *rows))

    def __post_init__(self) -> None:
        """Check the names."""
        super().__post_init__()
        self.chosen()

    def chosen(self) -> tuple[FusionRule, ...]:
        """The rules that it uses, those of most parts first.

        Raises:
            InvalidInput: If there is no rule of some name.
        """
        known = fusion_rules()
        names = list(known) if self.rules.strip() == "all" else self.rules.split()
        for name in (*names, *self.off.split()):
            if name not in known:
                raise InvalidInput(f"no fusion rule '{name}'", hint=did_you_mean(name, known))
        return tuple(known[name] for name in dict.fromkeys(names) if name not in self.off.split())

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        """The graph with fewer nodes."""
        return fused(graph, self.chosen(), context)


def fused(graph: Graph, rules: Iterable[FusionRule], context: PassContext) -> Graph:
    """The graph with rules applied, in bodies, too, whether they are registered or not."""
    known = tuple(rules)
    after = rewrite_all(graph, context, lambda level, _: _fused(level, known, context))
    for rule, count in context.applications.items():
        context.remark(f"rule {rule} was applied {count} time{'s' * (count != 1)}", Location("graph", graph.name))
    if context.tolerance:
        message = f"results may differ by {context.tolerance:g} of the greatest magnitude in their buffers"
        context.remark(message, Location("graph", graph.name))
    return after


def _fused(graph: Graph, rules: Iterable[FusionRule], context: PassContext) -> Graph:
    """A graph with rules applied to its own nodes."""
    def_use = DefUse.of(graph)
    chosen = [c for c in candidates(graph, def_use, rules, context) if context.should_apply(c.rule.name)]
    stay = staying(graph, def_use, chosen)
    edit, place, done = graph.edit(), dict(def_use.place), set[str]()
    for candidate in chosen:
        splice(edit, candidate, place, stay, done)
        shared = (set(candidate.names) & stay) | (set(candidate.names) & done)
        context.count("groups_fused")
        context.observe("nodes_recomputed", len(shared))
        context.tolerate(candidate.rule.tolerance)
        done |= set(candidate.names) - stay
    context.observe("nodes_removed", len(done))
    return edit.commit()


def candidates(graph: Graph, def_use: DefUse, rules: Iterable[FusionRule], context: PassContext) -> list[Candidate]:
    """What to replace, the largest first. A node is replaced once, unless it is recomputed.

    Why rules do not apply where they almost do is remarked.
    """
    ordered = sorted(rules, key=lambda rule: -max(map(len, rule.patterns)))
    chosen: list[Candidate] = []
    owned: dict[str, bool] = {}
    misses: dict[tuple[str, str], list[str]] = {}
    for rule in ordered:
        for name in graph.nodes:
            if owned.get(name):
                continue
            found = _candidate_at(graph, def_use, rule, name)
            if isinstance(found, Candidate) and not _is_owned(found, owned):
                chosen.append(found)
                owned.update({part: part not in found.recomputed for part in found.names})
            elif isinstance(found, Rejection):
                misses.setdefault((rule.name, found.reason), []).append(name)
    _remark(misses, owned, context)
    return chosen


def _candidate_at(graph: Graph, def_use: DefUse, rule: FusionRule, node: str) -> Candidate | Rejection | None:
    """What a rule would replace with its last part at a node; why not, if it almost fits; else ``None``."""
    attempt = best_attempt(attempts(graph, def_use, rule, node))
    if attempt is None:
        return None
    match = attempt.match
    if match is None:
        return Rejection(attempt.reason) if len(attempt.nodes) > 1 else None
    replacement = rule.replace(match)
    if isinstance(replacement, Rejection):
        return replacement
    _require_complete(rule, replacement, match)
    found = Candidate(rule, attempt.pattern, match, replacement, def_use.place)
    reason = obstacle(found, def_use)
    return Rejection(reason) if reason else found


def _require_complete(rule: FusionRule, replacement: Replacement, match: Match) -> None:
    wanted = {parameter.name for parameter in replacement.kernel.parameters}
    odd = wanted ^ set(replacement.variables)
    odd |= {v for v in replacement.variables.values() if isinstance(v, str) and v not in match.arguments}
    if odd:
        message = f"fusion rule '{rule.name}' does not bind the parameters of @{replacement.kernel.name} to variables"
        raise InternalError(f"{message}: {', '.join(sorted(odd))}")


def _is_owned(candidate: Candidate, owned: Mapping[str, bool]) -> bool:
    """Whether another one replaces some of the nodes; several may recompute the same node."""
    return any(owned.get(name) or (name in owned and name not in candidate.recomputed) for name in candidate.names)


def _remark(misses: Mapping[tuple[str, str], list[str]], owned: Mapping[str, bool], context: PassContext) -> None:
    for (rule, reason), names in misses.items():
        left = [name for name in names if name not in owned]
        if left:
            context.observe("near_misses", len(left))
            more = f" (and {len(left) - 1} more places)" if len(left) > 1 else ""
            context.remark(f"rule {rule} does not apply: {reason}{more}", Location("node", left[0]))
