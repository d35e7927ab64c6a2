"""Runs the CUDA C++ of a kernel on the CPU: compiled by g++, threads as fibers, so that indices and sums can be tested
where there is no GPU. What is assembly is replaced: functions of device.cuh, and headers that this folder has anew."""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.kernel import BufferParameter, Kernel
from forerun.ir.nodes import KernelNode, Launch, ScalarLoad
from forerun.ir.types import BufferRole, DType
from forerun.runtime.cuda.codegen.specialise import Unit, specialise
from forerun.runtime.toolchain import Source

__all__ = ["COMPILER", "LACKING", "CpuKernel", "NotCompiledError", "compiled", "graph_of", "unit_of"]

COMPILER = shutil.which("g++")

FOLDER = Path(__file__).parent
"""Headers that stand in for CUDA's."""

LACKING = re.compile(
    r"__v\w+[24]|__(ld|st)(g|ca|cg|cs|cv|lu|wb|wt)|__threadfence\w*|__syncthreads_\w+|__barrier_sync\w*|__activemask"
    r"|__fns|__uni_sync|__nanosleep|__prof_trigger|__pm\d|__brkpt|__trap|__dp2a_\w+|__\w+DEPRECATED__|.*_system|.*_block"
)
"""What the headers lack of CUDA's functions: SIMD within a word, cache hints, fences, some of warps and barriers."""

_MARGIN = 256


def graph_of(kernel: Kernel, shapes: Mapping[str, tuple[int, ...]], launch: Launch, **scalars: float) -> Graph:
    """A launch with buffers of those shapes. Scalars of which no value is given are loaded from memory.

    Args:
        kernel: What to launch.
        shapes: Of the buffers, by parameter.
        launch: How.
        **scalars: The constants.
    """
    builder = GraphBuilder("alone")
    arguments: dict[str, str | int | float | ScalarLoad] = {}
    for parameter in kernel.parameters:
        name = parameter.name
        if isinstance(parameter, BufferParameter):
            arguments[name] = builder.buffer(name, parameter.dtype, shapes[name], BufferRole.STATE)
        elif name in scalars:
            arguments[name] = scalars[name]
        else:
            arguments[name] = ScalarLoad(builder.state(f"{name}.value", DType.I32, (1,)))
    builder.launch(kernel, launch=launch, **arguments)
    return builder.build()


def unit_of(kernel: Kernel, shapes: Mapping[str, tuple[int, ...]], launch: Launch, **scalars: float) -> Unit:
    """The unit of the launch that :func:`graph_of` has."""
    graph = graph_of(kernel, shapes, launch, **scalars)
    (node,) = graph
    assert isinstance(node, KernelNode)
    return specialise(graph, node)


class NotCompiledError(Exception):
    """The compiler refuses a launch, or the code is wrong; it has what g++ says."""


class CpuKernel:
    """One kernel for one set of shapes and one launch.

    Args:
        folder: Where to compile.
        kernel: What to launch.
        shapes: Of the buffers, by parameter.
        launch: How.
        **scalars: The constants.
    """

    def __init__(
        self, folder: Path, kernel: Kernel, shapes: Mapping[str, tuple[int, ...]], launch: Launch, **scalars: float
    ) -> None:
        self.unit = unit_of(kernel, shapes, launch, **scalars)
        self.scalars = scalars
        self.alignments = {parameter.name: parameter.alignment for parameter in kernel.buffer_parameters}
        self.library = ctypes.CDLL(str(_compile(folder, self.unit)))

    def __call__(self, arrays: Mapping[str, np.ndarray], **loaded: int) -> None:
        """Run it on arrays, with values for the scalars in memory.

        Each array is aligned as its parameter says, and to no more. It fails if the kernel reads outside of the arrays
        or 16 bytes elsewhere than at multiples of that, writes beside them, or hangs.
        """
        memory = {name: _Guarded(array, self.alignments[name]) for name, array in arrays.items()}
        memory |= {f"{name}.value": _Guarded(np.array([value], np.int32)) for name, value in loaded.items()}
        values = [self._value(slot.parameter, slot.kind, slot.dtype, memory) for slot in self.unit.slots]
        pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        starts = (ctypes.c_void_p * len(memory))(*(guarded.address for guarded in memory.values()))
        sizes = (ctypes.c_size_t * len(memory))(*(guarded.array.nbytes for guarded in memory.values()))
        extents = ((ctypes.c_uint * 3)(*extents) for extents in (self.unit.launch.grid, self.unit.launch.block))
        cluster = prod(self.unit.launch.cluster or (1,))
        status = self.library.run(pointers, starts, sizes, len(memory), *extents, cluster)
        assert status >= 0, "the threads wait for each other for ever"
        assert status == 0, f"{status} reads outside of the buffers, or not aligned"
        for name, guarded in memory.items():
            guarded.check(name)
        for name, array in arrays.items():
            array[...] = memory[name].array

    def _value(self, name: str, kind: str, dtype: DType, memory: Mapping[str, _Guarded]) -> ctypes._SimpleCData[int]:
        match kind:
            case "pointer":
                return ctypes.c_void_p(memory[name].address)
            case "address":
                return ctypes.c_void_p(memory[f"{name}.value"].address)
            case "offset":
                return ctypes.c_int(0)
        return ctypes.c_float(self.scalars[name]) if dtype.is_float else ctypes.c_int(int(self.scalars[name]))


