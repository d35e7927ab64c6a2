"""forerun: a compiler for CUDA graphs.

Names load on first use, so that ``import forerun`` is fast and touches no driver.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forerun.compiler import compile as compile
    from forerun.ir.builder import GraphBuilder as GraphBuilder
    from forerun.ir.graph import Graph as Graph
    from forerun.tuner.tune import tune as tune

__version__ = "0.1.0"

_EXPORTS = {
    "Graph": "forerun.ir.graph",
    "GraphBuilder": "forerun.ir.builder",
    "compile": "forerun.compiler",
    "tune": "forerun.tuner.tune",
}

__all__ = ["Graph", "GraphBuilder", "__version__", "compile", "tune"]


def __getattr__(name: str) -> Any:
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module 'forerun' has no attribute '{name}'")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
