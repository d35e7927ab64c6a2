"""A debug mode: after each replay, the schedules that the device made are read back and judged.

The certificate of ``fuse-persistent`` rests on the postcondition of schedules (docs/schedules.md), which is tested on
many batches. Here it is checked on those that a program meets, and so are the flags of its tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forerun.ir.graph import Graph
from forerun.ir.nodes import BufferArgument, KernelNode
from forerun.ir.semantics import accesses
from forerun.ir.types import BufferRole
from forerun.kernels.persistent.ragged_attention import BATCH
from forerun.kernels.persistent.scheduled import SCHEDULE, bound_buffer, capacity_of, cuts_of, family_of, makes_schedule
from forerun.schedules.attention import AttentionBatch
from forerun.schedules.postcondition import assert_postcondition
from forerun.schedules.schedule import Schedule, rule_within
from forerun.schedules.status import raise_for
from forerun.schedules.task_graph import prove_tasks
from forerun.support.diagnostics import InvalidInput, Refuted

__all__ = ["CheckedReplays"]


class _Program(Protocol):
    """A compiled graph: a :class:`forerun.Executable`."""

    @property
    def graph(self) -> Graph: ...

    def run(self, inputs: Mapping[str, ArrayLike] | None = None) -> dict[str, NDArray[Any]]: ...

    def read(self, buffer: str) -> NDArray[Any]: ...


class CheckedReplays:
    """Runs a program, and judges its schedules after each replay.

    Args:
        program: A compiled graph.

    Raises:
        InvalidInput: If its graph makes no schedule, or one of a batch that cannot be read after a replay.

    Example:
        ``CheckedReplays(program)(q=..., kv_lengths=...)`` returns what ``program`` does, or raises.
    """

    def __init__(self, program: _Program) -> None:
        self._program = program
        self._nodes = [node for node in program.graph if isinstance(node, KernelNode) and makes_schedule(node)]
        if not self._nodes:
            raise InvalidInput(f"graph '{program.graph.name}' makes no schedule, so there is nothing to check")
        for node in self._nodes:
            for parameter in BATCH:
                self._require_readable(bound_buffer(node, parameter))

    def __call__(self, inputs: Mapping[str, ArrayLike] | None = None, /, **named: ArrayLike) -> dict[str, NDArray[Any]]:
        """Replay once, and judge.

        Raises:
            InvalidInput: If the status of a schedule says that the batch is bad.
            Refuted: If a schedule breaks its postcondition, flags do not order its tasks, or a counter is not 0 again.
        """
        given = {**(inputs or {}), **named}
        outputs = self._program.run(given)
        for node in self._nodes:
            self._judge(node, given)
        return outputs

    def schedule(self, node: str) -> Schedule:
        """The schedule that a node made in the last replay.

        Raises:
            InvalidInput: If no node of that name makes one.
        """
        found = next((known for known in self._nodes if known.name == node), None)
        if found is None:
            raise InvalidInput(f"no node '{node}' makes a schedule")
        return self._read(found)

    def _require_readable(self, name: str) -> None:
        graph = self._program.graph
        buffer = graph.buffers[name]
        if buffer.contents is None and buffer.role not in (BufferRole.INPUT, BufferRole.PARAM, BufferRole.STATE):
            raise InvalidInput(f"%{name} is {buffer.role}, so the batch cannot be read after a replay")
        writers = [a.node for found in accesses(graph).values() for a in found if a.write and a.buffer == name]
        if writers:
            raise InvalidInput(f"'{writers[0]}' writes %{name}, so the batch cannot be read after a replay")

    def _read(self, node: KernelNode) -> Schedule:
        capacity = capacity_of(self._program.graph, node)
        status, counts, pointers, items, counters = (self._program.read(bound_buffer(node, name)) for name in SCHEDULE)
        return Schedule(status, counts, pointers, items, counters, capacity)

    def _value(self, name: str, given: Mapping[str, ArrayLike]) -> NDArray[np.int32]:
        buffer = self._program.graph.buffers[name]
        if buffer.contents is not None:
            return np.frombuffer(buffer.contents, np.int32)
        return np.asarray(given[name] if name in given else self._program.read(name), np.int32)

    def _judge(self, node: KernelNode, given: Mapping[str, ArrayLike]) -> None:
        schedule = self._read(node)
        raise_for(schedule.finding)
        family, capacity = family_of(node), schedule.capacity
        requests, *arrays = (self._value(bound_buffer(node, name), given) for name in BATCH)
        batch = AttentionBatch(int(requests[0]), *arrays)
        wrong = family.check(batch, capacity)
        if wrong.status.is_error:
            raise Refuted(f"the schedule of '{node.name}' is made of a bad batch: {wrong.status.meaning}")
        tasks, cuts = family.tasks(batch), cuts_of(node)
        invariant = rule_within(cuts, family, capacity) if cuts.is_invariant else None
        assert_postcondition(schedule, tasks, invariant)
        verdict = prove_tasks(schedule, tasks)
        if not verdict.proved:
            raise Refuted(f"flags do not order the tasks of '{node.name}': {verdict.findings[0].message}")
        self._require_reset(node)

    def _require_reset(self, node: KernelNode) -> None:
        items = BufferArgument(bound_buffer(node, "items"))
        for user in self._program.graph:
            arrived = user.argument("arrived") if isinstance(user, KernelNode) else None
            if isinstance(user, KernelNode) and isinstance(arrived, BufferArgument) and user.argument("items") == items:
                counters = self._program.read(arrived.buffer)
                if counters.any():
                    at = int(np.flatnonzero(counters)[0])
                    raise Refuted(f"counter {at} of '{user.name}' is {counters[at]} after the replay, not 0")
