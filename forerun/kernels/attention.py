"""Attention of one query over the KV cache, with grouped heads (arXiv:2305.13245): ``H / KV`` queries share a key.

The rows before ``pos`` were written by earlier replays; only the row at ``pos`` comes from this one. So the past is
loaded by a phase of its own, which may run before the kernels of this step have finished. It loads as much as fits in
registers; ``attend`` reads the rest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.affine import affine
from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role, ScalarParameter
from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.nodes import Launch
from forerun.ir.region import region
from forerun.ir.types import DType
from forerun.kernels.shapes import cuda, typed_name

__all__ = ["KERNEL", "attend", "declare", "launch_for", "load_past", "load_past_phase", "rows_up_to_pos", "scores_of"]

_PAST = region((0, "pos"))
_ROWS = region((0, affine("pos") + 1))
_WARPS = 4


def load_past_phase() -> Phase:
    """The phase that loads what earlier steps have appended."""
    return Phase(
        "load_past",
        reads=(Access("k_cache", _PAST), Access("v_cache", _PAST)),
        defines=("past_k", "past_v"),
        reference="forerun.kernels.attention:load_past",
    )


def rows_up_to_pos() -> tuple[Access, Access]:
    """The reads of the rows up to the present one."""
    return Access("k_cache", _ROWS), Access("v_cache", _ROWS)


def declare(cache: DType = DType.F32) -> Kernel:
    """The kernel for KV caches of that type; all else is f32."""
    attend_all = Phase(
        "attend",
        reads=(Access("q"), *rows_up_to_pos()),
        uses=("past_k", "past_v"),
        writes=(Access("y"),),
        reference="forerun.kernels.attention:attend",
    )
    return Kernel(
        typed_name("attention", cache),
        (
            BufferParameter("q", DType.F32, ("H", "HD"), align=16),
            BufferParameter("k_cache", cache, ("T", "KV", "HD"), align=16),
            BufferParameter("v_cache", cache, ("T", "KV", "HD"), align=16),
            BufferParameter("y", DType.F32, ("H", "HD")),
            ScalarParameter("pos", DType.I32),
        ),
        (Role("all", (load_past_phase(), attend_all)),),
        cuda("attention"),
        WHOLE_WARPS,
    )


KERNEL = declare()


def launch_for(heads: int) -> Launch:
    """One CTA a query head."""
    return Launch((heads, 1, 1), (32 * _WARPS, 1, 1))


def load_past(k: NDArray[np.float32], v: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The rows of earlier positions, in f32."""
    return k.astype(np.float32, copy=False), v.astype(np.float32, copy=False)


def attend(
    q: NDArray[np.float32],
    k: NDArray[np.float32],
    v: NDArray[np.float32],
    past_k: NDArray[np.float32],
    past_v: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Softmax of the scaled scores over past and present rows, times the values."""
    weights = scores_of(q, k, past_k)
    weights = np.exp(weights - weights.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    past = weights[:, :, :-1] @ past_v.transpose(1, 0, 2)
    result: NDArray[np.float32] = past + weights[:, :, -1:] * v[-1:].astype(np.float32, copy=False).transpose(1, 0, 2)
    return result.reshape(q.shape)


def scores_of(q: NDArray[np.float32], k: NDArray[np.float32], past_k: NDArray[np.float32]) -> NDArray[np.float32]:
    """The scaled scores ``[KV, H / KV, rows]`` of the past rows and of the last row of ``k``.

    Batched over the KV heads, on views: the rows of one head are a strided matrix, which BLAS takes without a copy.
    """
    _, kv_heads, size = k.shape
    groups = q.reshape(kv_heads, -1, size)
    present = k[-1:].astype(np.float32, copy=False)
    scores = np.concatenate((groups @ past_k.transpose(1, 2, 0), groups @ present.transpose(1, 2, 0)), axis=2)
    scores *= np.float32(size**-0.5)
    return scores
