"""forerun: a compiler for CUDA graphs.

Names load on first use, so that ``import forerun`` is fast and touches no driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forerun.display import register_displays
from forerun.support.lazy import lazy_exports
from forerun.support.version import __version__ as __version__

if TYPE_CHECKING:
    from forerun import torch as torch
    from forerun.compiler import Executable as Executable
    from forerun.compiler import compile as compile
    from forerun.external.attention_arrays import AttentionLayer as AttentionLayer
    from forerun.external.attention_arrays import RequestArrays as RequestArrays
    from forerun.external.cache import CaptureCache as CaptureCache
    from forerun.external.optimize import CAPTURED_PIPELINE as CAPTURED_PIPELINE
    from forerun.external.optimize import optimize as optimize
    from forerun.external.optimized import OptimizedGraph as OptimizedGraph
    from forerun.external.persistent import make_persistent as make_persistent
    from forerun.frontends.foreign_kernels import foreign_kernel as foreign_kernel
    from forerun.ir.builder import GraphBuilder as GraphBuilder
    from forerun.ir.files import load as load
    from forerun.ir.graph import Graph as Graph
    from forerun.ir.nodes import Launch as Launch
    from forerun.ir.nodes import ScalarLoad as ScalarLoad
    from forerun.ir.phases import phase as phase
    from forerun.ir.trust import register_function as register_function
    from forerun.ir.trust import trusting as trusting
    from forerun.ir.trust import vouch as vouch
    from forerun.ir.types import DType as DType
    from forerun.kernels.builtin import KERNELS as KERNELS
    from forerun.kernels.decorator import kernel as kernel
    from forerun.passes.infra.base import Pass as Pass
    from forerun.passes.infra.base import PassContext as PassContext
    from forerun.passes.infra.base import option as option
    from forerun.passes.infra.failure import PassFailure as PassFailure
    from forerun.passes.infra.manager import PassManager as PassManager
    from forerun.passes.infra.pipeline import Pipeline as Pipeline
    from forerun.passes.infra.registry import register as register
    from forerun.runtime.cuda.capture.restored import RestoredCapture as RestoredCapture
    from forerun.runtime.cuda.capture.restored import restore as restore
    from forerun.runtime.cuda.capture.session import capture as capture
    from forerun.runtime.cuda.target import CudaTarget as CudaTarget
    from forerun.runtime.plans.cache import PlanCache as PlanCache
    from forerun.runtime.plans.plan import Plan as Plan
    from forerun.runtime.reference.target import ReferenceTarget as ReferenceTarget
    from forerun.support.diagnostics import ForerunError as ForerunError
    from forerun.support.diagnostics import InternalError as InternalError
    from forerun.support.diagnostics import InvalidInput as InvalidInput
    from forerun.support.diagnostics import Refuted as Refuted
    from forerun.support.diagnostics import Unsupported as Unsupported
    from forerun.tuner.tune import tune as tune

_NAMES = {
    "compiler": ["Executable", "compile"],
    "external.attention_arrays": ["AttentionLayer", "RequestArrays"],
    "external.cache": ["CaptureCache"],
    "external.optimize": ["CAPTURED_PIPELINE", "optimize"],
    "external.optimized": ["OptimizedGraph"],
    "external.persistent": ["make_persistent"],
    "frontends.foreign_kernels": ["foreign_kernel"],
    "ir.builder": ["GraphBuilder"],
    "ir.files": ["load"],
    "ir.graph": ["Graph"],
    "ir.nodes": ["Launch", "ScalarLoad"],
    "ir.phases": ["phase"],
    "ir.trust": ["register_function", "trusting", "vouch"],
    "ir.types": ["DType"],
    "kernels.builtin": ["KERNELS"],
    "kernels.decorator": ["kernel"],
    "passes.infra.base": ["Pass", "PassContext", "option"],
    "passes.infra.failure": ["PassFailure"],
    "passes.infra.manager": ["PassManager"],
    "passes.infra.pipeline": ["Pipeline"],
    "passes.infra.registry": ["register"],
    "runtime.cuda.capture.restored": ["RestoredCapture", "restore"],
    "runtime.cuda.capture.session": ["capture"],
    "runtime.cuda.target": ["CudaTarget"],
    "runtime.plans.cache": ["PlanCache"],
    "runtime.plans.plan": ["Plan"],
    "runtime.reference.target": ["ReferenceTarget"],
    "torch": ["torch"],
    "support.diagnostics": ["ForerunError", "InternalError", "InvalidInput", "Refuted", "Unsupported"],
    "tuner.tune": ["tune"],
}
_EXPORTS = {name: f"forerun.{module}" for module, names in _NAMES.items() for name in names}

__all__ = sorted(("__version__", *_EXPORTS))

__getattr__ = lazy_exports(__name__, _EXPORTS)

register_displays()


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
