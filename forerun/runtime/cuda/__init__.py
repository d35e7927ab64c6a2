"""The CUDA target: executable CUDA graphs on NVIDIA GPUs. See docs/cuda-runtime.md. Importing it touches no driver."""

from forerun.runtime.cuda.driver.errors import CudaError
from forerun.runtime.cuda.memory.array import DeviceArray
from forerun.runtime.cuda.program import CudaProgram
from forerun.runtime.cuda.target import CudaTarget

__all__ = ["CudaError", "CudaProgram", "CudaTarget", "DeviceArray"]
