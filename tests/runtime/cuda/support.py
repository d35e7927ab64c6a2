"""What the tests of the CUDA runtime share: graphs, and a fake driver to load them on without a toolchain."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel, Trigger, Wait
from forerun.ir.nodes import BufferArgument, ConditionalNode, KernelNode
from forerun.ir.trust import vouch
from forerun.ir.types import HOST, BufferRole, DType
from forerun.ir.walk import kernel_nodes
from forerun.kernels.builtin import KERNELS
from forerun.runtime.cuda import CudaProgram, CudaTarget
from forerun.runtime.cuda.codegen import build
from forerun.runtime.cuda.codegen import build as modules
from forerun.runtime.cuda.codegen.build import Code
from forerun.runtime.cuda.codegen.specialise import units as units_of
from forerun.runtime.cuda.codegen.unit import TIMELINE, Unit
from forerun.runtime.cuda.driver.driver import Driver, use_driver
from forerun.runtime.cuda.sass import inspection
from forerun.runtime.cuda.timestamps import WORDS
from forerun.runtime.dtypes import bytes_at, numpy_dtype
from forerun.support.diagnostics import ForerunError
from tests.kernel_runner import run_kernel
from tests.runtime.cuda import fake_graphs
from tests.runtime.cuda.fake_driver import FakeCuda
from tests.runtime.cuda.fake_graphs import INTERPRETERS

I32, F32 = DType.I32, DType.F32
N = 8
vouch("tests.runtime.cuda.hosts")


@cache
def fake_code(
    graph: Graph, arch: str, *, delays: bool = False, timeline: bool = False, fresh: bool = False, progress: Any = None
) -> Code:
    """What :func:`build_code` makes, with images for the fake driver."""
    units, unit_of = units_of(graph, delays=delays, timeline=timeline)
    nodes = {unit_of[path]: node for path, node in kernel_nodes(graph) if path in unit_of}
    images = []
    for number, unit in enumerate(units):
        images.append(str(len(INTERPRETERS)).encode())
        INTERPRETERS.append((len(unit.slots), _interpreter(graph, nodes[number], unit)))
    kernels = modules._kernel_names(graph, unit_of, len(units))
    condition = b"none" if modules._has_condition(graph) else None
    save = b"none" if modules._has_state_and_host(graph) else None
    stamp = b"none" if timeline and modules._has_other_work(graph) else None
    hand_over = b"none" if modules._may_hand_over(graph) else None
    return Code(units, images, unit_of, kernels, condition, {}, save=save, stamp=stamp, hand_over=hand_over)


def _interpreter(graph: Graph, node: KernelNode, unit: Unit) -> Callable[..., None]:
    """What a unit does with the words of its parameters: the NumPy functions of its kernel's phases."""
    kernel = graph.kernels[node.kernel]
    shapes = {p: graph.buffers[a.buffer].shape for p, a in node.arguments if isinstance(a, BufferArgument)}

    def run(*words: int) -> None:
        arrays, scalars = {}, dict[str, Any]()
        for slot, word in zip(unit.slots, words, strict=True):
            dtype, name = numpy_dtype(slot.dtype), slot.parameter
            if name == TIMELINE:
                _stamp(word, kernel, math.prod(unit.launch.grid))
            elif slot.kind in ("scalar", "offset"):
                value = np.array([word], np.uint64).view(np.uint8)[: slot.size].view(dtype)[0].item()
                scalars[name] = scalars.get(name, 0) + value
            elif name in shapes:
                size = math.prod(shapes[name]) * dtype.itemsize
                arrays[name] = bytes_at(word, size).view(dtype).reshape(shapes[name])
            elif slot.kind == "address":
                scalars[name] = bytes_at(word, dtype.itemsize).view(dtype)[0].item()
        run_kernel(kernel, arrays, **scalars)

    return run


_clock = fake_graphs.CLOCK


def _stamp(address: int, kernel: Kernel, ctas: int) -> None:
    """Kernels of the fake driver start every 800 ns, and take 1,000."""
    records = bytes_at(address, 8 * WORDS * ctas).view(np.uint64).reshape(ctas, WORDS)
    start = next(_clock)
    records[:, 0] = start
    records[:, 1] = start + 300 if kernel.has(Wait) else 0
    records[:, 2] = start + 100 if kernel.has(Trigger) else 0
    records[:, 3] = start + 1000 - np.arange(ctas) % 7
    records[:, 4] = np.arange(ctas) % 132


