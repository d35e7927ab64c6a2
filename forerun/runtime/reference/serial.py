"""The serial schedule: one node after the other in launch order, one phase after the other.

At load, every phase becomes a closure over its views, so that a replay is one loop over a flat list. A replay has
hundreds of nodes of a few microseconds each; what is not done here again and again is what makes it fast.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from forerun.ir.kernel import Barrier
from forerun.runtime.reference.bound import (
    BoundControl,
    BoundGraph,
    BoundKernel,
    BoundNode,
    BoundOperation,
    BoundPhase,
    Reach,
)
from forerun.runtime.reference.functions import failure
from forerun.runtime.reference.memory import snapshot
from forerun.support.diagnostics import ForerunError

__all__ = ["SerialReplay", "phases_in_order", "reads_to_copy"]

Step: TypeAlias = Callable[[], None]


class SerialReplay:
    """A graph, ready to be replayed in serial order; call it."""

    def __init__(self, graph: BoundGraph, loop_limit: int) -> None:
        self._loop_limit = loop_limit
        self._places: dict[Step, str] = {}
        # Nodes run one after the other, so all can keep their locals in the same slots: nothing outlives its node for
        # long, and a weight tile that some phase made is gone when the next one is made.
        self._slots: list[Any] = [None] * _most_slots(graph)
        self._steps = self._graph_steps(graph)

    def __call__(self) -> None:
        """Replay the graph once.

        Raises:
            InvalidInput: If a function raises, or returns what it should not.
        """
        self._run(self._steps)

    def _run(self, steps: Sequence[Step]) -> None:
        step: Step = lambda: None  # noqa: E731
        try:
            for step in steps:
                step()
        except ForerunError:
            raise
        except (Exception, SystemExit) as error:  # whatever a reference function raises
            raise failure(self._places[step], error) from error

    def _graph_steps(self, graph: BoundGraph) -> list[Step]:
        return [step for node in graph.nodes for step in self._node_steps(node)]

    def _node_steps(self, node: BoundNode) -> Iterator[Step]:
        match node:
            case BoundKernel():
                copied = reads_to_copy(node)
                for phase in phases_in_order(node):
                    step = _phase_step(phase, copied.get(phase.name, ()), self._slots)
                    self._places[step] = phase.place
                    yield step
            case BoundOperation():
                self._places[node.run] = node.place
                yield node.run
            case BoundControl():
                bodies = [self._graph_steps(body) for body in node.bodies]
                yield lambda: node.drive(lambda number: self._run(bodies[number]), self._loop_limit)


def phases_in_order(kernel: BoundKernel) -> list[BoundPhase]:
    """The phases of all roles in one valid order: role by role between barriers, which all roles execute alike."""
    segments: list[list[BoundPhase]] = [[]]
    for role in kernel.roles:
        number = 0
        for step in role:
            if isinstance(step, Barrier):
                number += 1
                if number == len(segments):
                    segments.append([])
            elif isinstance(step, BoundPhase):
                segments[number].append(step)
    return [phase for segment in segments for phase in segment]


def reads_to_copy(kernel: BoundKernel) -> dict[str, set[int]]:
    """The reads, by phase and position, that must be copied although the order is serial.

    A local, or a result that is not stored yet, may be a view of what was read. So a read is copied if the phase
    defines locals and it or a later phase of the node writes there, or if the phase writes there and elsewhere.
    """
    found: dict[str, set[int]] = {}
    later: list[Reach] = []
    for phase in reversed(phases_in_order(kernel)):
        later += phase.writes
        hazards = later if phase.defines else phase.writes if len(phase.writes) > 1 else ()
        copied = {i for i, read in enumerate(phase.reads) if any(_overlap(read, write) for write in hazards)}
        if copied:
            found[phase.name] = copied
    return found


def _overlap(read: Reach, write: Reach) -> bool:
    return not read.memory.constant and np.may_share_memory(read.extent, write.extent)


def _phase_step(phase: BoundPhase, copied: Collection[int], slots: list[Any]) -> Step:
    fixed = all(reach.fixed is not None for reach in (*phase.reads, *phase.writes))
    if phase.loads or copied or not fixed:
        return _general_step(phase, copied, slots)
    return _commit_step(phase, _call(phase, slots), slots)


def _call(phase: BoundPhase, slots: list[Any]) -> Callable[[], Any]:
    """The call of a phase's function whose reads are fixed views and whose scalars are constants."""
    function, uses = phase.function, phase.uses
    reads = tuple(reach.fixed for reach in phase.reads)
    scalars = tuple(phase.scalar_values(()))
    if not uses:
        arguments = reads + scalars
        return lambda: function(*arguments)
    if len(uses) == 1:
        (only,) = uses
        return lambda: function(*reads, slots[only], *scalars)
    return lambda: function(*reads, *[slots[slot] for slot in uses], *scalars)


