"""A family, a policy, a rule or a runner of the user's that is wrong is told what is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from forerun.ir.types import DType
from forerun.kernels.persistent.ragged_attention import RaggedAttention
from forerun.schedules.attention import attention_batch
from forerun.schedules.capacity import Bounds
from forerun.schedules.cuts import Shares
from forerun.schedules.execution import Workspace, execute
from forerun.schedules.policies import prefix_sums
from forerun.schedules.schedule import capacity_for, make_schedule
from forerun.schedules.status import Finding
from forerun.schedules.tasks import Tasks
from forerun.support.diagnostics import InvalidInput
from tests.schedules.batches import FAMILY

ONES = np.ones(3, np.int64)
TASKS = Tasks(np.arange(3), 0 * ONES, 0 * ONES, ONES, 100 * ONES, 32 * ONES, ONES, ONES, ONES, ONES > 0)


class Rows:
    """Three rows of a hundred."""

    slot_floats = 1

    def __init__(self, tasks=TASKS, finding=Finding(), bounds=Bounds(3, 3, 300)):  # noqa: B008 - they are immutable
        self.made, self.finding, self.most = tasks, finding, bounds

    def check(self, batch, capacity):
        return self.finding

    def tasks(self, batch):
        return self.made

    def bounds(self, capacity):
        return self.most


CAPACITY = capacity_for(Rows(), 3, 3, ctas=2)


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (Rows(finding=None), "check.. of the family must return a Finding, not NoneType"),
        (Rows(tasks=[]), "tasks.. of the family must return Tasks, not list"),
        (Rows(replace(TASKS, length=100.0 * ONES)), "tasks: length must be a NumPy array of integers"),
        (Rows(replace(TASKS, lane=ONES[:2])), "tasks: lane must be a NumPy array of integers"),
        (Rows(replace(TASKS, can_split=ONES)), "tasks: can_split must be a NumPy array of booleans"),
        (Rows(replace(TASKS, block=np.array([32, 0, 32]))), "tasks: block of task 1 cannot be 0"),
        (Rows(replace(TASKS, length=np.array([1, 1, 2**31]))), "tasks: length of task 2 cannot be 2147483648"),
        (Rows(replace(TASKS, per_block=0 * ONES)), "tasks: per_block of task 0 cannot be 0"),
        (Rows(replace(TASKS, line=2 * ONES)), "tasks: line of task 0 cannot be 2"),
    ],
)
def test_families(family, message):
    with pytest.raises(InvalidInput, match=message):
        make_schedule(family, None, CAPACITY)


@pytest.mark.parametrize(
    "policy", ["round-robin", lambda items, ctas: None, lambda items, ctas: (items.cost / 2, [0.0])]
)
def test_policies(policy):
    with pytest.raises(InvalidInput, match=r"is not a policy|the policy must return two arrays of integers"):
        make_schedule(Rows(), None, CAPACITY, policy)


def test_bounds_and_rules():
    with pytest.raises(InvalidInput, match="must return Bounds"):
        capacity_for(Rows(bounds=None), 3, 3)
    for cuts in ("shares", Shares):
        with pytest.raises(InvalidInput, match="is not a rule of cuts"):
            capacity_for(Rows(), 3, 3, cuts=cuts)
        with pytest.raises(InvalidInput, match="is not a rule of cuts"):
            make_schedule(Rows(), None, CAPACITY, prefix_sums, cuts)


@pytest.mark.parametrize("part", [None, 1.0, np.ones((1, 1), np.float32), np.ones(2, np.float32)])
def test_partial_results_that_are_not_those_of_a_slot(part):
    runner = Rows()
    runner.compute = lambda item: part
    with pytest.raises(InvalidInput, match=r"compute\(\) of the runner returned"):
        execute(make_schedule(runner, None, CAPACITY), runner, Workspace(CAPACITY, 1), lambda events: 0)


def test_lengths_beyond_32_bits():
    capacity = capacity_for(FAMILY, 2, 8, 8)
    with pytest.raises(InvalidInput, match="more than 32 bits"):
        attention_batch(FAMILY, capacity, [2**31 - 1, 1], [1, 1])


def test_attention_of_types_without_tensor_cores():
    with pytest.raises(InvalidInput, match="f32 are not supported"):
        RaggedAttention(FAMILY, capacity_for(FAMILY, 2, 8, 8), dtype=DType.F32)
