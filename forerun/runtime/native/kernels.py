"""A kernel node as a call of machine code on the host's memory, done in parts by threads that sleep in between."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from forerun.ir.bound_kernel import BoundParameters, bind_kernel
from forerun.ir.graph import Graph
from forerun.ir.kernel import BufferParameter, Kernel
from forerun.ir.nodes import ConstantArgument, KernelNode
from forerun.runtime.c_types import C_TYPES
from forerun.runtime.native.build import compiler, library

__all__ = ["NativeCall", "NativePool", "is_native", "native_call", "native_pool", "source_of", "text_of"]


@dataclass(frozen=True, slots=True)
class NativePool:
    """The library of ``pool.cpp``, and the threads of this process."""

    library: Any
    handle: ctypes.c_void_p


@dataclass(frozen=True)
class NativeCall:
    """Machine code and its arguments; calling it does the work on all threads."""

    pool: NativePool
    library: Any
    pointers: ctypes.Array[ctypes.c_void_p]

    @property
    def entry(self) -> int:
        """The address of the machine code."""
        return ctypes.cast(self.library.run_part, ctypes.c_void_p).value or 0

    @property
    def arguments(self) -> int:
        """The address of its arguments, which lives as long as this object."""
        return ctypes.addressof(self.pointers)

    def __call__(self) -> None:
        """Do the work."""
        self.pool.library.pool_run(self.pool.handle, self.library.run_part, self.pointers)


def native_call(graph: Graph, node: KernelNode, addresses: Mapping[str, int]) -> NativeCall | None:
    """What runs a kernel node as machine code; ``None`` if its NumPy functions have to.

    Args:
        graph: A valid graph that has the tables that the node names.
        node: A kernel node, of which all buffers lie in the host's memory.
        addresses: Where, by buffer.

    Raises:
        InternalError: If the compiler refuses the kernel's code.
    """
    bound, made, pool = bind_kernel(graph, node), _library(graph, node), native_pool()
    if made is None or pool is None:
        return None
    pointers = [addresses[bound.buffers[p.name].name] for p in bound.kernel.buffer_parameters]
    return NativeCall(pool, made, (ctypes.c_void_p * len(pointers))(*pointers))


def is_native(graph: Graph, node: KernelNode) -> bool:
    """Whether :func:`native_call` has machine code for a kernel node.

    Raises:
        InternalError: If the compiler refuses the kernel's code.
    """
    return _library(graph, node) is not None and native_pool() is not None


def _library(graph: Graph, node: KernelNode) -> Any:
    """The machine code of a node, compiled once; ``None`` if there is none."""
    bound = bind_kernel(graph, node)
    source = source_of(bound.kernel)
    has_names = any(isinstance(argument, ConstantArgument) and argument.name for _, argument in node.arguments)
    if source is None or bound.loads or has_names or compiler() is None:
        return None
    return library(text_of(bound, source))


@cache
def source_of(kernel: Kernel) -> str | None:
    """The C++ of a kernel for the host, beside its CUDA C++; ``None`` if there is none."""
    for implementation in kernel.implementations:
        package, _, name = implementation.source.partition(":")
        if implementation.language != "cuda" or package != "forerun.kernels.cuda":
            continue
        file = resources.files("forerun.kernels.host").joinpath(name.removesuffix(".cu") + ".cpp")
        if file.is_file():
            return file.read_text("utf-8")
    return None


def text_of(bound: BoundParameters, source: str) -> str:
    """The translation unit of a kernel for the extents and constants of a node."""
    buffers = bound.kernel.buffer_parameters
    written = {access.parameter for phase in bound.kernel.phases for access in phase.writes}
    dims = "".join(f"    static constexpr long {name} = {value};\n" for name, value in bound.dims.items())
    types = "".join(f"    using {p.name} = {C_TYPES[p.dtype]};\n" for p in buffers)
    fields = "".join(f"    {_pointer(p, p.name in written)} {p.name};\n" for p in buffers)
    scalars = "".join(
        f"    static constexpr {C_TYPES[p.dtype]} {p.name} = {_literal(bound.constants[p.name])};\n"
        for p in bound.kernel.scalar_parameters
    )
    given = ", ".join(f"static_cast<{_pointer(p, p.name in written)}>(p[{i}])" for i, p in enumerate(buffers))
    return (
        f'#include "host.h"\n\nstruct Dims {{\n{dims}}};\nstruct Types {{\n{types}}};\n'
        f"struct Arguments {{\n{fields}{scalars}}};\n\n{source}\n"
        'extern "C" void run_part(void** p, int number, int parts) {\n'
        f"    run(Arguments{{{given}}}, Part{{number, parts}});\n}}\n"
    )


def _pointer(parameter: BufferParameter, written: bool) -> str:
    return f"{'' if written else 'const '}{C_TYPES[parameter.dtype]}*"


def _literal(value: float) -> str:
    return str(value) if isinstance(value, int) else float(value).hex()


@cache
def native_pool() -> NativePool | None:
    """Threads that do work in parts, as many as the process has cores; ``None`` if there is no compiler."""
    text = resources.files("forerun.runtime.native").joinpath("pool.cpp").read_text("utf-8")
    made = library(text)
    if made is None:
        return None
    pointer, number, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_long
    for name, given, result in (
        ("pool_create", [number], pointer),
        ("pool_run", [pointer] * 3, None),
        ("job_create", [number, *[pointer] * 4], pointer),
        ("job_destroy", [pointer], None),
        ("job_run", [pointer] * 2, None),
        ("jobs_serve", [*[pointer] * 3, number, pointer, number, number, long, pointer, pointer, long], number),
    ):
        function = getattr(made, name)
        function.argtypes, function.restype = given, result
    return NativePool(made, pointer(made.pool_create(len(os.sched_getaffinity(0)))))
