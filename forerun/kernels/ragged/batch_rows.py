"""The rows of a ragged batch: how many there are, where each stands, and where its keys and values go."""

from __future__ import annotations

import numpy as np

from forerun.ir.nodes import Launch
from forerun.ir.phases import phase
from forerun.kernels.ragged.shapes import Words
from forerun.kernels.shapes import cuda_kernel
from forerun.schedules.status import Status

__all__ = ["KERNEL", "count", "launch_for"]

_THREADS = 256
_BATCH = "requests: i32[1], query_pointers: i32[_], kv_lengths: i32[R], page_pointers: i32[_], pages: i32[_]"
_FOUND = "rows: i32[1], answers: i32[1], positions: i32[Q], places: i32[Q], last: i32[R]"


def launch_for(requests: int, rows: int) -> Launch:
    """One thread a row, and one a request."""
    return Launch((-(-max(requests, rows) // _THREADS), 1, 1), (_THREADS, 1, 1))


@phase(writes="rows, answers, positions, places, last")
def count(
    requests: Words,
    query_pointers: Words,
    kv_lengths: Words,
    page_pointers: Words,
    pages: Words,
    status: Words,
    page_size: int,
    most_rows: int,
) -> tuple[Words, Words, Words, Words, Words]:
    """What is known of each row and request; -1 behind the actual counts. A bad batch has no rows and no requests."""
    n = 0 if Status(int(status[0])).is_error else int(requests[0])
    found_positions, found_places = (np.full(int(most_rows), -1, np.int32) for _ in range(2))
    found_last = np.full(len(kv_lengths), -1, np.int32)
    for request in range(n):
        begin, end = (int(x) for x in query_pointers[request : request + 2])
        at = int(kv_lengths[request]) - (end - begin) + np.arange(end - begin)
        page = pages[page_pointers[request] + at // int(page_size)]
        found_positions[begin:end] = at
        found_places[begin:end] = page * page_size + at % page_size
        found_last[request] = end - 1 if end > begin else -1
    total = int(query_pointers[n]) if n else 0
    return np.array([total], np.int32), np.array([n], np.int32), found_positions, found_places, found_last


KERNEL = cuda_kernel(
    "batch_rows",
    f"{_BATCH}, status: i32[2], page_size: scalar i32, most_rows: scalar i32, {_FOUND}",
    count,
)
"""``places`` are rows of the cache, ``page * page_size + position within the page``; ``last`` is the last row of a
request, or -1 if it has none. ``most_rows`` must be the extent ``Q``; ``status`` is that of the schedule, which has
checked the batch."""
