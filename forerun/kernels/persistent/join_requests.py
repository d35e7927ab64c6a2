"""The batch of persistent attention, from the arrays that other programs have of it: one or two groups of requests.

FlashInfer and engines built on it say how far the last page of a request is filled, instead of how long its KV is, keep
arrays of their own for prefills and for decodes, and have none for the queries of decodes, since each has one row.
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
    """One thread a request and one a page, as far as 32 CTAs have them."""
    return Launch((min(_MOST_CTAS, -(-max(requests + 1, pages) // _THREADS)), 1, 1), (_THREADS, 1, 1))


def _part(
    queries: Words, pointers: Words, lengths: Words, count: int, has_rows: int, last_pages: int, page_size: int
) -> tuple[Words, Words]:
    """Query pointers and KV lengths of a group; a request without pages has no KV."""
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
    """The batch of both groups; requests at the end that have no KV are not counted, as engines pad with them.

    If the rows of the first group do not end where those of the second one begin, it has -1 requests, which no
    schedule takes.
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
"""The arrays of a group: ``queries`` are pointers to its rows, which are looked at if it ``has_rows`` of its own, and
otherwise it has one a request; ``pointers`` those into its list of ``pages``; ``lengths`` the KV lengths, or with
``last_pages`` how far last pages are filled. ``R`` must be ``count_a + count_b``, and ``P`` be ``most_pages``. The
second group may have no requests; its arrays are not read then. Its rows begin at ``first_row_b``. Page ``n`` of a list
is page ``n * page_step`` of the cache: 2 where pages of keys and of values take turns."""
