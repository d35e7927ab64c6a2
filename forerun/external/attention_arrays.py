"""What the author of a captured graph says of its attention: the arrays of each layer, and those of the requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["AttentionLayer", "LayerError", "RequestArrays"]


@dataclass(frozen=True, eq=False)
class AttentionLayer:
    """The arrays of one layer, on the GPU, of bf16 or f16.

    Attributes:
        q: Queries of all requests: rows, query heads, elements of a head.
        k_cache: Keys: pages, positions of a page, KV heads, elements of a head; or both: pages, 2, and so on.
        v_cache: Values, in the same shape; ``None`` if ``k_cache`` has both.
        y: Results, like the queries.
    """

    q: Any
    k_cache: Any
    v_cache: Any
    y: Any


@dataclass(frozen=True, eq=False)
class RequestArrays:
    """The arrays of some requests of a batch, on the GPU, of int32. What they hold may change between replays.

    Attributes:
        page_pointers: Where the pages of each request begin in ``pages``, and the end; one more than requests.
        pages: The pages of the KV cache.
        lengths: KV lengths, the query rows included; or with ``last_pages`` how far each last page is filled, as
            FlashInfer has it.
        query_pointers: Where the rows of each request begin, and the end; ``None`` if each has one row.
        last_pages: What ``lengths`` are.
        first_row: Of a second group: the row of the queries at which its rows begin. It need not be said if each
            request of the first group has one row.
    """

    page_pointers: Any
    pages: Any
    lengths: Any
    query_pointers: Any = None
    last_pages: bool = False
    first_row: int | None = None


@dataclass(frozen=True, slots=True)
class LayerError:
    """What a comparison of one group found.

    Attributes:
        layer: The layer.
        rows: How many rows of results were compared.
        error: The greatest difference, of the greatest magnitude of a result; NaN if a number is missing.
    """

    layer: int
    rows: int
    error: float
