"""Attention as in :mod:`~forerun.kernels.attention`, by a cluster of CTAs for each KV head.

The CTAs of a cluster take equal spans of the rows, and exchange what they have found through distributed shared memory,
so no second kernel is needed to merge. The query heads that share a KV head are taken together.
"""

from __future__ import annotations

from dataclasses import replace

from forerun.ir.kernel import Kernel
from forerun.ir.launches import Launches, Span
from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.kernels import attention
from forerun.kernels.shapes import cuda, typed_name

__all__ = ["KERNEL", "LAUNCHES", "declare", "fits", "launch_for"]

_WARPS = 4
_VECTOR = 16
_CLUSTER, _LARGE_CLUSTER = 8, 16
_LANES = 32
_MOST_SHARING = 8
_MANY_ROWS = 1536

LAUNCHES = Launches(block=Span(32, 1024, 32), cluster=Span(2, _LARGE_CLUSTER))
"""CTAs send each other what they find. Of each head, every CTA writes an element, which the compiler checks."""


def declare(cache_dtype: DType = DType.F32) -> Kernel:
    """The kernel for KV caches of that type; all else is f32. Parameters and phases are those of ``attention``."""
    plain = attention.declare(cache_dtype)
    name, implementation = typed_name("attention_cluster", cache_dtype), cuda("attention_cluster")
    return replace(plain, name=name, implementations=(implementation,), launches=LAUNCHES)


KERNEL = declare()


def fits(heads: int, kv_heads: int, head_size: int, cache_dtype: DType) -> bool:
    """Whether the kernel takes such heads: lanes that are a power of two hold a row, 16 bytes each.

    At most 8 query heads may share a KV head, since a lane has registers for all of them.

    Example:
        >>> fits(32, 8, 64, DType.BF16), fits(9, 3, 128, DType.F32), fits(8, 8, 80, DType.BF16)
        (True, True, False)
    """
    lanes, rest = divmod(head_size * cache_dtype.itemsize, _VECTOR)
    if cache_dtype not in (DType.F32, DType.BF16, DType.F16) or rest or not 1 <= lanes <= _LANES:
        return False
    return lanes & (lanes - 1) == 0 and heads % kv_heads == 0 and heads // kv_heads <= _MOST_SHARING


def launch_for(kv_heads: int, rows: int = 0, head_size: int = 64) -> Launch:
    """One cluster per KV head: 8 CTAs, or 16 from about 1,536 cached rows.

    Small heads have smaller clusters: of each head, every CTA writes an element.
    """
    cluster = min(_LARGE_CLUSTER if rows > _MANY_ROWS else _CLUSTER, head_size)
    return Launch((kv_heads * cluster, 1, 1), (32 * _WARPS, 1, 1), cluster=(cluster, 1, 1))
