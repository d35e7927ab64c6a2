"""Plans: what an update costs, and what the policy of a cache decides, without a GPU; with one, what the driver takes.

Run from the repository's root: ``python -m benchmarks.plans`` writes benchmarks/results/plans.json (all that is the
processor's), ``--gpu`` measures the driver's updates instead, and writes plans_gpu.json. ``--quick`` takes 20,000
updates instead of a million.
"""

from __future__ import annotations

import argparse
import gc
import sys
import threading
import time
import traceback
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

import forerun
from benchmarks.common import Metric, bootstrap_median, write_result
from benchmarks.plan_traces import World, ratios
from forerun.ir.graph import Graph
from forerun.ir.nodes import ChildGraphNode, ConstantArgument, KernelNode
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

    def require_memory(self) -> None: ...

    def wait_for(self, other: Any, stream: Any = None) -> None: ...

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


def _median(times: list[float], factor: float, unit: str) -> Metric:
    return bootstrap_median([factor * t for t in times], unit)


def _one(value: float, unit: str = "") -> Metric:
    return Metric(value, unit, value, value)


def updates(repeats: int) -> dict[str, Metric]:
    """What an update takes of the processor's time, on a target that does nothing."""
    base = chain()
    with Plan(base, NothingTarget()) as plan:  # type: ignore[arg-type]
        found = {"plans.same_object_us": _median(times_of(plan.update, [base] * 1000), 1e6, "us")}
        found["plans.rebuilt_equal_ms"] = _median(times_of(plan.update, [chain() for _ in range(repeats)]), 1e3, "ms")
        found["plans.different_ms"] = _median(
            times_of(plan.difference_from, [chain(count=NODES - 1 - i) for i in range(repeats)]), 1e3, "ms"
        )
        found["plans.sketch_ms"] = _median(times_of(sketch, [chain() for _ in range(repeats)]), 1e3, "ms")
        for k in (1, 4, 16, 64):
            names = [f"n{25 * i + 10}" for i in range(k)]
            graphs = [edited(base, dict.fromkeys(names, i)) for i in range(2, 2 + 4 * repeats)]
            plan.update(base)
            found[f"plans.update_k{k}_us"] = _median(times_of(plan.update, graphs), 1e6, "us")
            assert (plan.last.changed, plan.last.proof) == (k, "scalars")
        plan.update(base)
        rows = [edited(base, {"append": i % 60}, "row") for i in range(2, 2 + 4 * repeats)]
        found["plans.incremental_ms"] = _median(times_of(plan.update, rows), 1e3, "ms")
        assert plan.last.proof == "incremental"
    return found


def endurance(count: int, target: Any) -> int:
    """Many updates of one plan; how many bytes the last tenth of them left in memory."""
    base = chain(count=20)
    graphs = [edited(base, {"n3": i, "n5": i + 1}) for i in range(8)]
    traced = count // 10
    with Plan(base, target) as plan:
        for i in range(count - traced):
            plan.update(graphs[i % 8])
        gc.collect()
        tracemalloc.start()
        for i in range(traced):
            plan.update(graphs[i % 8])
        gc.collect()
        growth = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    return growth


def threads_on_one_cache(requests: int) -> int:
    """Errors of eight threads that ask one cache for graphs of a few structures."""
    graphs = [chain(factor, count) for factor in (1, 2, 3) for count in (8, 9, 10)]
    errors: list[object] = []
    with forerun.PlanCache(budget=3 * (1 << 14)) as cache:

        def work(seed: int) -> None:
            for which in np.random.default_rng(seed).integers(0, len(graphs), requests):
                factor = 1 + which // 3
                try:
                    found = cache.run(graphs[which], {"x": np.arange(8, dtype=np.int32)})["y"]
                    if found.tolist() != [factor * i for i in range(8)]:
                        errors.append(found)
                except Exception as error:
                    errors.append(error)

        workers = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return len(errors)


def simulated() -> tuple[dict[str, Metric], dict[str, Any]]:
    """The policy's worst ratio, and all of them, on the traces of plan_traces.py."""
    details = {}
    for label, world in (("H200", World()), ("build x100", World(build=1.5e-3))):
        for name, (ratio, best, p99) in ratios(world).items():
            details[f"{label}: {name}"] = {"ratio": ratio, "best": best, "p99_ms": 1e3 * p99}
    worst = max(entry["ratio"] for entry in details.values())
    return {"plans.worst_trace_ratio": _one(worst, "x")}, {"traces": details}


