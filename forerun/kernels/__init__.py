"""The kernels of a decode step, each a module: its declaration in phases, and a NumPy function a phase.

Every module has ``KERNEL``, which a builder launches, and pure functions that the reference target runs; ``cuda/`` has
the same phases in CUDA C++, for GPUs. Where there are several types, ``declare`` makes the kernel for one. The phases
are cut so that work that cannot depend on the kernel before (weights, past rows of the KV cache, tables) stands in
phases of its own, which ``hoist-loads`` may put ahead of the wait. See docs/writing-kernels.md.
"""

from __future__ import annotations

__all__: list[str] = []
