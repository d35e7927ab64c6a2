"""Attention tiles in NumPy: what a CTA computes for an item, and how partial results become one (arXiv:2307.08691)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from forerun.schedules.attention import TILES, Attention, AttentionBatch
from forerun.schedules.execution import Floats
from forerun.schedules.schedule import Item
from forerun.support.diagnostics import InvalidInput

__all__ = ["AttentionRunner"]


class AttentionRunner:
    """Runs attention items of one batch, in f32.

    A partial result has a row for each packed query row: the values weighted by ``exp(score - greatest score)``, the
    greatest score, and the sum of the weights; ``-inf`` and 0 for a row that sees none of the positions.

    Args:
        family: The shapes.
        batch: The batch.
        q: The queries ``[rows, heads, head_size]``.
        k_cache: The keys ``[cache pages, page_size, kv_heads, head_size]``.
        v_cache: The values, of the same shape.

    Attributes:
        y: The results ``[rows, heads, head_size]``; NaN where none is written.

    Raises:
        InvalidInput: If a shape is not that of the family.
    """

    def __init__(self, family: Attention, batch: AttentionBatch, q: Floats, k_cache: Floats, v_cache: Floats) -> None:
        cache = (family.cache_pages, family.page_size, family.kv_heads, family.head_size)
        if q.ndim != 3 or q.shape[1:] != (family.heads, family.head_size):
            raise InvalidInput(f"attention: q is {list(q.shape)}, not [rows, {family.heads}, {family.head_size}]")
        if len(q) < batch.query_pointers[batch.requests]:
            raise InvalidInput(f"attention: q has {len(q)} rows, the batch {batch.query_pointers[batch.requests]}")
        for name, array in (("k_cache", k_cache), ("v_cache", v_cache)):
            if array.shape != cache:
                raise InvalidInput(f"attention: {name} is {list(array.shape)}, not {list(cache)}")
        self._family, self._batch = family, batch
        self._q, self._k, self._v = q, k_cache, v_cache
        self.y: Floats = np.full(q.shape, np.nan, np.float32)

    @property
    def slot_floats(self) -> int:
        """Room for the largest tile."""
        return TILES[-1] * (self._family.head_size + 2)

    def compute(self, item: Item) -> Floats:
        """The partial result ``[packed rows * (head_size + 2)]``."""
        positions = np.arange(item.begin, item.end)
        first = int(self._batch.page_pointers[item.owner])
        page = self._batch.pages[first + positions // self._family.page_size]
        at = (page, positions % self._family.page_size, item.lane)
        row, head = self._rows(item)
        queries = int(self._batch.query_pointers[item.owner + 1]) - int(self._batch.query_pointers[item.owner])
        sees = int(self._batch.kv_lengths[item.owner]) - queries + (row - self._batch.query_pointers[item.owner]) + 1
        scores = (self._q[row, head] @ self._k[at].T) * np.float32(self._family.head_size**-0.5)
        scores = np.where(positions < sees[:, np.newaxis], scores, np.float32(-np.inf))
        greatest = scores.max(axis=1, keepdims=True)
        weights = np.exp(scores - np.where(np.isinf(greatest), np.float32(0), greatest))
        sums = weights.sum(axis=1, keepdims=True)
        return np.concatenate((weights @ self._v[at], greatest, sums), axis=1).reshape(-1)

    def finish(self, item: Item, parts: Sequence[Floats]) -> None:
        """Each part weighted by ``exp(its greatest score - the greatest of all)``, over the sum of all weights."""
        at = self._rows(item)
        width = self._family.head_size + 2
        tables = [part[: len(at[0]) * width].reshape(-1, width) for part in parts]
        greatest = tables[0][:, -2]
        for part in tables[1:]:
            greatest = np.maximum(greatest, part[:, -2])
        total = np.zeros((len(greatest), width - 1), np.float32)
        for part in tables:
            share = np.exp(part[:, -2] - greatest)[:, np.newaxis]
            total[:, :-1] += share * part[:, :-2]
            total[:, -1:] += share * part[:, -1:]
        self.y[at] = total[:, :-1] / total[:, -1:]

    def _rows(self, item: Item) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ...]:
        """The query row and the head of each packed row of the tile."""
        begin, end = (int(pointer) for pointer in self._batch.query_pointers[item.owner : item.owner + 2])
        packed = np.arange(item.tile * item.size, min((item.tile + 1) * item.size, (end - begin) * self._family.group))
        return begin + packed // self._family.group, item.lane * self._family.group + packed % self._family.group
