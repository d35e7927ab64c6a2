"""Attention of one query over the KV cache, with grouped heads (arXiv:2305.13245): ``H / KV`` queries share a key.

The rows before ``pos`` were written by earlier replays; only the row at ``pos`` comes from this one. So the past is
loaded by a phase of its own, which may run before the kernels of this step have finished.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forerun.ir.affine import affine
from forerun.ir.kernel import Access, BufferParameter, Kernel, Phase, Role, ScalarParameter
from forerun.ir.nodes import Launch
from forerun.ir.region import region
from forerun.ir.types import DType

__all__ = ["KERNEL", "attend", "launch_for", "load_past"]

_PAST = region((0, "pos"))
_ROW = region(("pos", affine("pos") + 1))
_WARPS = 4

KERNEL = Kernel(
    "attention",
    (
        BufferParameter("q", DType.F32, ("H", "HD")),
        BufferParameter("k_cache", DType.F32, ("T", "KV", "HD")),
        BufferParameter("v_cache", DType.F32, ("T", "KV", "HD")),
        BufferParameter("y", DType.F32, ("H", "HD")),
        ScalarParameter("pos", DType.I32),
    ),
    (
        Role(
            "all",
            (
                Phase(
                    "load_past",
                    reads=(Access("k_cache", _PAST), Access("v_cache", _PAST)),
                    gives=("past_k", "past_v"),
                    reference="forerun.kernels.attention:load_past",
                ),
                Phase(
                    "attend",
                    reads=(Access("q"), Access("k_cache", _ROW), Access("v_cache", _ROW)),
                    takes=("past_k", "past_v"),
                    writes=(Access("y"),),
                    reference="forerun.kernels.attention:attend",
                ),
            ),
        ),
    ),
)


def launch_for(heads: int, head_size: int) -> Launch:
    """One CTA a query head; each of its 4 warps keeps a partial result in shared memory, to be merged."""
    return Launch((heads, 1, 1), (32 * _WARPS, 1, 1), shared_bytes=4 * _WARPS * (head_size + 2))


def load_past(k: NDArray[np.float32], v: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The rows of earlier positions."""
    return k, v


def attend(
    q: NDArray[np.float32],
    k: NDArray[np.float32],
    v: NDArray[np.float32],
    past_k: NDArray[np.float32],
    past_v: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Softmax of the scaled scores over past and present rows, times the values.

    Batched over the KV heads, on views: the rows of one head are a strided matrix, which BLAS takes without a copy.
    """
    heads, size = q.shape
    groups = q.reshape(k.shape[1], -1, size)
    scores = np.concatenate((groups @ past_k.transpose(1, 2, 0), groups @ k.transpose(1, 2, 0)), axis=2)
    scores *= np.float32(size**-0.5)
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    past = weights[:, :, :-1] @ past_v.transpose(1, 0, 2)
    result: NDArray[np.float32] = past + weights[:, :, -1:] * v.transpose(1, 0, 2)
    return result.reshape(heads, size)
