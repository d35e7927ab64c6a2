"""The toolchain: CUDA C++ to PTX (NVRTC) to cubins (ptxas) to facts (nvdisasm), on any machine; no GPU is needed."""

from forerun.runtime.toolchain.cache import Cache
from forerun.runtime.toolchain.compile import Progress, compile_unit, compile_units, processors
from forerun.runtime.toolchain.errors import CompileError, ToolchainMissing
from forerun.runtime.toolchain.facts import EntryFacts
from forerun.runtime.toolchain.instruction import Instruction, InstructionKind
from forerun.runtime.toolchain.locate import find_toolchain, missing_toolchain
from forerun.runtime.toolchain.unit import Cubin, Source

__all__ = [
    "Cache",
    "CompileError",
    "Cubin",
    "EntryFacts",
    "Instruction",
    "InstructionKind",
    "Progress",
    "Source",
    "ToolchainMissing",
    "compile_unit",
    "compile_units",
    "find_toolchain",
    "missing_toolchain",
    "processors",
]