# With a GPU


def norms(eps: float = 1e-5, count: int = NODES, cluster: bool = False, child: int | None = None) -> Graph:
    """A chain of normalizations, whose epsilon is a number that no region depends on."""
    from forerun.kernels import rmsnorm

    builder = forerun.GraphBuilder("norms")
    x, w, y = builder.input("x", "f32", 128), builder.weight("w", "f32", 128), builder.output("y", "f32", 128)
    temps = [builder.temp(f"t{i}", "f32", 128) for i in range(2)]
    names = [x, *(temps[i % 2] for i in range(count - 1)), y]
    launch = rmsnorm.launch_for(128)
    for i in range(count):
        used = replace(launch, cluster=(1, 1, 1)) if cluster and i == count // 2 else launch
        builder.launch(rmsnorm, x=names[i], w=w, y=names[i + 1], eps=eps, node=f"n{i}", launch=used)
    graph = builder.build()
    if child is None:
        return graph
    edit = graph.edit()
    for name in graph.nodes:
        edit.remove_node(name)
    edit.add_node(ChildGraphNode("child", graph.without_tables()))
    return edit.commit()


def on_gpu(repeats: int) -> dict[str, Metric]:
    """The driver's part: each measurement is tried on its own, and what fails is printed."""
    found: dict[str, Metric] = {}
    values = {"x": np.linspace(1, 2, 128, dtype=np.float32)}
    weights = {"w": np.ones(128, np.float32)}
    base = norms()
    plan = Plan(base, "cuda", weights=weights)
    program: Any = plan._program

    def attempt(name: str, work: Callable[[], Metric]) -> None:
        try:
            found[f"plans.gpu_{name}"] = work()
            print(f"{name}: {found[f'plans.gpu_{name}']}", flush=True)
        except Exception:
            traceback.print_exc()

    def changed(k: int) -> Metric:
        names = [f"n{i * (NODES // k)}" for i in range(k)]
        count = repeats * max(1, 8 // k)  # of short updates more, since the first ones take longer
        graphs = [edited(base, dict.fromkeys(names, 1e-5 * i), "eps") for i in range(2, 2 + count)]
        plan.update(base)
        times = times_of(plan.update, graphs)
        assert (plan.last.way, plan.last.changed) == (Way.PARAMETERS, k), plan.last
        with forerun.compile(graphs[-1], "cuda", None, weights=weights, instruments=()) as fresh:
            np.testing.assert_array_equal(plan.run(values)["y"], fresh.run(values)["y"])
        return _median(times, 1e6, "us")

    def launched() -> Metric:
        times = times_of(lambda _: plan.launch(), list(range(200)))
        plan.synchronize()
        return _median(times, 1e6, "us")

    def whole() -> Metric:
        with Plan(norms(child=1), "cuda", weights=weights) as nested:
            times = times_of(nested.update, [norms(1e-5 * i, child=1) for i in range(2, 6)])
            assert nested.last.way is Way.WHOLE_GRAPH, nested.last
            with forerun.compile(norms(5e-5), "cuda", None, weights=weights, instruments=()) as fresh:
                np.testing.assert_array_equal(nested.run(values)["y"], fresh.run(values)["y"])
        return _median(times, 1e3, "ms")

    def again() -> Metric:
        with Plan(base, "cuda", weights=weights) as other:
            times = times_of(other.update, [norms(cluster=bool(i % 2)) for i in range(1, 6)])
            assert other.last.way is Way.INSTANTIATED, other.last
        return _median(times, 1e3, "ms")

    def in_flight() -> Metric:
        for _ in range(50):
            plan.launch()
        was = plan.in_flight
        plan.synchronize()
        assert was, "50 replays were over at once"
        assert not plan.in_flight
        return _one(1.0)

    def endured() -> Metric:
        graphs = [edited(base, {"n10": 1e-5 * i}, "eps") for i in range(4)]
        free = program._resources.driver.call("cuMemGetInfo")[0]
        for i in range(1000 * repeats):
            plan.update(graphs[i % 4])
        return _one(float(free - program._resources.driver.call("cuMemGetInfo")[0]), "bytes")

    for k in (1, 8, 64, NODES):
        attempt(f"update_k{k}_us", lambda k=k: changed(k))  # type: ignore[misc]
    attempt("launch_us", launched)
    attempt("replay_us", lambda: _one(1e6 * program.seconds_per_replay(50), "us"))
    attempt("emit_ms", lambda: _one(1e3 * program.emit_seconds, "ms"))
    attempt("instantiate_ms", lambda: _one(1e3 * program.instantiate_seconds, "ms"))
    attempt("executable_bytes", lambda: _one(float(program._loaded.executable_bytes), "bytes"))
    attempt("whole_graph_ms", whole)
    attempt("loaded_again_ms", again)
    attempt("in_flight", in_flight)
    attempt("growth_bytes", endured)
    attempt("cluster_after_update", cluster_after_update)
    plan.close()
    return found


_CLUSTER = """
struct Locals {};

__device__ __forceinline__ void cluster_size(const Arguments& a, Locals& l) {
    unsigned size;
    asm volatile("mov.u32 %0, %%cluster_nctaid.x;" : "=r"(size));
    if (threadIdx.x == 0 && blockIdx.x == 0) {
        a.y[0] = int(size) + 0 * a.x[0];
    }
}
"""


@forerun.kernel("x: i32[N] -> y: i32[N]", cuda=_CLUSTER)
def cluster_size(x: Any) -> Any:
    return x


def cluster_after_update() -> Metric:
    """The cluster that a node launches with after ``cuGraphExecUpdate`` to 4 from 2: 2 if the driver keeps the old."""
    from forerun.runtime.cuda.emit.emitter import Emitter
    from forerun.runtime.cuda.emit.hostcalls import HostCalls

    def graph(cluster: int) -> Graph:
        builder = forerun.GraphBuilder("cluster")
        x, y = builder.input("x", "i32", 1), builder.output("y", "i32", 1)
        launch = forerun.Launch((4, 1, 1), (32, 1, 1), 0, (cluster, 1, 1))
        builder.launch(cluster_size, x=x, y=y, launch=launch)
        return builder.build()

    with Plan(graph(2), "cuda") as plan, Plan(graph(4), "cuda") as other:
        first: Any = plan._program
        second: Any = other._program
        sizes = [p.run({"x": [0]})["y"][0] for p in (plan, other)]
        assert sizes == [2, 4], sizes
        resources = first._loaded.resources
        with resources.context.current():
            functions, context = second._loaded.functions, resources.context.handle
            made = Emitter(resources.scope, graph(4), first._loaded.memory, functions, context, HostCalls()).emit()
            error, *_ = resources.driver.function("cuGraphExecUpdate")(first._executable, made)
        kept = int(plan.run({"x": [0]})["y"][0])
        print(f"cuGraphExecUpdate from a cluster of 2 to 4: {getattr(error, 'name', error)}; the node runs with {kept}")
        update = plan.update(graph(4))
        right = int(plan.run({"x": [0]})["y"][0])
        assert (update.way, right) == (Way.INSTANTIATED, 4), (update, right)
    return _one(kept, "CTAs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpu", action="store_true", help="measure the driver's updates on a GPU")
    parser.add_argument("--quick", action="store_true", help="few repeats, 20,000 updates")
    arguments = parser.parse_args()
    repeats = 5 if arguments.quick else 25
    if arguments.gpu:
        write_result("plans_gpu", on_gpu(repeats))
        return
    metrics = updates(repeats)
    count = 20_000 if arguments.quick else 1_000_000
    growth = max(endurance(count, NothingTarget()), endurance(count // 50, "reference"))
    metrics |= {"plans.updates": _one(count), "plans.growth_bytes": _one(growth, "bytes")}
    errors = threads_on_one_cache(20 if arguments.quick else 200)
    metrics["plans.thread_errors"] = _one(errors)
    ratio, details = simulated()
    write_result("plans", {**metrics, **ratio}, details=details)
    for name, limit in LIMITS.items():
        value = metrics[f"plans.{name}"].value
        print(f"{name:20} {value:10.3f} of at most {limit:g}{'' if value <= limit else '  MISSED'}")


if __name__ == "__main__":
    main()
