"""Products of ragged rows with the weights of their experts: ``y[i] = w[e] @ x[i]`` for the rows ``i`` of expert ``e``.

Rows are sorted by expert, as a router leaves them. An expert's rows are taken eight at a time, so that its weights are
read once for eight rows. The long axis is the columns of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from forerun.schedules.capacity import Bounds, Capacity
from forerun.schedules.schedule import Words
from forerun.schedules.status import Finding, Status
from forerun.schedules.tasks import Costs, Integers, Tasks, extents, ragged
from forerun.support.diagnostics import InvalidInput

__all__ = ["COLUMN_BLOCK", "OUTPUTS", "ROWS", "ExpertBatch", "ExpertGemv"]

ROWS = 8
"""Rows that share a read of the weights."""

OUTPUTS = 64
"""Rows of the weights in a tile."""

COLUMN_BLOCK = 128
"""Columns between which a product may be cut."""


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
    """The family of tiles of products. Its owners are experts, its lanes groups of eight rows.

    The splits of a task depend on the shape of the weights alone under :class:`~forerun.schedules.cuts.Invariant`, so
    the result of a row does not depend on the other rows.

    Attributes:
        experts: Matrices of weights.
        outputs: Rows of a matrix.
        columns: Columns of a matrix.
        costs: The cost of a tile.

    Raises:
        InvalidInput: If a number is not a positive integer.
    """

    experts: int
    outputs: int
    columns: int
    costs: Costs = field(default=Costs(2, 4))

    def __post_init__(self) -> None:
        for name in ("experts", "outputs", "columns"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value < 2**31:
                raise InvalidInput(f"expert gemv: {name} cannot be {value!r}", hint="it is a positive integer")

    @property
    def tiles(self) -> int:
        """Tiles of a matrix."""
        return -(-self.outputs // OUTPUTS)

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
        """One task an expert, group of rows, and tile of the outputs; experts without rows have none."""
        rows = extents(batch.row_pointers, self.experts)
        owner, within = ragged(-(-rows // ROWS) * self.tiles)

        def constant(value: int) -> Integers:
            return np.full(len(owner), value, np.int64)

        return Tasks(
            owner=owner,
            lane=within // self.tiles,
            tile=within % self.tiles,
            size=constant(ROWS),
            length=constant(self.columns),
            block=constant(COLUMN_BLOCK),
            fixed=constant(self.costs.fixed),
            per_block=constant(self.costs.per_block),
            siblings=constant(self.tiles),
            can_split=np.ones(len(owner), np.bool_),
        )

    def bounds(self, capacity: Capacity) -> Bounds:
        """An expert with rows has one group of them, and another one for each eight more."""
        experts = min(self.experts, capacity.rows)
        groups = experts + (capacity.rows - experts) // ROWS
        return Bounds(groups * self.tiles, groups, groups * self.columns)
