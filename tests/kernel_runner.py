"""Runs one kernel's phases on arrays, in order, by the calling convention of docs/writing-kernels.md."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from forerun.ir.kernel import Access, Kernel, Phase
from forerun.testing import hashing

__all__ = ["phase_function", "run_kernel"]


def phase_function(phase: Phase) -> Any:
    """The NumPy function that a phase names."""
    assert phase.reference is not None
    module, _, function = phase.reference.partition(":")
    return getattr(importlib.import_module(module), function)


def run_kernel(kernel: Kernel, arrays: Mapping[str, np.ndarray], **scalars: float) -> None:
    """Run the kernel; what it writes is written into ``arrays``. What it reads is checked to stay as it was."""
    values: dict[str, Any] = {}
    for phase in kernel.phases:
        reads = [_view(access, arrays, scalars) for access in phase.reads]
        before = [read.copy() for read in reads]
        found = phase_function(phase)(
            *reads, *(values[name] for name in phase.uses), *(scalars[name] for name in phase.scalars)
        )
        for read, copy in zip(reads, before, strict=True):
            np.testing.assert_array_equal(read, copy, f"phase {phase.name} changed what it reads")
        count = len(phase.writes) + len(phase.defines)
        results = (found,) if count == 1 else found
        assert len(results) == count
        for access, result in zip(phase.writes, results, strict=False):
            view = _view(access, arrays, scalars)
            generated = str(phase.reference).startswith(hashing.__name__)  # one function for buffers of every type
            assert result.shape == view.shape, f"{phase.name} writes {access}"
            assert generated or result.dtype == view.dtype, f"{phase.name} writes {access}"
            view[...] = result
        values |= zip(phase.defines, results[len(phase.writes) :], strict=True)


def _view(access: Access, arrays: Mapping[str, np.ndarray], scalars: Mapping[str, float]) -> np.ndarray:
    bounds = {name: int(value) for name, value in scalars.items() if isinstance(value, int)}
    slices = [
        slice(None) if s is None else slice(s.start.evaluate(bounds), s.stop.evaluate(bounds))
        for s in access.region.slices
    ]
    return arrays[access.parameter][tuple(slices)]
