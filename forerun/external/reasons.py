"""Why kernels of a captured graph keep their code, their full dependencies, or their loads behind the wait."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import dropwhile
from typing import TYPE_CHECKING

from forerun.frontends.captured import ImportedGraph
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel, Phase, Wait
from forerun.ir.nodes import KernelNode
from forerun.ir.semantics import accesses, event_order
from forerun.passes.hoist_loads import own_hazards, started_early

if TYPE_CHECKING:
    from forerun.runtime.cuda.capture.assembled import MadeCode

__all__ = ["loads_behind_the_wait", "reasons_of"]


def reasons_of(
    imported: ImportedGraph, graph: Graph, made: Mapping[str, MadeCode] | None = None, unfit: Mapping[str, str] = {}
) -> Mapping[str, str]:
    """What holds a captured graph back, by the kernel's name in its image; other nodes by their kind and name.

    Args:
        imported: The captured graph.
        graph: What passes made of it.
        made: The new code, by the kernel's name in the graph.
        unfit: Why functions have no new code, by their names.
    """
    labels = {name: _label(imported, number) for number, name in enumerate(imported.names)}
    told = [*imported.reasons.items(), *_weaker_code(graph, made or {}), *loads_behind_the_wait(graph)]
    found: dict[str, dict[str, None]] = {label: {reason: None} for label, reason in unfit.items()}
    for node, reason in told:
        found.setdefault(labels.get(node, node), {})[reason] = None
    return {label: "; ".join(reasons) for label, reasons in found.items()}


def _label(imported: ImportedGraph, number: int) -> str:
    node = imported.captured.nodes[number]
    return imported.captured.function_of(node).name if node.function >= 0 else f"{node.kind} {imported.names[number]}"


def loads_behind_the_wait(graph: Graph) -> Iterator[tuple[str, str]]:
    """The nodes whose kernel loads something only after its wait, and why, where that cannot be otherwise."""
    for node, kernel, others in started_early(graph, event_order(graph)):
        own = own_hazards(kernel, accesses(graph)[node.name])
        late = list(_late_loads(kernel))
        for blocked, writer in ((own, "the kernel itself"), (others, "another node")):
            names = [access.parameter for phase in late if phase.name in blocked for access in phase.reads]
            if names:
                yield node.name, f"loaded after the wait: {', '.join(names)}, which {writer} may write"


def _late_loads(kernel: Kernel) -> Iterator[Phase]:
    for role in kernel.roles or ():
        for step in dropwhile(lambda step: not isinstance(step, Wait), role.steps):
            if isinstance(step, Phase) and step.reads and not step.writes:
                yield step


def _weaker_code(graph: Graph, made: Mapping[str, MadeCode]) -> Iterator[tuple[str, str]]:
    """Loads that the body has ahead of the wait, and the code has behind it."""
    for node in graph:
        code = made.get(node.kernel) if isinstance(node, KernelNode) else None
        if code is None or not isinstance(node, KernelNode):
            continue
        yield from ((node.name, f"stronger code was refused: {reason}") for reason in code.refused)
        role = next(iter(graph.kernels[node.kernel].roles or ()), None)
        ahead = role is not None and any(isinstance(step, Wait) for step in role.steps) and isinstance(
            role.steps[0], Phase
        )  # fmt: skip
        if ahead and not code.early_loads and not code.prefetches and not code.refused:
            yield node.name, "no load is ahead of the wait: their addresses or guards are known only after it"
