"""How evenly a schedule shares the work, by the costs of its tasks."""

from __future__ import annotations

import numpy as np

from forerun.schedules.schedule import Schedule
from forerun.schedules.tasks import Integers, Tasks

__all__ = ["imbalance", "loads"]


def loads(schedule: Schedule, tasks: Tasks) -> Integers:
    """What the items of each CTA cost together ``[CTAs]``, in the units of the tasks' costs."""
    index = {key: i for i, key in enumerate(tasks.keys())}
    found = np.zeros(schedule.capacity.ctas, np.int64)
    for cta in range(schedule.capacity.ctas):
        for item in schedule.of_cta(cta):
            task = index[item[:3]]
            blocks = -(-(item.end - item.begin) // int(tasks.block[task]))
            found[cta] += int(tasks.fixed[task]) + int(tasks.per_block[task]) * blocks
    return found


def imbalance(schedule: Schedule, tasks: Tasks) -> float:
    """The busiest CTA over the mean of all; 1 is perfect, and is returned where nothing is to be done.

    With two work lists, the greater ratio of the two: a CTA has a share of each, and executes both at the same time.
    """
    halves = np.split(loads(schedule, tasks), schedule.capacity.lines)
    return max((float(half.max() / half.mean()) for half in halves if half.any()), default=1.0)
