"""What may be tried for a group of nodes: the neighbours of a choice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import get_args

from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel, Phase, Trigger, Wait
from forerun.ir.nodes import KernelNode, Launch
from forerun.ir.semantics.nested import bodies_in
from forerun.ir.types import DependencyKind
from forerun.passes.apply_tuning import moved_triggers
from forerun.passes.tuning import Choice, TriggerChoice, group_of

__all__ = ["GroupFacts", "Move", "group_facts", "moves"]

_MOST_SHARED = 227 * 1024
_PADDED = 116 * 1024
"""Of shared memory, so that two CTAs of one kernel do not fit on a multiprocessor."""
_SHARED_STEPS = (-32768, -16384, -8192, 8192, 16384, 32768)
_THREADS = range(64, 1025, 32)


@dataclass(frozen=True, slots=True)
class Move:
    """One thing to try.

    Attributes:
        choice: The group's choice after it.
        what: What changes, in a few words.
        keeps_bits: Whether results must be equal bit by bit: only the order of the same operations' starts changes.
    """

    choice: Choice
    what: str
    keeps_bits: bool


@dataclass(frozen=True)
class GroupFacts:
    """What moves need to know of a group, in the graph that tuning begins with.

    Attributes:
        nodes: How many it has.
        kernel: The kernel of its first node.
        launch: The launch of that node.
        sources: The groups with programmatic dependencies to it, in their order.
        triggers: Whether nodes that start early depend on it.
    """

    nodes: int
    kernel: Kernel
    launch: Launch
    sources: tuple[str, ...]
    triggers: bool


def group_facts(graph: Graph) -> dict[str, GroupFacts]:
    """The groups of a graph and its bodies, in launch order."""
    found: dict[str, GroupFacts] = {}
    for body in _bodies(graph):
        groups = {node.name: group_of(graph, node) for node in body if isinstance(node, KernelNode)}
        edges = [d.pair for d in body.dependencies if d.kind is DependencyKind.PROGRAMMATIC]
        for name, group in groups.items():
            node = body.nodes[name]
            assert isinstance(node, KernelNode)
            sources = tuple(groups[source] for source, target in edges if target == name)
            triggers = any(source == name for source, _ in edges)
            known = found.get(group)
            if known is None:
                found[group] = GroupFacts(1, graph.kernels[node.kernel], node.launch, sources, triggers)
            else:
                merged = tuple(dict.fromkeys((*known.sources, *sources)))
                both = known.triggers or triggers
                found[group] = replace(known, nodes=known.nodes + 1, sources=merged, triggers=both)
    return found


def _bodies(graph: Graph) -> Iterator[Graph]:
    yield graph
    for node in graph:
        for body in bodies_in(node):
            yield from _bodies(body)


def moves(facts: GroupFacts, current: Choice, multiprocessors: int = 132) -> Iterator[Move]:
    """What to try for a group, each once; nothing that the current choice has.

    Args:
        facts: Of the group.
        current: What is chosen now.
        multiprocessors: How many the GPU has.
    """
    launch = current.launch or facts.launch
    for candidate in dict.fromkeys(_launches(launch, multiprocessors)):
        if candidate != launch:
            chosen = None if candidate == facts.launch else candidate
            yield Move(replace(current, launch=chosen), _difference(launch, candidate), keeps_bits=False)
    yield from _starts(facts, current)


def _starts(facts: GroupFacts, current: Choice) -> Iterator[Move]:
    kernel = facts.kernel
    if facts.triggers and not kernel.has_foreign_code and kernel.has(Trigger):
        for position in get_args(TriggerChoice):
            as_it_is = current.trigger is None and moved_triggers(kernel.roles or (), position) == kernel.roles
            if position != current.trigger and not as_it_is:
                yield Move(replace(current, trigger=position), f"trigger at {position}", keeps_bits=True)
    if _hoists(kernel) and not kernel.has_foreign_code:
        words = "no loads before the wait" if current.hoist else "loads before the wait"
        yield Move(replace(current, hoist=not current.hoist), words, keeps_bits=True)
    for source in facts.sources:
        others = tuple(group for group in current.full_from if group != source)
        full = source not in current.full_from
        chosen = (*others, source) if full else others
        words = f"{'full' if full else 'programmatic'} after {source}"
        yield Move(replace(current, full_from=tuple(sorted(chosen))), words, keeps_bits=True)


def _hoists(kernel: Kernel) -> bool:
    """Whether a phase comes before a wait."""
    for role in kernel.roles or ():
        waits = [i for i, step in enumerate(role.steps) if isinstance(step, Wait)]
        if waits and any(isinstance(step, Phase) for step in role.steps[: waits[0]]):
            return True
    return False


def _launches(launch: Launch, multiprocessors: int) -> Iterator[Launch]:
    """Other grids, block sizes and shared memory of one-dimensional launches."""
    one_dimensional = launch.grid[1:] == (1, 1) and launch.block[1:] == (1, 1)
    if not one_dimensional or launch.cluster is not None or launch.cooperative:
        return
    grid, threads, shared = launch.grid[0], launch.block[0], launch.shared_bytes
    if grid > 1:
        for ctas in (multiprocessors, 2 * multiprocessors, grid // 2, 2 * grid):
            yield replace(launch, grid=(max(1, ctas), 1, 1))
    for size in (threads // 2, 2 * threads):
        if size in _THREADS:
            yield replace(launch, block=(size, 1, 1))
    if shared:
        for step in _SHARED_STEPS:
            if 0 < shared + step <= _MOST_SHARED:
                yield replace(launch, shared_bytes=shared + step)
    if multiprocessors // 2 < grid <= multiprocessors:
        yield replace(launch, shared_bytes=_PADDED)


def _difference(old: Launch, new: Launch) -> str:
    words = []
    if old.grid != new.grid:
        words.append(f"{new.grid[0]} CTAs instead of {old.grid[0]}")
    if old.block != new.block:
        words.append(f"{new.block[0]} threads instead of {old.block[0]}")
    if old.shared_bytes != new.shared_bytes:
        words.append(f"{new.shared_bytes:,} bytes of shared memory instead of {old.shared_bytes:,}")
    return ", ".join(words)
