"""Graphs that plans become: a chain that scales, and a cache to which rows are appended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import forerun
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import ConstantArgument, KernelNode
from forerun.ir.trust import vouch
from forerun.ir.types import DependencyKind

vouch(__name__)
N = 4
ROWS = 16
_TEXT = "__device__ void none() {\n}\n"


@forerun.kernel("x: i32[N], s: scalar i32 -> y: i32[N]", cuda=_TEXT)
def scale(x: Any, s: int) -> Any:
    """``y = s * x``."""
    return (x * np.int32(s)).astype(np.int32)


@forerun.kernel("x: i32[N], s: scalar i32 -> y: i32[N]", cuda=_TEXT)
def shift(x: Any, s: int) -> Any:
    """``y = x + s``."""
    return (x + np.int32(s)).astype(np.int32)


@forerun.kernel("x: i32[N], row: scalar i32, cache: i32[R, N] -> cache[row:row + 1]", reads="x", cuda=_TEXT)
def append(x: Any, row: int) -> Any:
    """Writes one row of the cache."""
    return x.reshape(1, -1)


@forerun.kernel(
    "cache: i32[R, N], first: scalar i32, last: scalar i32 -> y: i32[N]", reads="cache[first:last]", cuda=_TEXT
)
def total(cache: Any, first: int, last: int) -> Any:
    """Sums the rows from ``first`` to ``last``."""
    return cache.sum(axis=0).astype(np.int32)


def chain(factors: Sequence[int], *, names: str = "n", kernels: Sequence[Any] = (), verify: bool = True) -> Graph:
    """``y = x * f0 * f1 ...``, a node each; with other kernels instead of ``scale``, by position."""
    builder = forerun.GraphBuilder("chain")
    buffers = [builder.input("x", "i32", N)]
    buffers += [builder.temp(f"t{i % 2}", "i32", N) if i < 2 else f"t{i % 2}" for i in range(len(factors) - 1)]
    buffers.append(builder.output("y", "i32", N))
    for i, factor in enumerate(factors):
        used = kernels[i] if i < len(kernels) and kernels[i] is not None else scale
        builder.launch(used, x=buffers[i], s=factor, y=buffers[i + 1], node=f"{names}{i}")
    return builder.build(verify=verify)


def decode(row: int, *, first: int = 0) -> Graph:
    """Appends ``x`` to a cache at a row, and sums the rows from ``first`` to it."""
    builder = forerun.GraphBuilder("decode")
    x, y = builder.input("x", "i32", N), builder.output("y", "i32", N)
    cache = builder.state("cache", "i32", (ROWS, N))
    builder.launch(append, x=x, row=row, cache=cache, node="append")
    builder.launch(total, cache=cache, first=first, last=row + 1, y=y, node="total")
    return builder.build()


def with_argument(graph: Graph, node: str, parameter: str, value: int | float) -> Graph:
    """An edit of one scalar."""
    old = graph.nodes[node]
    assert isinstance(old, KernelNode)
    bound = tuple((name, ConstantArgument(value) if name == parameter else given) for name, given in old.arguments)
    edit = graph.edit()
    edit.replace_node(replace(old, arguments=bound))
    return edit.commit()


def with_launch(graph: Graph, node: str, **changes: Any) -> Graph:
    """An edit of one launch."""
    old = graph.nodes[node]
    assert isinstance(old, KernelNode)
    edit = graph.edit()
    edit.replace_node(replace(old, launch=replace(old.launch, **changes)))
    return edit.commit()


def with_edge(graph: Graph, source: str, target: str, kind: DependencyKind | None) -> Graph:
    """An edit of one edge: another kind, or none."""
    edit = graph.edit()
    edit.set_dependency(Dependency(source, target, kind)) if kind else edit.remove_dependency(source, target)
    return edit.commit()


def renamed(kernel: Kernel, name: str) -> Kernel:
    """The same code under another name."""
    return replace(kernel, name=name)
