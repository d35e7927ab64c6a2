"""What the kernels share: how one is declared, and launch configurations."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from forerun.ir import phases
from forerun.ir.kernel import Implementation, Kernel
from forerun.ir.launches import ANY_LAUNCH, Launches
from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.kernels.packing import Packing, Storage

__all__ = ["Floats", "cuda", "cuda_kernel", "elementwise_launch", "matrix", "typed_name"]

Floats: TypeAlias = NDArray[np.float32]

_THREADS = 256


def cuda_kernel(
    stem: str, parameters: str, *body: phases.Piece, launches: Launches = ANY_LAUNCH, name: str = ""
) -> Kernel:
    """A kernel of this package, whose CUDA C++ is ``cuda/STEM.cu``; see :func:`forerun.ir.phases.kernel`.

    Args:
        stem: The name of the file, and of the kernel.
        parameters: As the text form has them.
        *body: Its phases.
        launches: With which launches it does what it declares.
        name: The kernel's, if it is not the file's.
    """
    return phases.kernel(name or stem, parameters, *body, implementations=(cuda(stem),), launches=launches)


def cuda(stem: str) -> Implementation:
    """The CUDA C++ of a kernel of this package: ``cuda/STEM.cu``."""
    return Implementation("cuda", f"forerun.kernels.cuda:{stem}.cu", stem)


def typed_name(stem: str, storage: Storage) -> str:
    """The kernel's name for how weights are stored: the stem alone for f32."""
    return stem if storage is DType.F32 else f"{stem}_{storage}"


def matrix(name: str, rows: str, storage: Storage, align: int = 16) -> str:
    """A parameter that is a matrix. A packed one is rows of bytes; the name of their extent says which packing it is.

    Example:
        >>> from forerun.kernels.packing import Q4_K
        >>> matrix("w", "N", DType.BF16), matrix("w", "N", Q4_K)
        ('w: bf16[N, K] align 16', 'w: u8[N, Q4_K] align 16')
    """
    if isinstance(storage, Packing):
        return f"{name}: u8[{rows}, {storage.dimension}] align {align}"
    return f"{name}: {storage}[{rows}, K] align {align}"


def elementwise_launch(count: int) -> Launch:
    """One thread an element, 256 threads a CTA."""
    return Launch((-(-count // _THREADS), 1, 1), (_THREADS, 1, 1))
