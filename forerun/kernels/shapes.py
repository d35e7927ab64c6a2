"""Names and launch configurations that the kernels share."""

from __future__ import annotations

from forerun.ir.kernel import Implementation
from forerun.ir.nodes import Launch
from forerun.ir.types import DType

__all__ = ["cuda", "elementwise_launch", "typed_name"]

_THREADS = 256


def cuda(entry: str) -> tuple[Implementation, ...]:
    """The CUDA C++ of a kernel of this package: ``cuda/ENTRY.cu``."""
    return (Implementation("cuda", f"forerun.kernels.cuda:{entry}.cu", entry),)


def typed_name(stem: str, dtype: DType) -> str:
    """The kernel's name for a weight type: the stem alone for f32."""
    return stem if dtype is DType.F32 else f"{stem}_{dtype}"


def elementwise_launch(count: int) -> Launch:
    """One thread an element, 256 threads a CTA."""
    return Launch((-(-count // _THREADS), 1, 1), (_THREADS, 1, 1))
