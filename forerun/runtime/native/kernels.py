"""A kernel node as a call of machine code on the host's memory, done in parts by threads that sleep in between."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any

from forerun.ir.bound_kernel import BoundParameters, bind_kernel
from forerun.ir.graph import Graph
from forerun.ir.kernel import BufferParameter, Kernel
from forerun.ir.nodes import KernelNode
from forerun.runtime.c_types import C_TYPES
from forerun.runtime.native.build import compiler, library

__all__ = ["is_native", "native_call", "source_of", "text_of"]


def native_call(graph: Graph, node: KernelNode, addresses: Mapping[str, int]) -> Callable[[], None] | None:
    """What runs a kernel node as machine code; ``None`` if its NumPy functions have to.

    Args:
        graph: A valid graph that has the tables that the node names.
        node: A kernel node, of which all buffers lie in the host's memory.
        addresses: Where, by buffer.

    Raises:
        InternalError: If the compiler refuses the kernel's code.
    """
    bound, made, pool = bind_kernel(graph, node), _library(graph, node), _pool()
    if made is None or pool is None:
        return None
    pointers = [addresses[bound.buffers[p.name].name] for p in bound.kernel.buffer_parameters]
    arguments = (ctypes.c_void_p * len(pointers))(*pointers)
    run, handle = pool
    entry = ctypes.cast(made.run_part, ctypes.c_void_p)
    return lambda: run(handle, entry, arguments)


def is_native(graph: Graph, node: KernelNode) -> bool:
    """Whether :func:`native_call` has machine code for a kernel node.

    Raises:
        InternalError: If the compiler refuses the kernel's code.
    """
    return _library(graph, node) is not None and _pool() is not None


def _library(graph: Graph, node: KernelNode) -> Any:
    """The machine code of a node, compiled once; ``None`` if there is none."""
    bound = bind_kernel(graph, node)
    source = source_of(bound.kernel)
    if source is None or bound.loads or compiler() is None:
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
def _pool() -> tuple[Any, ctypes.c_void_p] | None:
    """The call that does something in parts, and the threads for it: as many as the process has cores."""
    text = resources.files("forerun.runtime.native").joinpath("pool.cpp").read_text("utf-8")
    made = library(text)
    if made is None:
        return None
    made.pool_create.restype = ctypes.c_void_p
    made.pool_run.argtypes = [ctypes.c_void_p] * 3
    made.pool_run.restype = None
    return made.pool_run, ctypes.c_void_p(made.pool_create(len(os.sched_getaffinity(0))))
