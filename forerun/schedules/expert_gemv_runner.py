"""Tiles of ragged expert products in NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from forerun.schedules.execution import Floats
from forerun.schedules.expert_gemv import ExpertBatch, ExpertGemv
from forerun.schedules.schedule import Item
from forerun.support.diagnostics import InvalidInput

__all__ = ["ExpertGemvRunner"]


class ExpertGemvRunner:
    """Runs items of products, in f32. A partial result is the whole tile, with 0 for outputs that the item lacks.

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
        self._family, self._batch, self._w, self._x = family, batch, w, x
        self.y: Floats = np.full((len(x), family.outputs), np.nan, np.float32)

    @property
    def slot_floats(self) -> int:
        """Room for all outputs of a group of rows."""
        return self._family.rows * self._family.outputs

    def compute(self, item: Item) -> Floats:
        """The products ``[rows * outputs]``. Each is a sum of its own, so its bits depend on nothing else."""
        rows, outputs = self.rows_of(item), slice(item.begin, item.end)
        found = np.zeros((rows.stop - rows.start, self._family.outputs), np.float32)
        for result, x in zip(found, self._x[rows], strict=True):
            result[outputs] = (self._w[item.owner, outputs] * x).sum(axis=1)
        return found.reshape(-1)

    def finish(self, item: Item, parts: Sequence[Floats]) -> None:
        """The parts added in the order given: of an output, all but one are 0."""
        place = self.rows_of(item)
        total = np.zeros(self.y[place].shape, np.float32)
        for part in parts:
            total += part[: total.size].reshape(total.shape)
        self.y[place] = total

    def rows_of(self, item: Item) -> slice:
        """The rows of the item's group."""
        begin = int(self._batch.row_pointers[item.owner]) + item.lane * self._family.rows
        return slice(begin, min(begin + self._family.rows, int(self._batch.row_pointers[item.owner + 1])))
