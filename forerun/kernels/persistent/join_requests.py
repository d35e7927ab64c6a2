"""Build a batch for persistent attention from the arrays of other programs, for one or two groups of requests.

FlashInfer, and engines built on it, store the length of each request's last page instead of its KV length, use separate
arrays for prefills and decodes, and have no query pointers for decodes, since each has one row.
"""

from __future__ import annotations

import numpy as np

from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.kernels.ragged.shapes import Words
from forerun.kernels.shapes import cuda_kernel

__all__ = ["KERNEL", "join", "launch_for"]

_THREADS = 256
_MOST_CTAS = 32


def launch_for(requests: int, pages: int) -> Launch:
    """One thread per request or page, in at most 32 CTAs."""
    return Launch((min(_MOST_CTAS, -(-max(requests + 1, pages) // _THREADS)), 1, 1), (_THREADS, 1, 1))


def _part(
    queries: Words, pointers: Words, lengths: Words, count: int, has_rows: int, last_pages: int, page_size: int
) -> tuple[Words, Words]:
    """Query pointers and KV lengths of a group; the KV length of a request without pages is 0."""
    rows = queries[: count + 1] if has_rows else np.arange(count + 1, dtype=np.int32)
    kv = lengths[:count]
    if last_pages:
        pages = np.diff(pointers[: count + 1])
        kv = np.where(pages > 0, (pages - 1) * page_size + kv, 0)
    return rows.astype(np.int32), kv.astype(np.int32)


@phase(writes="requests, query_pointers, kv_lengths, page_pointers, pages")
def join(
    queries_a: Words,
    pointers_a: Words,
    pages_a: Words,
    lengths_a: Words,
    queries_b: Words,
    pointers_b: Words,
    pages_b: Words,
    lengths_b: Words,
    count_a: int,
    count_b: int,
    has_rows_a: int,
    has_rows_b: int,
    last_pages: int,
    page_size: int,
    first_row_b: int,
    most_pages: int,
    page_step: int,
) -> tuple[Words, Words, Words, Words, Words]:
    """The batch of both groups, without trailing requests with no KV, with which engines pad.

    If the rows of the second group do not begin where those of the first end, the batch has -1 requests, which every
    schedule rejects.
    """
    rows_a, kv_a = _part(queries_a, pointers_a, lengths_a, int(count_a), has_rows_a, last_pages, page_size)
    rows_b, kv_b = _part(queries_b, pointers_b, lengths_b, int(count_b), has_rows_b, last_pages, page_size)
    kv = np.concatenate((kv_a, kv_b))
    filled = np.flatnonzero(kv > 0)
    requests = int(filled[-1]) + 1 if len(filled) else 0
    if count_b and rows_a[-1] != first_row_b:
        requests = -1
    rows = np.concatenate((rows_a, np.int32(first_row_b) + rows_b[1:])) if count_b else rows_a
    pointers = np.concatenate((pointers_a[: count_a + 1], pointers_a[count_a] + pointers_b[1 : count_b + 1]))
    pages, at = np.full(int(most_pages), -1, np.int32), 0
    for own, end in ((pages_a, pointers_a[count_a]), (pages_b, pointers_b[count_b] if count_b else 0)):
        count = min(max(int(end), 0), len(own), int(most_pages) - at)
        pages[at : at + count] = own[:count] * np.int32(page_step)
        at += count
    return np.array([requests], np.int32), rows, kv, pointers.astype(np.int32), pages


_GROUPS = ", ".join(
    f"queries_{group}: i32[_], pointers_{group}: i32[_], pages_{group}: i32[P{group.upper()}], lengths_{group}: i32[_]"
    for group in "ab"
)
_SCALARS = (
    "count_a",
    "count_b",
    "has_rows_a",
    "has_rows_b",
    "last_pages",
    "page_size",
    "first_row_b",
    "most_pages",
    "page_step",
)
KERNEL = cuda_kernel(
    "join_requests",
    f"{_GROUPS}, {', '.join(f'{name}: scalar i32' for name in _SCALARS)}, requests: i32[1], query_pointers: i32[R1], "
    "kv_lengths: i32[R], page_pointers: i32[R1], pages: i32[P]",
    join,
)
"""The arrays of a group: ``queries`` are index pointers of its requests into its rows, read only if ``has_rows`` is set
(otherwise each request has one row); ``pointers`` are those into ``pages``; ``lengths`` are KV lengths, or with
``last_pages`` the lengths of last pages. ``R`` must be ``count_a + count_b``, and ``P`` must be ``most_pages``. The
second group begins at row ``first_row_b``; if it has no requests, its arrays are not read. Page ``n`` of a list is page
``n * page_step`` of the cache; the step is 2 if pages of keys and of values alternate."""
