"""Products of ragged rows with the weights of their experts: ``y[i] = w[e] @ x[i]`` for the rows ``i`` of expert ``e``.

Rows are sorted by expert, as a router leaves them. An expert's rows are taken in groups, so that its weights are read
once for a group. The long axis is the outputs: items of a group compute different ones, so no result depends on cuts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from forerun.schedules.capacity import Bounds, Capacity
from forerun.schedules.schedule import Words
from forerun.schedules.status import Finding, Status
from forerun.schedules.tasks import Costs, Integers, Tasks, extents, ragged
from forerun.support.diagnostics import InvalidInput

__all__ = ["OUTPUT_BLOCK", "ExpertBatch", "ExpertGemv"]

OUTPUT_BLOCK = 16
"""Outputs between which the products of a group may be cut: as many as the tensor cores take."""

_FEW_COLUMNS = 3584


@dataclass(frozen=True)
class ExpertBatch:
    """Rows of each expert.

    Attributes:
        row_pointers: Where the rows of each expert begin, and at the end their number; int32.

    Raises:
        InvalidInput: If it is not a one-dimensional array of int32.
    """

    row_pointers: Words

    def __post_init__(self) -> None:
        array = self.row_pointers
        if not isinstance(array, np.ndarray) or array.dtype != np.int32 or array.ndim != 1:
            raise InvalidInput("expert batch: row_pointers must be a one-dimensional NumPy array of int32")


@dataclass(frozen=True)
class ExpertGemv:
    """The family of products. Its owners are experts, its lanes groups of rows, which have one tile each.

    Attributes:
        experts: Matrices of weights.
        outputs: Rows of a matrix.
        columns: Columns of a matrix.
        costs: What an item of a group costs; a block is 16 outputs.

    Raises:
        InvalidInput: If a number is not a positive integer.
    """

    experts: int
    outputs: int
    columns: int
    costs: Costs = field(default=Costs(1, 3))

    def __post_init__(self) -> None:
        for name in ("experts", "outputs", "columns"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value < 2**31:
                raise InvalidInput(f"expert gemv: {name} cannot be {value!r}", hint="it is a positive integer")

    @property
    def rows(self) -> int:
        """Rows of a group: 16, or 8 where rows are long. They lie in the shared memory of an SM, beside weights."""
        return 16 if self.columns <= _FEW_COLUMNS else 8

    def check(self, batch: ExpertBatch, capacity: Capacity) -> Finding:
        """The first fault of the pointers.

        Raises:
            InvalidInput: If there are fewer pointers than experts, or more experts than the capacity has requests.
        """
        if not isinstance(batch, ExpertBatch):
            raise InvalidInput(f"expert batch: {type(batch).__name__} is not an ExpertBatch")
        if capacity.requests < self.experts or len(batch.row_pointers) < self.experts + 1:
            raise InvalidInput(f"expert batch: pointers and capacity must have room for {self.experts} experts")
        pointers = batch.row_pointers
        decreases = extents(pointers, self.experts) < 0
        if pointers[0] != 0:
            return Finding(Status.BAD_POINTERS, 0)
        if decreases.any():
            return Finding(Status.BAD_POINTERS, int(np.argmax(decreases)))
        if pointers[self.experts] == 0:
            return Finding(Status.NO_REQUESTS)
        return Finding(Status.TOO_MANY_ROWS) if pointers[self.experts] > capacity.rows else Finding()

    def tasks(self, batch: ExpertBatch) -> Tasks:
        """One task a group of rows of an expert; experts without rows have none."""
        owner, lane = ragged(-(-extents(batch.row_pointers, self.experts) // self.rows))

        def constant(value: int) -> Integers:
            return np.full(len(owner), value, np.int64)

        return Tasks(
            owner=owner,
            lane=lane,
            tile=constant(0),
            size=constant(self.rows),
            length=constant(self.outputs),
            block=constant(OUTPUT_BLOCK),
            fixed=constant(self.costs.fixed),
            per_block=constant(self.costs.per_block),
            siblings=constant(1),
            can_split=np.ones(len(owner), np.bool_),
        )

    def bounds(self, capacity: Capacity) -> Bounds:
        """An expert with rows has one group of them, and another one for each more that are full."""
        experts = min(self.experts, capacity.rows)
        groups = experts + (capacity.rows - experts) // self.rows
        return Bounds(groups, groups, groups * self.outputs)
