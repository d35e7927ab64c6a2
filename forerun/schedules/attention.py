"""Attention over a paged KV cache, for a ragged batch: some requests prefill, some decode, all lengths differ.

The queries of a request are the last rows of its KV, so row ``i`` of ``q`` sees the positions before ``kv - q + i + 1``
(causal). Query heads that share a KV head are packed into one tile, as FlashInfer does (arXiv:2501.01005): row ``i`` of
head ``h`` in a group of ``g`` is the packed row ``i * g + h``. A tile has 16 packed rows if the request has at most 16
of a KV head (decode), 64 if it has at most 64, and else 128 (prefill).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from forerun.schedules.capacity import Bounds, Capacity
from forerun.schedules.schedule import POISON, Words
from forerun.schedules.status import Finding, Status
from forerun.schedules.tasks import Costs, Integers, Tasks, extents, ragged
from forerun.support.diagnostics import InvalidInput

__all__ = ["KV_BLOCK", "TILES", "Attention", "AttentionBatch", "attention_batch", "lines_of"]

TILES = (16, 64, 128)
"""Packed query rows of a tile."""

KV_BLOCK = 64
"""Positions between which the KV of a tile may be cut."""


def lines_of(requests: int, rows: int) -> int:
    """The number of work lists: two, of large and of small tiles, if there is room for more rows than requests."""
    return 2 if rows > requests else 1


def _default_costs() -> dict[int, Costs]:
    # In about tenths of a microsecond on an H200. If large tiles have their own work list, only the ratio of the two
    # costs of a tile matters. That of small tiles is measured: with a fixed cost of 3, decodes of skewed lengths took
    # 240 us, and sorted ones 350 us; with 24, 232 us and 231 us.
    return {16: Costs(24, 6), 64: Costs(20, 12), 128: Costs(20, 12)}


@dataclass(frozen=True)
class AttentionBatch:
    """A batch as an engine has it, in arrays of the capacity's sizes. What is behind the actual counts is never read.

    Attributes:
        requests: The number of requests.
        query_pointers: Where the query rows of each request begin, and at the end their number; int32.
        kv_lengths: Positions in the KV of each request, its query rows included; int32.
        page_pointers: Where the page list of each request begins, and at the end their number; int32.
        pages: The pages of all requests, in the order of positions; int32.

    Raises:
        InvalidInput: If an array is not a one-dimensional one of int32, or the number of requests is not an integer.
    """

    requests: int
    query_pointers: Words
    kv_lengths: Words
    page_pointers: Words
    pages: Words

    def __post_init__(self) -> None:
        if type(self.requests) is not int:
            raise InvalidInput(f"attention batch: the number of requests cannot be {self.requests!r}")
        for name in ("query_pointers", "kv_lengths", "page_pointers", "pages"):
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.dtype != np.int32 or array.ndim != 1:
                raise InvalidInput(f"attention batch: {name} must be a one-dimensional NumPy array of int32")

    def query_lengths(self) -> Integers:
        """Query rows of each request."""
        return extents(self.query_pointers, self.requests)


@dataclass(frozen=True)
class Attention:
    """The family of attention tiles. Its owners are requests, its lanes KV heads, its long axis KV positions.

    Attributes:
        heads: Query heads; a multiple of ``kv_heads``.
        kv_heads: KV heads.
        head_size: Elements of a head.
        page_size: Positions of a page.
        cache_pages: Pages of the cache: a page's number is below.
        costs: The cost of each tile; estimated, until someone measures them.

    Raises:
        InvalidInput: If a number is not a positive integer, heads do not divide, or a tile has no cost.
    """

    heads: int
    kv_heads: int
    head_size: int
    page_size: int
    cache_pages: int
    costs: Mapping[int, Costs] = field(default_factory=_default_costs)

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name != "costs" and (type(value) is not int or not 1 <= value < 2**31):
                raise InvalidInput(f"attention: {each.name} cannot be {value!r}", hint="it is a positive integer")
        if self.heads % self.kv_heads:
            raise InvalidInput(f"attention: {self.heads} query heads are not a multiple of {self.kv_heads} KV heads")
        if set(self.costs) != set(TILES):
            raise InvalidInput("attention: costs must name the tiles 16, 64 and 128, and no others")

    @property
    def group(self) -> int:
        """Query heads of a KV head."""
        return self.heads // self.kv_heads

    def check(self, batch: AttentionBatch, capacity: Capacity) -> Finding:
        """The first fault of a batch, in the order of :class:`~forerun.schedules.status.Status`.

        On a device: one thread a request, one a page, and an atomic minimum on the status word. Each group of checks
        reads only what the group before it found right.

        Raises:
            InvalidInput: If it is not a batch, or its arrays are shorter than the capacity.
        """
        _check_arrays(batch, capacity)
        count = batch.requests
        if count < 1:
            return Finding(Status.NO_REQUESTS)
        if count > capacity.requests:
            return Finding(Status.TOO_MANY_REQUESTS)
        for pointers in (batch.query_pointers, batch.page_pointers):
            decreases = extents(pointers, count) < 0
            if pointers[0] != 0 or decreases.any():
                return Finding(Status.BAD_POINTERS, int(np.argmax(decreases)) if pointers[0] == 0 else 0)
        if batch.query_pointers[count] > capacity.rows:
            return Finding(Status.TOO_MANY_ROWS)
        if batch.page_pointers[count] > capacity.pages:
            return Finding(Status.TOO_MANY_PAGES)
        return self._check_requests(batch)

    def _check_requests(self, batch: AttentionBatch) -> Finding:
        lengths = batch.kv_lengths[: batch.requests].astype(np.int64)
        needed = -(-lengths // self.page_size)
        faults = {
            Status.BAD_LENGTH: lengths < 0,
            Status.QUERY_LONGER_THAN_KV: batch.query_lengths() > lengths,
            Status.TOO_FEW_PAGES: needed > extents(batch.page_pointers, batch.requests),
        }
        for status, faulty in faults.items():
            if faulty.any():
                return Finding(status, int(np.argmax(faulty)))
        # Of pages that were reserved ahead of need nothing is asked.
        owner, within = ragged(needed)
        pages = batch.pages[batch.page_pointers[owner] + within]
        bad = (pages < 0) | (pages >= self.cache_pages)
        return Finding(Status.BAD_PAGE, int(owner[np.argmax(bad)])) if bad.any() else Finding()

    def tasks(self, batch: AttentionBatch) -> Tasks:
        """One task per request, KV head and query tile; tiles of 16 rows and larger ones are on separate work lists.

        Small tiles are memory-bound, and large ones compute-bound: a CTA executes both at the same time.

        On a device: one exclusive scan of the tiles of the requests; each task finds its request by binary search.
        """
        queries, lengths = batch.query_lengths(), batch.kv_lengths[: batch.requests].astype(np.int64)
        packed = queries * self.group
        sizes = np.array(TILES)[np.searchsorted(TILES[:-1], packed)]
        tiles = -(-packed // sizes)
        owner, within = ragged(tiles * self.kv_heads)
        lane, tile = within // tiles[owner], within % tiles[owner]
        size = sizes[owner]
        last_row = np.minimum((tile + 1) * size, packed[owner]) - 1
        length = lengths[owner] - queries[owner] + last_row // self.group + 1
        kind = np.searchsorted(TILES, size)
        fixed, per_block = (
            np.array([getattr(self.costs[t], name) for t in TILES])[kind] for name in ("fixed", "per_block")
        )
        block = np.full(len(owner), KV_BLOCK)
        can_split = np.ones(len(owner), np.bool_)
        line = (size == TILES[0]).astype(np.int64)
        return Tasks(owner, lane, tile, size, length, block, fixed, per_block, tiles[owner], can_split, line)

    def bounds(self, capacity: Capacity) -> Bounds:
        """A request with rows has one tile of each KV head, and another one for each 128 packed rows more."""
        requests = min(capacity.requests, capacity.rows)
        tiles = requests + (capacity.rows * self.group - requests) // TILES[-1]
        positions = capacity.pages * self.page_size
        lines = lines_of(capacity.requests, capacity.rows)
        return Bounds(self.kv_heads * tiles, self.kv_heads * requests, self.kv_heads * positions, lines)


def attention_batch(
    family: Attention,
    capacity: Capacity,
    query_lengths: Sequence[int],
    kv_lengths: Sequence[int],
    pages: Sequence[int] | None = None,
) -> AttentionBatch:
    """A batch in arrays of the capacity's sizes, with poison behind the actual counts.

    Args:
        family: Whose page size counts.
        capacity: What the arrays are sized for.
        query_lengths: Query rows of each request.
        kv_lengths: KV positions of each request.
        pages: The pages of all requests; 0, 1, 2 and so on by default.

    Raises:
        InvalidInput: If the lists differ in length, are longer than the capacity, have other values than integers, or
            add up to more than 32 bits hold.
    """
    if len(query_lengths) != len(kv_lengths):
        raise InvalidInput(f"attention batch: {len(query_lengths)} query lengths, but {len(kv_lengths)} KV lengths")
    for value in (*query_lengths, *kv_lengths, *(pages or ())):
        if not isinstance(value, (int, np.integer)) or not -(2**31) <= value < 2**31:
            raise InvalidInput(f"attention batch: {value!r} is not an integer of 32 bits")
    needed = [-(-length // family.page_size) for length in kv_lengths]
    listed = range(sum(needed)) if pages is None else pages
    if len(kv_lengths) > capacity.requests or len(listed) > capacity.pages:
        raise InvalidInput(f"attention batch: {len(kv_lengths)} requests with {len(listed)} pages exceed the capacity")

    def padded(values: Sequence[int], size: int) -> Words:
        array = np.full(size, POISON, np.int32)
        array[: len(values)] = values
        return array

    def pointers(lengths: Sequence[int]) -> list[int]:
        found = [0, *np.cumsum(lengths, dtype=np.int64).tolist()]
        if max(found) >= 2**31 or min(found) < -(2**31):
            raise InvalidInput("attention batch: the lengths add up to more than 32 bits hold", hint="a smaller batch")
        return found

    return AttentionBatch(
        len(kv_lengths),
        padded(pointers(query_lengths), capacity.requests + 1),
        padded(kv_lengths, capacity.requests),
        padded(pointers(needed), capacity.requests + 1),
        padded(listed, capacity.pages),
    )


def _check_arrays(batch: AttentionBatch, capacity: Capacity) -> None:
    if not isinstance(batch, AttentionBatch):
        raise InvalidInput(f"attention batch: {type(batch).__name__} is not an AttentionBatch")
    least = {
        "query_pointers": capacity.requests + 1,
        "kv_lengths": capacity.requests,
        "page_pointers": capacity.requests + 1,
        "pages": capacity.pages,
    }
    for name, size in least.items():
        if len(getattr(batch, name)) < size:
            raise InvalidInput(
                f"attention batch: {name} has {len(getattr(batch, name))} entries, the capacity needs {size}"
            )
