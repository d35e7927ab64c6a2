"""Tiles of ragged expert products in NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from forerun.schedules.execution import Floats
from forerun.schedules.expert_gemv import OUTPUTS, ROWS, ExpertBatch, ExpertGemv
from forerun.schedules.schedule import Item
from forerun.support.diagnostics import InvalidInput

__all__ = ["ExpertGemvRunner"]


class ExpertGemvRunner:
    """Runs items of products, in f32. A partial result is the sum over the item's columns, row by row.

    Args:
        family: The shapes.
        batch: The batch.
        w: The weights ``[experts, outputs, columns]``.
        x: The rows, sorted by expert ``[rows, columns]``.

    Attributes:
        y: The results ``[rows, outputs]``; NaN where none is written.

    Raises:
        InvalidInput: If a shape is not that of the family.
    """

    def __init__(self, family: ExpertGemv, batch: ExpertBatch, w: Floats, x: Floats) -> None:
        if w.shape != (family.experts, family.outputs, family.columns) or x.shape[1:] != (family.columns,):
            raise InvalidInput(
                f"expert gemv: w is {list(w.shape)} and x {list(x.shape)}, which are not those of {family}"
            )
        self._batch, self._w, self._x = batch, w, x
        self.y: Floats = np.full((len(x), family.outputs), np.nan, np.float32)

    @property
    def slot_floats(self) -> int:
        """Room for a whole tile."""
        return ROWS * OUTPUTS

    def compute(self, item: Item) -> Floats:
        """The sums over the columns of the item ``[rows * outputs of the tile]``; each row is a product of its own."""
        rows, outputs = self._place(item)
        w = self._w[item.owner, outputs, item.begin : item.end]
        return np.concatenate([w @ x for x in self._x[rows, item.begin : item.end]])

    def finish(self, item: Item, parts: Sequence[Floats]) -> None:
        """The parts added in the order given."""
        place = self._place(item)
        shape = self.y[place].shape
        total = np.zeros(shape, np.float32)
        for part in parts:
            total += part[: total.size].reshape(shape)
        self.y[place] = total

    def _place(self, item: Item) -> tuple[slice, slice]:
        begin = int(self._batch.row_pointers[item.owner]) + item.lane * ROWS
        end = min(begin + ROWS, int(self._batch.row_pointers[item.owner + 1]))
        return slice(begin, end), slice(item.tile * OUTPUTS, (item.tile + 1) * OUTPUTS)
