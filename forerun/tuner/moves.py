"""What may be tried for a group of nodes: the neighbours of a choice; and for many groups at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import get_args

from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel, Phase, Trigger, Wait
from forerun.ir.nodes import BufferArgument, KernelNode, Launch
from forerun.ir.types import DependencyKind
from forerun.ir.walk import all_bodies
from forerun.passes.apply_tuning import moved_triggers
from forerun.passes.infra.tuning import Choice, TriggerChoice, Tuning, group_of

__all__ = ["GroupFacts", "JointMove", "Move", "group_facts", "joint_moves", "moves"]

_MOST_SHARED = 227 * 1024
_PADDED = 116 * 1024
"""Bytes of shared memory with which two CTAs of one kernel do not fit on a multiprocessor."""
_SHARED_STEPS = (-32768, 32768, -16384, 16384, -8192, 8192, 65536)
_THREADS = range(64, 1025, 32)
_CLUSTERS = (4, 8, 16)
_BOUNDARY_BYTES = 8_000_000
"""What memory could have given in the time that a boundary between kernels costs."""
_MOST_BYTES_A_CTA = 4_000_000
"""What a CTA reads at most: of tables such as embeddings, nodes read a row."""


@dataclass(frozen=True, slots=True)
class Move:
    """One thing to try.

    Attributes:
        choice: The group's choice after it.
        what: What changes, in a few words.
        keeps_bits: Whether results must be equal bit by bit: only the order of the same operations' starts changes.
        kind: What it is apart from the group's own numbers: moves of one kind may be made in several groups at once.
    """

    choice: Choice
    what: str
    keeps_bits: bool
    kind: str


@dataclass(frozen=True, slots=True)
class JointMove:
    """Moves of one kind, in all groups that have one.

    Neighbours share multiprocessors, so what fits beside a kernel depends on them: rings that are smaller in one
    kernel only lose, and rings that are smaller in all may win.
    """

    choices: Mapping[str, Choice]
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
        bytes: Of the buffers of a node.
    """

    nodes: int
    kernel: Kernel
    launch: Launch
    sources: tuple[str, ...]
    triggers: bool
    bytes: int = 0

    @property
    def weight(self) -> int:
        """About how much of the time its nodes take: their bytes, and what boundaries cost."""
        read = min(self.bytes, math.prod(self.launch.grid) * _MOST_BYTES_A_CTA)
        return self.nodes * (read + _BOUNDARY_BYTES)


def group_facts(graph: Graph) -> dict[str, GroupFacts]:
    """The groups of a graph and its bodies, in launch order."""
    found: dict[str, GroupFacts] = {}
    for _, body in all_bodies(graph):
        groups = {node.name: group_of(graph, node) for node in body if isinstance(node, KernelNode)}
        edges = [d.pair for d in body.dependencies if d.kind is DependencyKind.PROGRAMMATIC]
        for name, group in groups.items():
            node = body.nodes[name]
            assert isinstance(node, KernelNode)
            sources = tuple(groups[source] for source, target in edges if target == name)
            triggers = any(source == name for source, _ in edges)
            known = found.get(group)
            if known is None:
                kernel, size = graph.kernels[node.kernel], _bytes(graph, node)
                found[group] = GroupFacts(1, kernel, node.launch, tuple(dict.fromkeys(sources)), triggers, size)
            else:
                merged = tuple(dict.fromkeys((*known.sources, *sources)))
                both = known.triggers or triggers
                found[group] = replace(known, nodes=known.nodes + 1, sources=merged, triggers=both)
    return found


def _bytes(graph: Graph, node: KernelNode) -> int:
    buffers = {argument.buffer for _, argument in node.arguments if isinstance(argument, BufferArgument)}
    return sum(graph.buffers[name].size for name in buffers)


def moves(facts: GroupFacts, current: Choice, multiprocessors: int = 132) -> Iterator[Move]:
    """What to try for a group, each once: launches that its kernel accepts, and nothing that the current choice has."""
    launch = current.launch or facts.launch
    seen = {launch}
    accepted = facts.kernel.launches
    for kind, candidate in _launches(launch, multiprocessors):
        if candidate not in seen and accepted is not None and not accepted.refusal(candidate):
            seen.add(candidate)
            chosen = None if candidate == facts.launch else candidate
            yield Move(replace(current, launch=chosen), _difference(launch, candidate), keeps_bits=False, kind=kind)
    yield from _starts(facts, current)


def joint_moves(groups: Mapping[str, GroupFacts], tuning: Tuning, multiprocessors: int = 132) -> Iterator[JointMove]:
    """What to try for several groups at once: each kind of move that at least two have."""
    kinds: dict[str, dict[str, Move]] = {}
    for group, facts in groups.items():
        for move in moves(facts, tuning.choice(group), multiprocessors):
            kinds.setdefault(move.kind, {}).setdefault(group, move)
    for kind, found in kinds.items():
        if len(found) > 1:
            choices = {group: move.choice for group, move in found.items()}
            yield JointMove(choices, kind, all(move.keeps_bits for move in found.values()))


