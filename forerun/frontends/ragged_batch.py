"""The inputs of a step for a ragged batch (:mod:`~forerun.frontends.ragged_step`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forerun.frontends.ragged_step import RaggedCapacity
from forerun.ir.graph import Graph
from forerun.schedules.attention import lines_of
from forerun.support.diagnostics import InvalidInput

__all__ = ["Feed", "batch_inputs", "capacity_of"]

_INPUTS = ("tokens", "requests", "query_pointers", "kv_lengths", "page_pointers", "pages")


@dataclass(frozen=True, slots=True)
class Feed:
    """What a step feeds of one request.

    Attributes:
        slot: Where its pages lie: slot ``n`` has the ``n``-th run of them.
        tokens: One token or more.
        past: Tokens that were fed before.
    """

    slot: int
    tokens: Sequence[int]
    past: int


def capacity_of(graph: Graph) -> RaggedCapacity:
    """What a graph of :func:`~forerun.frontends.ragged_step.ragged_step_graph` has room for.

    Raises:
        InvalidInput: If it is another graph.
    """
    buffers = graph.buffers
    if not {*_INPUTS, "blk.0.k_cache", "attention.pointers"} <= set(buffers) or buffers["kv_lengths"].bounds is None:
        hint = "build it with ragged_step_graph"
        raise InvalidInput(f"graph '{graph.name}' is not a step for ragged batches", hint=hint)
    requests, rows = buffers["kv_lengths"].count, buffers["tokens"].count
    return RaggedCapacity(
        requests=requests,
        rows=rows,
        context=buffers["kv_lengths"].bounds[1],
        page_size=buffers["blk.0.k_cache"].shape[1],
        ctas=(buffers["attention.pointers"].count - 1) // lines_of(requests, rows),
    )


def batch_inputs(capacity: RaggedCapacity, feeds: Sequence[Feed]) -> dict[str, NDArray[np.int32]]:
    """The inputs, by name; zeros behind the actual counts.

    Args:
        capacity: Of the graph.
        feeds: The requests of the batch, each in a slot of its own.

    Raises:
        InvalidInput: If the batch does not fit the capacity, a request has no tokens, or one of them cannot be a
            number of the vocabulary.
    """
    _require_fit(capacity, feeds)
    shapes = {"tokens": capacity.rows, "requests": 1, "query_pointers": capacity.requests + 1}
    shapes |= {"kv_lengths": capacity.requests, "page_pointers": capacity.requests + 1}
    shapes |= {"pages": capacity.requests * capacity.pages}
    found = {name: np.zeros(size, np.int32) for name, size in shapes.items()}
    found["requests"][0] = len(feeds)
    rows, listed = found["query_pointers"], found["page_pointers"]
    for number, feed in enumerate(feeds):
        length = feed.past + len(feed.tokens)
        pages = -(-length // capacity.page_size)
        rows[number + 1], listed[number + 1] = rows[number] + len(feed.tokens), listed[number] + pages
        found["tokens"][rows[number] : rows[number + 1]] = feed.tokens
        found["kv_lengths"][number] = length
        found["pages"][listed[number] : listed[number + 1]] = feed.slot * capacity.pages + np.arange(pages)
    return found


def _require_fit(capacity: RaggedCapacity, feeds: Sequence[Feed]) -> None:
    if not 1 <= len(feeds) <= capacity.requests:
        hint = f"from 1 to {capacity.requests}"
        raise InvalidInput(f"a batch of {len(feeds)} requests does not fit the graph", hint=hint)
    rows = sum(len(feed.tokens) for feed in feeds)
    if rows > capacity.rows:
        raise InvalidInput(f"a batch of {rows} tokens does not fit the graph", hint=f"at most {capacity.rows}")
    slots = [feed.slot for feed in feeds]
    if len(set(slots)) < len(slots) or not all(0 <= slot < capacity.requests for slot in slots):
        raise InvalidInput(
            f"slots {slots} are not slots of their own", hint=f"different ones below {capacity.requests}"
        )
    for feed in feeds:
        if not feed.tokens:
            raise InvalidInput(f"the request in slot {feed.slot} has no tokens", hint="leave it out of the batch")
        if not all(0 <= token < 2**31 for token in feed.tokens):
            raise InvalidInput(f"the request in slot {feed.slot} has a token that is not a number of the vocabulary")
        if feed.past < 0 or feed.past + len(feed.tokens) > capacity.context:
            message = f"the request in slot {feed.slot} would have {feed.past + len(feed.tokens)} positions"
            raise InvalidInput(message, hint=f"the context has {capacity.context}")
