"""Small graphs of every kind of node, with inputs and weights, that every target must agree on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from forerun.frontends.decode import decode_graph
from forerun.frontends.llama import LlamaConfig
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Trigger, Wait
from forerun.ir.nodes import (
    BufferArgument,
    ChildGraphNode,
    ConditionalNode,
    KernelNode,
    Launch,
    MemcpyNode,
    MemsetNode,
    Node,
    ScalarLoad,
)
from forerun.ir.region import BufferView, region
from forerun.ir.trust import vouch
from forerun.ir.types import HOST, BufferRole, DependencyKind, DType
from forerun.kernels.builtin import KERNELS
from forerun.passes.infra.manager import PassManager
from forerun.runtime.dtypes import numpy_dtype

I32, F32 = DType.I32, DType.F32
N = 8
vouch("tests.runtime.cuda.hosts")


@dataclass(frozen=True)
class Case:
    """A graph, and what to run it on: replay after replay."""

    graph: Graph
    inputs: tuple[Mapping[str, Any], ...]
    weights: Mapping[str, Any]


def numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-100, 100, shape or (N,), np.int32)


def body(*nodes: Node) -> Graph:
    """A body: one node after the other."""
    names = [node.name for node in nodes]
    return Graph("body", nodes=nodes, dependencies=[Dependency(a, b) for a, b in pairwise(names)])


def add(name: str, a: str, b: str, y: str) -> KernelNode:
    arguments = tuple((parameter, BufferArgument(buffer)) for parameter, buffer in (("a", a), ("b", b), ("y", y)))
    return KernelNode(name, "add_i32", arguments)


def started(name: str) -> tuple[GraphBuilder, str, str]:
    """A builder with an input ``x``, an output ``y = x + x``, and the kernel ``add_i32`` declared."""
    builder = GraphBuilder(name)
    x, y = builder.input("x", I32, (N,)), builder.output("y", I32, (N,))
    builder.launch(KERNELS["add_i32"], a=x, b=x, y=y, node="first")
    return builder, x, y


def twice() -> Case:
    builder, _, _ = started("twice")
    return Case(builder.build(), ({"x": numbers(1)}, {"x": numbers(2)}), {})


def every_kernel() -> Case:
    """All kernels of both types, in a chain."""
    builder = GraphBuilder("every_kernel")
    inputs = {}
    for dtype in (I32, F32):
        name = str(dtype)
        a, b = builder.input(f"a_{name}", dtype, (N,)), builder.weight(f"b_{name}", dtype, (N,))
        y, z = builder.output(f"y_{name}", dtype, (N,)), builder.output(f"z_{name}", dtype, (N,))
        total = builder.state(f"total_{name}", dtype, (N,))
        kernels = {key: KERNELS[f"{key}_{name}"] for key in ("copy", "add", "accumulate", "turn", "spread")}
        builder.launch(kernels["spread"], a=a, b=b, y=y, z=z)
        builder.launch(kernels["accumulate"], x=y, y=total)
        builder.launch(kernels["turn"], y=total)
        builder.launch(kernels["add"], a=total, b=z, y=y)
        builder.launch(kernels["copy"], x=total, y=z)
        inputs[a] = numbers(3).astype(np.int32 if dtype is I32 else np.float32)
    weights = {"b_i32": numbers(4), "b_f32": numbers(5).astype(np.float32)}
    return Case(builder.build(), (inputs, inputs), weights)


def scalars() -> Case:
    """A row that a constant chooses, and one that an input does."""
    builder = GraphBuilder("scalars")
    x = builder.input("x", I32, (N,))
    builder.input("row", I32, (2,), bounds=(0, 3))
    m, y = builder.state("m", I32, (6, N)), builder.output("y", I32, (6, N))
    builder.launch(KERNELS["scale_row_i32"], x=x, m=m, row=4)
    builder.launch(KERNELS["scale_row_i32"], x=x, m=m, row=ScalarLoad("row", 1, 2))
    builder.copy(m, y)
    runs = tuple({"x": numbers(6 + i), "row": np.array([0, i], np.int32)} for i in range(3))
    return Case(builder.build(), runs, {})


def boxes() -> Case:
    """Copies and fills of rows, columns and blocks."""
    builder = GraphBuilder("boxes")
    x = builder.input("x", I32, (6, N))
    y, column = builder.output("y", I32, (6, N)), builder.output("column", I32, (6,))
    builder.fill(y, 9)
    block = region((1, 4), (2, 5))
    builder.add(MemcpyNode("block", BufferView(x, block), BufferView(y, region((2, 5), (0, 3)))))
    builder.add(MemcpyNode("rows", BufferView(x, region((4, 6))), BufferView(y, region((0, 2)))))
    builder.add(MemcpyNode("column", BufferView(x, region(None, (3, 4))), BufferView(column)))
    builder.add(MemsetNode("dots", BufferView(y, region((2, 6), (6, 8))), 0xFFFFFFFF))
    builder.add(MemcpyNode("nothing", BufferView(x, region((2, 2))), BufferView(y, region((2, 2)))))
    return Case(builder.build(), ({"x": numbers(7, 6, N)},), {})


def narrow_fills() -> Case:
    builder = GraphBuilder("narrow_fills")
    for dtype, value in ((DType.U8, 0xAB), (DType.I16, 0x1234), (DType.BF16, 0x3F80), (DType.F32, 0x40490FDB)):
        builder.fill(builder.output(f"y_{dtype}", dtype, (5,)), value)
    return Case(builder.build(), ({},), {})


def host() -> Case:
    """Down to the host, a call, and up again."""
    builder, _, y = started("host")
    here = builder.buffer("here", I32, (N,), BufferRole.TEMP, place=HOST)
    there = builder.buffer("there", I32, (N,), BufferRole.OUTPUT, place=HOST)
    back = builder.output("back", I32, (N,))
    builder.copy(y, here)
    builder.host("tests.runtime.cuda.hosts:negative", [here], [there])
    builder.copy(there, back)
    return Case(builder.build(), ({"x": numbers(8)}, {"x": numbers(9)}), {})


def host_kernels() -> Case:
    """Kernels of the host and of the device by turns, on weights and on state of the host."""
    builder, x, y = started("host_kernels")
    w, total = builder.weight("w", I32, (N,)), builder.state("total", I32, (N,))
    a, b, z = builder.temp("a", I32, (N,)), builder.temp("b", I32, (N,)), builder.output("z", I32, (N,))
    builder.launch(KERNELS["add_i32"], a=y, b=w, y=a, node="second")
    builder.launch(KERNELS["accumulate_i32"], x=a, y=total, node="third")
    builder.launch(KERNELS["add_i32"], a=a, b=total, y=b, node="fourth")
    builder.launch(KERNELS["add_i32"], a=b, b=x, y=z, node="fifth")
    made = PassManager('place{host="w,#third,#fourth"},splits').run(builder.build()).graph
    return Case(made, ({"x": numbers(21)}, {"x": numbers(22)}), {"w": numbers(23)})


def child() -> Case:
    builder, _, y = started("child")
    z = builder.output("z", I32, (N,))
    inner = ChildGraphNode("inner", body(add("a", y, y, z), add("b", z, y, y)))
    builder.add(ChildGraphNode("child", body(add("c", y, y, z), inner)))
    return Case(builder.build(), ({"x": numbers(10)},), {})


def branch(kind: str, count: int) -> Case:
    """A conditional whose ``b``-th body adds ``x`` so often, and 1."""
    builder, x, y = started(f"{kind}_{count}")
    condition = builder.input("condition", I32, (1,))
    bodies = tuple(body(*(add(f"n{i}", x, y, y) for i in range(b + 1))) for b in range(count))
    builder.add(ConditionalNode("choice", kind, condition, bodies))
    z = builder.output("z", I32, (N,))
    builder.copy(y, z)
    chosen = (1, 0, -1, count - 1, count, 1000)
    return Case(builder.build(), tuple({"x": numbers(11), "condition": [c]} for c in chosen), {})


def loop() -> Case:
    """Counts ``left`` down to zero and ``steps`` up; in each round a choice, too."""
    builder = GraphBuilder("loop")
    start, minus = builder.input("start", I32, (N,)), builder.weight("minus", I32, (N,))
    ones, left = builder.weight("ones", I32, (N,)), builder.output("left", I32, (N,))
    steps, spare = builder.output("steps", I32, (N,)), builder.temp("spare", I32, (N,))
    odd = builder.output("odd", I32, (N,))
    builder.launch(KERNELS["add_i32"], a=start, b=ones, y=left, node="plus_one")
    builder.launch(KERNELS["add_i32"], a=left, b=minus, y=left, node="minus_one")
    builder.fill(steps, 0)
    builder.fill(odd, 0)
    choice = ConditionalNode("choice", "switch", "left", (body(add("never", odd, ones, odd)),) * 3)
    counted = body(
        add("down", left, minus, left),
        add("up", steps, ones, spare),
        MemcpyNode("keep", BufferView(spare), BufferView(steps)),
        choice,
    )
    builder.add(ConditionalNode("loop", "while", left, (counted,)))
    weights = {"minus": np.full(N, -1, np.int32), "ones": np.ones(N, np.int32)}
    return Case(builder.build(), tuple({"start": np.full(N, n, np.int32)} for n in (5, 0, 1, 40)), weights)


def programmatic() -> Case:
    """A chain of programmatic dependencies: every kernel waits first, and triggers after it."""
    waiting = {}
    for name in ("add_i32", "accumulate_i32"):
        kernel = KERNELS[name]
        (role,) = kernel.roles or ()
        waiting[name] = kernel.with_roles(
            f"{name}.pdl", (type(role)(role.name, (Wait(), Trigger(), *role.steps), role.warps),)
        )
    builder = GraphBuilder("programmatic")
    x, y = builder.input("x", I32, (N,)), builder.output("y", I32, (N,))
    launch = Launch((4, 1, 1), (32, 1, 1))
    previous = builder.launch(waiting["add_i32"], a=x, b=x, y=y, launch=launch)
    for _ in range(20):
        name = builder.launch(waiting["accumulate_i32"], x=x, y=y, launch=launch, after=[])
        builder.depend(previous, name, DependencyKind.PROGRAMMATIC)
        previous = name
    return Case(builder.build(), ({"x": numbers(12)}, {"x": numbers(13)}), {})


def programmatic_loop() -> Case:
    """A loop that the pipeline `exact` has rewritten: each round carries a sum on."""
    builder = GraphBuilder("programmatic_loop")
    start, minus = builder.input("start", I32, (N,)), builder.weight("minus", I32, (N,))
    ones, left = builder.weight("ones", I32, (N,)), builder.output("left", I32, (N,))
    total, spare = builder.output("total", I32, (N,)), builder.temp("spare", I32, (N,))
    builder.launch(KERNELS["add_i32"], a=start, b=ones, y=left, node="plus_one")
    builder.launch(KERNELS["add_i32"], a=left, b=minus, y=left, node="minus_one")
    builder.fill(total, 0)
    round_ = body(
        add("up", total, ones, spare),
        add("sum", spare, left, total),
        add("down", left, minus, left),
    )
    builder.add(ConditionalNode("loop", "while", "left", (round_,)))
    weights = {"minus": np.full(N, -1, np.int32), "ones": np.ones(N, np.int32)}
    graph = PassManager("exact").run(builder.build()).graph
    return Case(graph, tuple({"start": np.full(N, n, np.int32)} for n in (5, 0, 1, 40)), weights)


@cache
def decode(steps: int, dtype: DType) -> Case:
    """Steps of a tiny Llama, of a head size that the kernels are made for."""
    tiny = LlamaConfig("tiny", 2, 128, 2, 1, 64, 256, 512, 64)
    graph = decode_graph(tiny, context=32, steps=steps, dtype=dtype)
    random = np.random.default_rng(0)
    weights = {
        buffer.name: random.normal(0, 0.1, buffer.shape).astype(numpy_dtype(buffer.dtype))
        for buffer in graph.buffers.values()
        if buffer.role is BufferRole.WEIGHT
    }
    return Case(graph, tuple({"token": [5 + i], "position": [steps * i]} for i in range(4)), weights)


CASES: dict[str, Callable[[], Case]] = {
    "twice": twice,
    "every_kernel": every_kernel,
    "scalars": scalars,
    "boxes": boxes,
    "narrow_fills": narrow_fills,
    "host": host,
    "host_kernels": host_kernels,
    "child": child,
    "if": lambda: branch("if", 1),
    "if_else": lambda: branch("if", 2),
    "switch": lambda: branch("switch", 3),
    "loop": loop,
    "programmatic": programmatic,
    "programmatic_loop": programmatic_loop,
}


@cache
def case(name: str) -> Case:
    """A case by its name."""
    return CASES[name]()
