"""Descriptions of a captured graph's attention: the arrays of each layer, and the arrays of the requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["AttentionLayer", "LayerError", "RequestArrays"]


@dataclass(frozen=True, eq=False)
class AttentionLayer:
    """The arrays of one layer, on the GPU, of bf16 or f16.

    Attributes:
        q: Queries of all requests ``[rows, query heads, head size]``.
        k_cache: Keys ``[pages, page size, KV heads, head size]``; or keys and values
            ``[pages, 2, page size, KV heads, head size]``.
        v_cache: Values, of the shape of the keys; ``None`` if ``k_cache`` holds both.
        y: Results, of the shape of ``q``.
    """

    q: Any
    k_cache: Any
    v_cache: Any
    y: Any


@dataclass(frozen=True, eq=False)
class RequestArrays:
    """The arrays of a group of requests, on the GPU, of int32. Their contents may change between replays.

    Attributes:
        page_pointers: Index pointers of the requests into ``pages`` ``[requests + 1]``.
        pages: Page numbers in the KV cache, request by request.
        lengths: KV lengths ``[requests]``, including the query rows; or, with ``last_pages``, the number of positions
            in each request's last page (FlashInfer's ``last_page_len``).
        query_pointers: Index pointers of the requests into the group's rows ``[requests + 1]``; ``None`` if each
            request has one row.
        last_pages: Whether ``lengths`` are those of last pages.
        first_row: For the second group: the first of its rows in the queries. Optional if each request of the first
            group has one row.
    """

    page_pointers: Any
    pages: Any
    lengths: Any
    query_pointers: Any = None
    last_pages: bool = False
    first_row: int | None = None


@dataclass(frozen=True, slots=True)
class LayerError:
    """The result of comparing one layer's launches with its persistent kernel.

    Attributes:
        layer: The number of the layer.
        rows: The number of rows compared.
        error: The greatest difference, relative to the greatest magnitude of a result; NaN if a result is NaN or was
            not written.
    """

    layer: int
    rows: int
    error: float