class _Guarded:
    """A copy of an array between margins that must not be written."""

    def __init__(self, array: np.ndarray, shift: int = 0) -> None:
        self.memory = np.full(array.nbytes + 4 * _MARGIN, 0xAB, np.uint8)
        self.start = _MARGIN + -(self.memory.ctypes.data + _MARGIN) % _MARGIN + shift
        self.stop = self.start + array.nbytes
        self.array = self.memory[self.start : self.stop].view(array.dtype).reshape(array.shape)
        self.array[...] = array
        self.address = self.array.ctypes.data

    def check(self, name: str) -> None:
        for margin in (self.memory[: self.start], self.memory[self.stop :]):
            assert (margin == 0xAB).all(), f"writes beside {name}"


_libraries: dict[tuple[Source, str], Path] = {}
"""Of what this process has compiled: sources and entries of units; what differs in launches alone has one library."""


def _compile(folder: Path, unit: Unit) -> Path:
    assert isinstance(unit.source, Source)
    if (unit.source, unit.entry) in _libraries:
        return _libraries[unit.source, unit.entry]
    driver = f"""
        extern "C" int run(void** arguments, char** starts, size_t* sizes, int count, uint3* grid, uint3* block,
                           unsigned cluster) {{
            static void** bound;
            bound = arguments;
            on_cpu::let_read(starts, sizes, count);
            return on_cpu::run_grid(*grid, *block, cluster, [] {{ on_cpu::call({unit.entry}, bound); }});
        }}
        """
    folder.mkdir(parents=True, exist_ok=True)
    for name, header in unit.source.headers:
        replacement = FOLDER / name
        text = replacement.read_text() if replacement.exists() else header
        (folder / name).write_text(_without_assembly(text) if name == "device.cuh" else text)
    source, library = folder / "unit.cpp", folder / "unit.so"
    # What a kernel includes stands in its namespace; CUDA's types stand outside.
    named = [n for n in ("cuda_fp16.h", "cuda_bf16.h") if any(n in text for _, text in unit.source.headers)]
    includes = "".join(f'#include "{name}"\n' for name in ("shim.h", *named)) if named else ""
    source.write_text(includes + unit.source.text + driver)
    done = compiled(source, library)
    if done.returncode:
        raise NotCompiledError(_lacking(done.stderr) + done.stderr)
    _libraries[unit.source, unit.entry] = library
    return library


def compiled(source: Path, library: Path) -> subprocess.CompletedProcess[str]:
    """Compile a file that includes the stand-in's headers; the result has g++'s status and words."""
    # The shim has the libraries of the language: to link them took half of the time of a small kernel.
    linked = "-nodefaultlibs", _shim() / "shim.so", "-lgcc"
    return _run("-shared", f"-I{_shim()}", "-include", "first.h", source, *linked, "-o", library)


@functools.cache
def _shim() -> Path:
    """A folder with ``shim.cpp`` compiled, and with ``first.h``, which is ``shim.h`` as g++ has parsed it."""
    folder = Path(tempfile.mkdtemp(prefix="on-cpu-"))
    atexit.register(shutil.rmtree, folder)
    (folder / "first.h").write_text('#include "shim.h"\n')
    for line in (("-x", "c++-header", folder / "first.h"), ("-shared", FOLDER / "shim.cpp", "-o", folder / "shim.so")):
        done = _run(*line)
        assert done.returncode == 0, done.stderr
    return folder


def _run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    assert COMPILER is not None
    # Shared memory is static in functions of equal names: it must not be shared by the libraries of a process.
    command = [COMPILER, "-std=c++17", "-O1", "-w", "-fPIC", "-fno-gnu-unique", f"-I{FOLDER}", *arguments]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, env={**os.environ, "LC_ALL": "C"})


def _lacking(said: str) -> str:
    """The functions that g++ does not know, in front of what it says."""
    names = dict.fromkeys(re.findall(r"'(\w+)' was not declared in this scope", said))
    if not names:
        return ""
    return f"if these are functions of CUDA, its stand-in in tests/kernels/on_cpu lacks them: {', '.join(names)}\n"


def _without_assembly(text: str) -> str:
    """The header with other functions in place of those that are assembly."""
    blocks = re.split(r"\n(?=__device__|template <class|//|\n)", text.replace("#pragma once", '#include "shim.h"'))
    kept = [block for block in blocks if "asm" not in block and "dynamic_shared" not in block]
    found = "\n".join(kept)
    return found.replace(
        "struct f16 { unsigned short bits; };", 'struct f16 { unsigned short bits; };\n#include "assembly.h"'
    )