def _starts(facts: GroupFacts, current: Choice) -> Iterator[Move]:
    kernel = facts.kernel
    if facts.triggers and not kernel.has_foreign_code and kernel.has(Trigger):
        for position in get_args(TriggerChoice):
            as_it_is = current.trigger is None and moved_triggers(kernel.roles or (), position) == kernel.roles
            if position != current.trigger and not as_it_is:
                words = f"trigger at {position}"
                yield Move(replace(current, trigger=position), words, keeps_bits=True, kind=words)
    if _hoists(kernel) and not kernel.has_foreign_code:
        words = "no loads before the wait" if current.hoist else "loads before the wait"
        yield Move(replace(current, hoist=not current.hoist), words, keeps_bits=True, kind=words)
    for source in facts.sources:
        others = tuple(group for group in current.full_from if group != source)
        full = source not in current.full_from
        chosen = (*others, source) if full else others
        kind = "full" if full else "programmatic"
        change = replace(current, full_from=tuple(sorted(chosen)))
        yield Move(change, f"{kind} after {source}", keeps_bits=True, kind=f"{kind} dependencies")


def _hoists(kernel: Kernel) -> bool:
    """Whether a phase comes before a wait."""
    for role in kernel.roles or ():
        waits = [i for i, step in enumerate(role.steps) if isinstance(step, Wait)]
        if waits and any(isinstance(step, Phase) for step in role.steps[: waits[0]]):
            return True
    return False


def _launches(launch: Launch, multiprocessors: int) -> Iterator[tuple[str, Launch]]:
    """Other launches of one dimension, with their kinds: what was seen to win most comes first."""
    if launch.grid[1:] != (1, 1) or launch.block[1:] != (1, 1) or launch.cooperative:
        return
    if launch.cluster is not None:
        yield from _clusters(launch)
        yield from _blocks(launch)
        return
    yield from _rings(launch, multiprocessors)
    yield from _blocks(launch)
    yield from _grids(launch, multiprocessors)


def _rings(launch: Launch, multiprocessors: int) -> Iterator[tuple[str, Launch]]:
    """Other shared memory: how deep rings are, and which neighbours fit beside them."""
    shared, (grid, _, _) = launch.shared_bytes, launch.grid
    if not shared:
        return
    for step in _SHARED_STEPS:
        if 0 < shared + step <= _MOST_SHARED:
            yield f"{step:+,} bytes of shared memory", replace(launch, shared_bytes=shared + step)
    if multiprocessors // 2 < grid <= multiprocessors:
        yield f"{_PADDED:,} bytes of shared memory", replace(launch, shared_bytes=_PADDED)


def _blocks(launch: Launch) -> Iterator[tuple[str, Launch]]:
    threads, shared = launch.block[0], launch.shared_bytes
    for kind, size in (("half the threads", threads // 2), ("twice the threads", 2 * threads)):
        if size in _THREADS:
            yield kind, replace(launch, block=(size, 1, 1))
            # As many tiles a warp as before.
            resized = -(-shared * size // threads // 16) * 16
            if 0 < resized <= _MOST_SHARED:
                yield f"{kind} and their shared memory", replace(launch, block=(size, 1, 1), shared_bytes=resized)
    if 3 * threads // 2 in _THREADS:
        yield "half as many threads more", replace(launch, block=(3 * threads // 2, 1, 1))


def _grids(launch: Launch, multiprocessors: int) -> Iterator[tuple[str, Launch]]:
    grid, threads, shared = launch.grid[0], launch.block[0], launch.shared_bytes
    if grid == 1:
        return
    if shared and threads // 2 in _THREADS:
        halved = replace(launch, block=(threads // 2, 1, 1), shared_bytes=-(-shared // 32) * 16)
        yield "twice the CTAs of half the size", replace(halved, grid=(2 * grid, 1, 1))
    for ctas in (multiprocessors, 2 * multiprocessors):
        yield f"{ctas} CTAs", replace(launch, grid=(ctas, 1, 1))
    yield "twice the CTAs", replace(launch, grid=(2 * grid, 1, 1))
    yield "half the CTAs", replace(launch, grid=(max(1, grid // 2), 1, 1))


def _clusters(launch: Launch) -> Iterator[tuple[str, Launch]]:
    """Other clusters, as many of them: their CTAs share the work of one."""
    assert launch.cluster is not None
    if launch.cluster[1:] != (1, 1):
        return
    count = launch.grid[0] // launch.cluster[0]
    for size in _CLUSTERS:
        yield f"clusters of {size}", replace(launch, grid=(count * size, 1, 1), cluster=(size, 1, 1))


def _difference(old: Launch, new: Launch) -> str:
    words = []
    if old.cluster != new.cluster and old.cluster is not None and new.cluster is not None:
        words.append(f"clusters of {math.prod(new.cluster)} instead of {math.prod(old.cluster)}")
    if old.grid != new.grid:
        words.append(f"{new.grid[0]} CTAs instead of {old.grid[0]}")
    if old.block != new.block:
        words.append(f"{new.block[0]} threads instead of {old.block[0]}")
    if old.shared_bytes != new.shared_bytes:
        words.append(f"{new.shared_bytes:,} bytes of shared memory instead of {old.shared_bytes:,}")
    return ", ".join(words)