@contextmanager
def on_fake(monkeypatch: pytest.MonkeyPatch, api: Any = None) -> Iterator[Driver]:
    """Within the block, graphs are loaded on a fake driver. Candidates are assessed in code that is really built."""
    assert inspection.build_code is not fake_code
    monkeypatch.setattr(build, "build_code", fake_code)
    with use_driver(Driver(api or FakeCuda())) as driver:
        yield driver


def i32_at(address: int, count: int = N) -> np.ndarray:
    """Numbers in the fake driver's memory."""
    return np.frombuffer((ctypes.c_int32 * count).from_address(address), np.int32)


@cache
def twice() -> Graph:
    """``y = x + x``."""
    builder = GraphBuilder("twice")
    x, y = builder.input("x", I32, (N,)), builder.output("y", I32, (N,))
    builder.launch(KERNELS["add_i32"], a=x, b=x, y=y)
    return builder.build()


@cache
def rich() -> Graph:
    """Every kind of memory, and most kinds of nodes: ``total = 2 * total + x + w``, and a host call on it."""
    builder = GraphBuilder("rich")
    x, total = builder.input("x", I32, (N,)), builder.state("total", I32, (N,))
    w, y = builder.weight("w", I32, (N,)), builder.output("y", I32, (N,))
    sum_, zero = builder.temp("sum", I32, (N,)), builder.output("zero", I32, (N,))
    here = builder.buffer("here", I32, (N,), BufferRole.TEMP, place=HOST)
    there = builder.buffer("there", I32, (N,), BufferRole.OUTPUT, place=HOST)
    builder.launch(KERNELS["add_i32"], a=x, b=w, y=sum_, node="add")
    builder.launch(KERNELS["accumulate_i32"], x=sum_, y=total, node="accumulate")
    builder.copy(total, y, node="copy")
    builder.copy(total, here, node="down")
    builder.host("tests.runtime.cuda.hosts:negative", [here], [there], node="host")
    builder.fill(zero, 0, node="fill")
    builder.join(["fill"], node="join")
    return builder.build()


@cache
def loop() -> Graph:
    """Counts ``left`` down to zero, and ``steps`` up."""
    builder = GraphBuilder("loop")
    start = builder.input("start", I32, (N,))
    minus = builder.weight("minus", I32, (N,))
    ones = builder.weight("ones", I32, (N,))
    left, steps = builder.output("left", I32, (N,)), builder.output("steps", I32, (N,))
    next_left, next_steps = builder.temp("next_left", I32, (N,)), builder.temp("next_steps", I32, (N,))
    builder.copy(start, left)
    builder.fill(steps, 0)
    inner = GraphBuilder("body")
    inner._buffers, inner._allocations = dict(builder._buffers), dict(builder._allocations)
    inner.launch(KERNELS["add_i32"], a=left, b=minus, y=next_left)
    inner.copy(next_left, left)
    inner.launch(KERNELS["add_i32"], a=steps, b=ones, y=next_steps)
    inner.copy(next_steps, steps)
    built = inner.build(verify=False)
    body = Graph("body", nodes=built.nodes.values(), dependencies=built.dependencies)
    builder._kernels.update(inner._kernels)
    builder.add(ConditionalNode("loop", "while", "left", (body,)))
    return builder.build()


def load(graph: Graph, weights: Any = None, **options: Any) -> CudaProgram:
    """A graph on the CUDA target."""
    memory = options.pop("memory", None)
    return CudaTarget(**options).load(graph, weights or {}, memory)


def attempt(exercise: Callable[[], None]) -> ForerunError | None:
    """What a call raises, if anything."""
    try:
        exercise()
    except ForerunError as error:
        return error.with_traceback(None)  # whose frames would keep arrays alive
    return None


def i32(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


X = np.arange(N, dtype=np.int32)
W = {"w": np.full(N, 100, np.int32)}
LOOP_WEIGHTS = {"minus": np.full(N, -1, np.int32), "ones": np.ones(N, np.int32)}
