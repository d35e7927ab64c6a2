"""Whether fusion rules state what fused nodes claim: that their kernels compute what those they stand for compute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from forerun.ir.fusion import Match, Replacement, fusion_rules
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import KernelNode
from forerun.ir.refinement.fused import claims
from forerun.ir.semantics.nested import inner_graph
from forerun.ir.walk import bodies_in
from forerun.passes.fusion.def_use import DefUse
from forerun.passes.fusion.matching import attempts
from forerun.passes.grouping.stated import is_stated_by_groups

__all__ = ["stated"]


def stated(before: Graph, after: Graph, path: str = "") -> Iterator[tuple[str, bool]]:
    """The new fused nodes of a verified graph and of its bodies, after passes, and whether a known rule states each."""
    new = {name: parts for name, parts in claims(after).items() if name not in before.nodes}
    def_use = DefUse.of(before) if new else None
    for name, parts in new.items():
        node = after.nodes[name]
        assert isinstance(node, KernelNode)
        assert def_use is not None
        made = _replacements(before, def_use, parts)
        is_replacement = any(_is_of(after.kernels[node.kernel], node, *found) for found in made)
        yield path + name, is_replacement or (not path and is_stated_by_groups(before, after, node, parts))
    for name, owner in after.nodes.items():
        bodies = bodies_in(before.nodes[name]) if name in before.nodes else ()
        for number in range(min(len(bodies), len(bodies_in(owner)))):
            inner = inner_graph(before, name, number), inner_graph(after, name, number)
            yield from stated(*inner, f"{path}{name}/")


def _replacements(graph: Graph, def_use: DefUse, parts: tuple[str, ...]) -> Iterator[tuple[Match, Replacement]]:
    """What the rules put in the place of just these nodes."""
    for rule in fusion_rules().values():
        for last in parts:
            for attempt in attempts(graph, def_use, rule, last) if last in graph.nodes else ():
                match = attempt.match
                if match is None or {node.name for node in match.nodes.values()} != set(parts):
                    continue
                replacement = rule.replace(match)
                if isinstance(replacement, Replacement):
                    yield match, replacement


def _is_of(kernel: Kernel, node: KernelNode, match: Match, replacement: Replacement) -> bool:
    """Whether a node launches a replacement, as it is or with its phases moved, on the same arguments."""
    made = replacement.kernel
    bound = {
        name: match.arguments[value] if isinstance(value, str) else value
        for name, value in replacement.variables.items()
    }
    same_code = (kernel.parameters, kernel.implementations) == (made.parameters, made.implementations)
    return same_code and Counter(kernel.phases) == Counter(made.phases) and dict(node.arguments) == bound
