"""The CUDA target: executable CUDA graphs on NVIDIA GPUs. See docs/cuda-runtime.md. Importing it touches no driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forerun.support.lazy import lazy_exports

if TYPE_CHECKING:
    from forerun.runtime.cuda.driver.errors import CudaError
    from forerun.runtime.cuda.memory.array import DeviceArray
    from forerun.runtime.cuda.program import CudaProgram
    from forerun.runtime.cuda.target import CudaTarget

__all__ = ["CudaError", "CudaProgram", "CudaTarget", "DeviceArray"]

_LAZY = {
    "CudaError": "forerun.runtime.cuda.driver.errors",
    "CudaProgram": "forerun.runtime.cuda.program",
    "CudaTarget": "forerun.runtime.cuda.target",
    "DeviceArray": "forerun.runtime.cuda.memory.array",
}

__getattr__ = lazy_exports(__name__, _LAZY)
