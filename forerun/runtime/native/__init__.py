"""Kernels on the host as machine code: C++ beside the CUDA C++, compiled by the system's compiler where there is one.

A kernel whose CUDA C++ is ``PACKAGE.cuda:STEM.cu`` may have ``PACKAGE.host:STEM.cpp``: a function ``run(a, part)`` that
does a part of the node's work. Where there is no such file, no compiler, or a scalar that is loaded from memory, the
NumPy functions run.
"""

from __future__ import annotations

from forerun.runtime.native.kernels import is_native, native_call

__all__ = ["is_native", "native_call"]
