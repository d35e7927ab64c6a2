"""The kernels of ``forerun.kernels`` as they are found there, and launches derived from what a kernel declares.

A kernel for which nobody wrote cases gets two: extents, scalars, operands and a launch follow from its declaration.
Where they cannot, since extents depend on each other or a scalar is a count, its module says what they are::

    CASES = ({"rows": 6, "parts": 3}, {"rows": 7, "parts": 2})
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from types import ModuleType

import numpy as np

import forerun.kernels
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from tests.kernels.cuda_cases import Case, Make

__all__ = ["KERNELS", "MODULES", "derived", "derived_cases", "variants"]

MODULES: dict[str, ModuleType] = {
    module.name: importlib.import_module(f"forerun.kernels.{module.name}")
    for module in pkgutil.iter_modules(forerun.kernels.__path__)
    if not module.ispkg
}
MODULES = {name: module for name, module in MODULES.items() if hasattr(module, "KERNEL")}
KERNELS: dict[str, Kernel] = {name: module.KERNEL for name, module in MODULES.items()}

_EXTENTS = (37, 5, 3, 2), (64, 32, 16, 8)
"""Of the dimensions in the order of their names' first occurrence: at random, and aligned."""


def variants(module: ModuleType) -> list[Kernel]:
    """The kernel of a module, for each floating-point type that it exists for."""
    declare = getattr(module, "declare", None)
    if declare is None:
        return [module.KERNEL]
    count = sum(p.annotation == "DType" for p in inspect.signature(declare).parameters.values())
    return [declare(*(dtype,) * count) for dtype in (DType.F32, DType.BF16, DType.F16)]


def derived_cases(written: set[str]) -> Iterator[Case]:
    """Two launches of each kernel, for each type, but of those whose entries cases are written for."""
    for name, module in MODULES.items():
        if name not in written:
            for kernel in variants(module):
                for number, values in enumerate(getattr(module, "CASES", ({}, {}))):
                    launch = getattr(module, "LAUNCH", None)
                    yield derived(kernel, values, _EXTENTS[number % 2], launch)


def derived(
    kernel: Kernel,
    values: Mapping[str, float] | None = None,
    extents: tuple[int, ...] = _EXTENTS[0],
    launch: Launch | None = None,
) -> Case:
    """A launch of a kernel.

    Args:
        kernel: Any with phases.
        values: Extents of dimensions and values of scalars, by name.
        extents: Of the other dimensions; other integers are 1, and 0 and 1 in memory where a region depends on them.
        launch: By default two CTAs, of as few threads as the kernel accepts, but 64 at least.
    """
    values = dict(values or {})
    names = dict.fromkeys(d for p in kernel.buffer_parameters for d in p.dims or () if isinstance(d, str))
    sizes = {name: int(values.get(name, extents[min(i, len(extents) - 1)])) for i, name in enumerate(names)}
    shapes = {
        p.name: tuple(sizes[d] if isinstance(d, str) else d or extents[0] for d in p.dims or (None,))
        for p in kernel.buffer_parameters
    }
    accesses = [access for phase in kernel.phases for access in (*phase.reads, *phase.writes)]
    symbols = {symbol for access in accesses for symbol in access.region.symbols}
    scalars = {p.name: values.get(p.name, 0.5 if p.dtype.is_float else 1) for p in kernel.scalar_parameters}
    loaded = [name for name in scalars if name in symbols and name not in values]
    runs = tuple(dict.fromkeys(loaded, number) for number in (0, 1)) if loaded else ({},)
    constants = {name: value for name, value in scalars.items() if name not in loaded}
    read = {access.parameter for phase in kernel.phases for access in phase.reads}
    make: dict[str, Make] = {
        p.name: _whole for p in kernel.buffer_parameters if p.name in read and not p.dtype.is_float
    }
    name = f"{kernel.name}-{'x'.join(map(str, sizes.values()))}"
    scale = float(np.sqrt(max(sizes.values(), default=1)))
    return Case(name, kernel, shapes, launch or _launch(kernel), constants, runs, make, scale=scale)


def _whole(chooser: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return chooser.integers(-9, 9, shape)


def _launch(kernel: Kernel) -> Launch:
    """Two CTAs, or as few as the kernel accepts, and 64 threads or as few more."""

    def least(name: str, wanted: int) -> int:
        span = getattr(kernel.launches, name, None)
        if span is None:
            return wanted
        return next((n for n in range(span.start, span.stop + 1, span.step) if n >= wanted), span.stop)

    cluster = least("cluster", 1)
    shared = least("shared", 16_000) if kernel.launches is not None and kernel.launches.shared is not None else 0
    grid = (-(-least("grid", 2) // cluster) * cluster, 1, 1)
    return Launch(grid, (least("block", 64), 1, 1), shared, None if cluster == 1 else (cluster, 1, 1))
