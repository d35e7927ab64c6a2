"""forerun: a compiler for CUDA graphs.

Names load on first use, so that ``import forerun`` is fast and touches no driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forerun.support.lazy import lazy_exports
from forerun.support.version import __version__

if TYPE_CHECKING:
    from forerun.compiler import compile as compile
    from forerun.ir.builder import GraphBuilder as GraphBuilder
    from forerun.ir.graph import Graph as Graph
    from forerun.ir.trust import register_function as register_function
    from forerun.ir.trust import trusting as trusting
    from forerun.ir.trust import vouch as vouch
    from forerun.tuner.tune import tune as tune

_EXPORTS = {
    "Graph": "forerun.ir.graph",
    "GraphBuilder": "forerun.ir.builder",
    "compile": "forerun.compiler",
    "register_function": "forerun.ir.trust",
    "trusting": "forerun.ir.trust",
    "tune": "forerun.tuner.tune",
    "vouch": "forerun.ir.trust",
}

__all__ = ["Graph", "GraphBuilder", "__version__", "compile", "register_function", "trusting", "tune", "vouch"]

__getattr__ = lazy_exports(__name__, _EXPORTS)


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