def _commit_step(phase: BoundPhase, call: Callable[[], Any], slots: list[Any]) -> Step:
    targets = [reach.at(()) for reach in phase.writes]
    if len(targets) == 1 and not phase.defines:
        return _store_step(phase, call, targets[0])
    if len(phase.defines) == 1 and not targets:
        return _give_step(phase, call, slots)

    def step() -> None:
        _commit(phase, call(), targets, slots)

    return step


def _store_step(phase: BoundPhase, call: Callable[[], Any], target: NDArray[Any]) -> Step:
    shape, dtype = target.shape, target.dtype

    def step() -> None:
        result = call()
        # The quick test spares the full one: types of arrays are singletons almost always.
        if type(result) is not np.ndarray or result.shape != shape or result.dtype is not dtype:
            result = phase.checked(0, target, result)
        target[...] = result

    return step


def _give_step(phase: BoundPhase, call: Callable[[], Any], slots: list[Any]) -> Step:
    (slot,) = phase.defines

    def step() -> None:
        result = call()
        slots[slot] = phase.results(result)[0] if result is None else result

    return step


def _general_step(phase: BoundPhase, copied: Collection[int], slots: list[Any]) -> Step:
    """Regions that depend on loaded scalars, and reads that must be copied."""
    loads = [(source.element, source.offset) for source in phase.loads]
    reads = [_reader(reach, i in copied) for i, reach in enumerate(phase.reads)]
    writes = [reach.at for reach in phase.writes]
    function, uses, scalars = phase.function, phase.uses, phase.scalars

    def step() -> None:
        loaded = [element.item() + offset for element, offset in loads]
        arguments: list[Any] = [read(loaded) for read in reads]
        if uses:
            arguments += [slots[slot] for slot in uses]
        if scalars:
            arguments += phase.scalar_values(loaded)
        _commit(phase, function(*arguments), [locate(loaded) for locate in writes], slots)

    return step


def _reader(reach: Reach, copy: bool) -> Callable[[Sequence[int]], NDArray[Any]]:
    return (lambda loaded: snapshot(reach.memory.bytes, reach.at(loaded))) if copy else reach.at


def _commit(phase: BoundPhase, returned: Any, targets: Sequence[NDArray[Any]], slots: list[Any]) -> None:
    results = phase.results(returned)
    for i, target in enumerate(targets):
        result = results[i]
        if type(result) is not np.ndarray or result.shape != target.shape or result.dtype is not target.dtype:
            result = phase.checked(i, target, result)
        target[...] = result
    for slot, value in zip(phase.defines, results[len(targets) :], strict=True):
        slots[slot] = value


def _most_slots(graph: BoundGraph) -> int:
    counts = [node.slots for node in graph.nodes if isinstance(node, BoundKernel)]
    inner = [_most_slots(body) for node in graph.nodes if isinstance(node, BoundControl) for body in node.bodies]
    return max([0, *counts, *inner])
