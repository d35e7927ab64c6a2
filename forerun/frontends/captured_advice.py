"""What a captured graph's programmatic dependencies, waits and triggers bring, and where one lacks the other."""

from __future__ import annotations

from collections.abc import Iterator

from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Kernel, Phase, Role, Trigger, Wait
from forerun.ir.nodes import KernelNode, Node
from forerun.ir.semantics import Verdict
from forerun.ir.types import DependencyKind
from forerun.ir.walk import all_bodies
from forerun.passes.insert_pdl import can_overlap, convertible_dependencies
from forerun.support.diagnostics import Diagnostic, Location, Severity

__all__ = ["BOUNDARY_US", "advice", "advice_of_structure", "of_structure"]

BOUNDARY_US = (1.0, 1.5)
"""What a boundary between two kernels costs that read memory at full speed, in microseconds; measured on an H200."""


def advice(graph: Graph) -> Iterator[Diagnostic]:
    """What somebody who looks after a graph's programmatic dependencies wants to know, besides races.

    A1: a programmatic dependency whose target never waits orders nothing. A2: a wait that no programmatic dependency
    serves orders nothing. A3: a trigger after the last store lets nothing start that would not start then anyway. A4:
    how many full dependencies can become programmatic, and what that brings at the most.
    """
    for dependency in graph.dependencies:
        if dependency.kind is DependencyKind.PROGRAMMATIC and not _waits(graph, dependency.target):
            yield _of(dependency, "A1", "the target never waits, so nothing orders what it does after the source")
    for node in graph:
        kernel = _kernel(graph, node.name)
        if kernel is None:
            continue
        kinds = {dependency.kind for dependency in graph.incoming(node.name)}
        if kernel.has(Wait) and DependencyKind.PROGRAMMATIC not in kinds:
            yield _note("A2", node.name, "it waits, but no programmatic dependency leads to it")
        if any(_triggers_last(role) for role in kernel.roles or ()):
            yield _note("A3", node.name, "it triggers after its last store, when dependents could start anyway")
    yield from _what_pdl_could_bring(graph)


def of_structure(graph: Graph) -> Verdict:
    """The verdict on a graph of which nothing is known but its nodes and dependencies."""
    message = "what its nodes access is not known, so no conflict can be shown to be ordered, and none not to be"
    hint = "save the captured graph as a folder, and check that"
    finding = Diagnostic("A5", message, Location("graph", graph.name), hint, Severity.WARNING)
    return Verdict("unsupported", (finding,))


def advice_of_structure(graph: Graph) -> Iterator[Diagnostic]:
    """What nodes and dependencies alone say of programmatic dependencies, child graphs included.

    A6: a programmatic dependency, whose target must wait. A7: how many kernels start when others have ended, and what
    programmatic dependencies bring there at the most.
    """
    waiting = 0
    for prefix, body in all_bodies(graph):
        for dependency in body.dependencies:
            if dependency.kind is DependencyKind.PROGRAMMATIC:
                yield _note("A6", prefix + dependency.target, f"it must wait for {prefix}{dependency.source}: {_LATE}")
        inner = body.with_tables_of(graph)
        waiting += sum(_starts_after_a_kernel(inner, node) for node in inner)
    if waiting:
        least, most = (waiting * cost for cost in BOUNDARY_US)
        message = f"kernels that start when a kernel before them has ended: {waiting}; were all dependencies there"
        message += f" programmatic, that would save at the most {least:.0f} to {most:.0f} us a replay on an H200"
        yield Diagnostic("A7", message, Location("graph", graph.name), severity=Severity.NOTE)


_LATE = "the dependency is programmatic, and a DOT file does not tell whether its kernel waits"


def _starts_after_a_kernel(graph: Graph, node: Node) -> bool:
    """Whether its full dependencies lead from kernels alone, and are such as could be programmatic."""
    full = [found.source for found in graph.incoming(node.name) if found.kind is DependencyKind.FULL]
    return bool(full) and all(can_overlap(graph, name) for name in (node.name, *full))


def _what_pdl_could_bring(graph: Graph) -> Iterator[Diagnostic]:
    full = [
        dependency
        for dependency in graph.dependencies
        if dependency.kind is DependencyKind.FULL and all(can_overlap(graph, name) for name in dependency.pair)
    ]
    if full:
        could = len(convertible_dependencies(graph))
        least, most = (could * cost for cost in BOUNDARY_US)
        message = f"{could} of {len(full)} full dependencies between kernels can become programmatic"
        message += f", which saves at the most {least:.0f} to {most:.0f} us a replay on an H200" if could else ""
        message += "" if could == len(full) else "; the others' targets have no wait, and no PTX to put one into"
        yield Diagnostic("A4", message, Location("graph", graph.name), severity=Severity.NOTE)


def _kernel(graph: Graph, name: str) -> Kernel | None:
    node = graph.nodes[name]
    return graph.kernels[node.kernel] if isinstance(node, KernelNode) else None


def _waits(graph: Graph, name: str) -> bool:
    kernel = _kernel(graph, name)
    return kernel is not None and kernel.has(Wait)


def _triggers_last(role: Role) -> bool:
    """Whether no phase that writes comes after the first trigger."""
    first = next((i for i, step in enumerate(role.steps) if isinstance(step, Trigger)), None)
    return first is not None and not any(isinstance(s, Phase) and s.writes for s in role.steps[first:])


def _of(dependency: Dependency, code: str, message: str) -> Diagnostic:
    place = Location("dependency", f"{dependency.source} -> {dependency.target}")
    return Diagnostic(code, message, place, severity=Severity.WARNING)


def _note(code: str, node: str, message: str) -> Diagnostic:
    return Diagnostic(code, message, Location("node", node), severity=Severity.NOTE)
