"""Plans: what an update costs, and what the policy of a cache decides, without a GPU; with one, what the driver takes.

Run from the repository's root: ``python -m benchmarks.plans`` writes benchmarks/results/plans.json (all that is the
processor's), ``--gpu`` measures the driver's updates instead, and writes plans_gpu.json. ``--quick`` takes 20,000
updates instead of a million.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

import forerun
from benchmarks.common import Metric, bootstrap_median
from forerun.ir.graph import Graph
from forerun.ir.nodes import ConstantArgument, KernelNode
from forerun.runtime.plans import Difference, Plan, Way
from forerun.runtime.plans.comparison import sketch

NODES = 2000
LIMITS = {
    "same_object_us": 5.0,
    "rebuilt_equal_ms": 0.8,
    "different_ms": 0.1,
    "update_k1_us": 20.0,
    "incremental_ms": 2.0,
}


@forerun.kernel("x: i32[N], s: scalar i32 -> y: i32[N]")
def scale(x: Any, s: int) -> Any:
    return (x * np.int32(s)).astype(np.int32)


@forerun.kernel("x: i32[N], row: scalar i32, cache: i32[R, N] -> cache[row:row + 1]", reads="x")
def append(x: Any, row: int) -> Any:
    return x.reshape(1, -1)


@dataclass(frozen=True)
class NothingTarget:
    """A target that does nothing, so that what is left is the plan's own work."""

    name: ClassVar[str] = "nothing"

    def load(self, graph: Graph, weights: Mapping[str, Any]) -> Any:
        return _Nothing()


class _Nothing:
    size_bytes = 0

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def read(self, buffer: str) -> Any:
        return np.zeros(0)

    def write(self, buffer: str, value: Any) -> None: ...

    def reset(self) -> None: ...

    def close(self) -> None: ...

    def watch(self) -> None: ...

    def is_in_flight(self) -> bool:
        return False

    def update_in_place(self, graph: Graph, difference: Difference) -> tuple[Way, str]:
        return Way.PARAMETERS, ""


def chain(factor: int = 1, count: int = NODES) -> Graph:
    """A decode step as plans see it: a chain of nodes over a few temporaries, with a number each."""
    builder = forerun.GraphBuilder("chain")
    x, y = builder.input("x", "i32", 8), builder.output("y", "i32", 8)
    temps = [builder.temp(f"t{i}", "i32", 8) for i in range(4)]
    cache = builder.state("cache", "i32", (64, 8))
    builder.launch(append, x=x, row=factor, cache=cache, node="append")
    builder.launch(scale, x=x, s=factor, y=temps[0], node="n0")
    for i in range(1, count - 2):
        builder.launch(scale, x=temps[(i - 1) % 4], s=1, y=temps[i % 4], node=f"n{i}")
    builder.launch(scale, x=temps[(count - 3) % 4], s=1, y=y, node="last")
    return builder.build()


def edited(base: Graph, values: Mapping[str, int], parameter: str = "s") -> Graph:
    """An edit of one scalar of some nodes."""
    edit = base.edit()
    for name, value in values.items():
        old = base.nodes[name]
        assert isinstance(old, KernelNode)
        bound = tuple((key, ConstantArgument(value) if key == parameter else given) for key, given in old.arguments)
        edit.replace_node(replace(old, arguments=bound))
    return edit.commit()


def times_of(work: Callable[[Any], object], subjects: list[Any]) -> list[float]:
    """Seconds for each subject; the collector is off meanwhile."""
    gc.collect()
    gc.disable()
    try:
        found = []
        for subject in subjects:
            began = time.perf_counter()
            work(subject)
            found.append(time.perf_counter() - began)
        return found
    finally:
        gc.enable()


def _metric(times: list[float], factor: float, unit: str) -> Metric:
    value, low, high = bootstrap_median([factor * t for t in times])
    return Metric(value, unit, low, high)


if __name__ == "__main__":
    base = chain()
    t = time.perf_counter()
    plan = Plan(base, NothingTarget())
    print("create", time.perf_counter() - t)
    print("same", np.median(times_of(plan.update, [base] * 1000)) * 1e6, "us")
    print("rebuilt", [f"{x * 1e3:.2f}" for x in times_of(plan.update, [chain() for _ in range(9)])], "ms")
    b2 = plan.graph

    def hot(names, par="s"):
        found = []
        keep = []
        for i in range(2, 100):
            g = edited(base, dict.fromkeys(names, i % 60), par)
            keep.append(g)
            t = time.perf_counter()
            plan.update(g)
            found.append(time.perf_counter() - t)
        return np.median(found) * 1e6

    print(
        "hot",
        hot(["n1000"]),
        [round(hot([f"n{5 * j + 1}" for j in range(k)])) for k in (1, 2, 4, 8, 16, 32, 64)],
        hot(["append"], "row"),
    )
    print(
        "k1",
        np.median(times_of(plan.update, [edited(base, {"n1000": i}) for i in range(2, 60)])) * 1e6,
        "us",
        plan.last,
    )
    plan.update(base)
    for k in (1, 2, 4, 8, 16, 32, 64):
        print(
            "k",
            k,
            np.median(
                times_of(plan.update, [edited(base, {f"n{5 * j + 1}": i for j in range(k)}) for i in range(2, 30)])
            )
            * 1e6,
            "us",
            plan.last.way,
        )
    print(
        "incr",
        np.median(times_of(plan.update, [edited(base, {"append": i}, "row") for i in range(2, 60)])) * 1e3,
        "ms",
        plan.last,
    )
    print("diff", times_of(plan.difference_from, [chain(count=1999) for _ in range(3)]))
    print("sketch", times_of(sketch, [chain() for _ in range(5)]))
