"""The debug mode of replays: right schedules pass, and each wrong one is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import forerun
from forerun.kernels.persistent.checked_replays import CheckedReplays
from forerun.kernels.persistent.ragged_attention import RaggedAttention
from forerun.kernels.persistent.scheduled import SCHEDULE
from forerun.passes.infra.manager import PassManager
from forerun.schedules.attention import Attention
from forerun.schedules.schedule import Schedule, capacity_for
from forerun.support.diagnostics import InvalidInput, Refuted
from tests.kernels.persistent.grouped import case_of, grouped_graph, run
from tests.schedules import wrong_schedules
from tests.schedules.batches import copied

BATCH = [1, 1, 5, 0, 0, 3], [130, 9, 70, 0, 0, 20]


class Program:
    """A program whose memory reads as somebody likes, and whose replays are checked."""

    def __init__(self, executable: forerun.Executable) -> None:
        self.executable, self.graph = executable, executable.graph
        self.run, self.write = executable.run, executable.write
        self.checked = CheckedReplays(self)
        self.change: Callable[[Schedule], object] | None = None
        self.others: dict[str, np.ndarray] = {}

    def __call__(self, **inputs: Any) -> dict[str, np.ndarray]:
        return self.checked(**inputs)

    def read(self, buffer: str) -> np.ndarray:
        name = buffer.partition(".")[2]
        if self.change is None or name not in SCHEDULE:
            return self.others.get(buffer, self.executable.read(buffer))
        schedule = copied(CheckedReplays(self.executable).schedule("schedule"))
        self.change(schedule)
        found: np.ndarray = getattr(schedule, name)
        return found


@pytest.fixture
def program() -> Iterator[Program]:
    graph = PassManager("fuse-persistent{ctas=4,cuts=invariant,chunk=64},infer-dependencies").run(grouped_graph()).graph
    with forerun.compile(graph, pipeline="") as executable:
        yield Program(executable)


@pytest.mark.parametrize("batch", [BATCH, ([1], [100]), ([0, 0, 30], [0, 1, 200])])
def test_right_schedules_pass(program: Program, batch: tuple[list[int], list[int]]) -> None:
    for seed in range(2):
        run(program, case_of(*batch, seed))
    schedule = program.checked.schedule("schedule")
    assert int(schedule.counts[0]) > 0
    assert schedule.finding.where == -1


@pytest.mark.parametrize(
    ("name", "rule"),
    [("counter_reused", "S7"), ("slot_reused", "S6"), ("counts_one_too_few", "S7"), ("too_short", "S4")],
)
def test_wrong_schedules_are_told(program: Program, name: str, rule: str) -> None:
    program.change = getattr(wrong_schedules, name)
    with pytest.raises(Refuted, match=f"the schedule does not hold: {rule}"):
        run(program, case_of(*BATCH, 0))


def test_a_counter_that_is_not_reset_is_told(program: Program) -> None:
    program.others["schedule.arrived"] = np.array([0, 2, 0], np.int32)
    with pytest.raises(Refuted, match=r"counter 1 of 'layer0.1.persistent' is 2 after the replay, not 0"):
        run(program, case_of(*BATCH, 0))


def test_a_bad_batch_is_told(program: Program) -> None:
    case = case_of(*BATCH, 0)
    case.batch.kv_lengths[2] = -1
    with pytest.raises(InvalidInput, match=r"cannot schedule the batch: a KV length is negative \(request 2\)"):
        run(program, case)


def test_a_status_that_does_not_see_a_bad_batch_is_told(program: Program) -> None:
    case = case_of(*BATCH, 0)
    run(program, case)
    right = copied(program.checked.schedule("schedule"))
    program.change = lambda schedule: [getattr(schedule, n).__setitem__(..., getattr(right, n)) for n in SCHEDULE]
    case.batch.kv_lengths[2] = -1
    with pytest.raises(Refuted, match="the schedule of 'schedule' is made of a bad batch: a KV length is negative"):
        run(program, case)


def test_programs_without_a_schedule_are_refused() -> None:
    executable = forerun.compile(grouped_graph(), pipeline="")
    with executable, pytest.raises(InvalidInput, match="graph 'grouped' makes no schedule"):
        CheckedReplays(executable)


def test_a_batch_that_the_graph_writes_is_refused() -> None:
    family = Attention(4, 2, 16, 4, 20)
    made = RaggedAttention(family, capacity_for(family, 4, 8, 20, 3))
    builder = forerun.GraphBuilder("grows")
    buffers = {**made.batch(builder), **made.values(builder), **made.workspace(builder)}
    made.schedule(builder, buffers)
    made.attend(builder, buffers)
    builder.fill("kv_lengths", 1, node="grow")
    executable = forerun.compile(builder.build(), pipeline="")
    with executable, pytest.raises(InvalidInput, match="'grow' writes %kv_lengths, so the batch cannot be read"):
        CheckedReplays(executable)
