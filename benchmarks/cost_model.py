"""The cost model against measured graphs: the median of its relative errors, which must be at most 15 %.

What was measured: decode steps that ``llama_step.py`` and ``models.py`` have timed, from their result files; and a JSON
file of this benchmark's own, results/cost_model_measured.json, if it is there: a list of objects with ``name``,
``seconds`` of one replay, ``inputs`` (what regions depend on, such as {"position": [160]}), and the graph as it ran:
``graph`` (a .fir file, such as the last one of a dump), or ``shape``, ``context`` and ``pipeline`` of a decode step in
bf16 (``loop``: of a generation loop, a token), or ``chain`` and ``pipeline``. Writes results/cost_model.json.

    python benchmarks/cost_model.py                # anywhere
    python benchmarks/cost_model.py --measure      # on a GPU, without torch: times graphs first, and keeps the file
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import Metric, bootstrap_median, write_result
from controls import scratch_chain
from numpy.typing import NDArray
from rows import ABLATION, FULL_EDGES

import forerun
from forerun.frontends.decode import decode_graph, generation_graph
from forerun.frontends.llama_config import shape_named
from forerun.frontends.random_weights import DEVIATION, RandomWeights
from forerun.ir.graph import Graph
from forerun.ir.text import parse_graph
from forerun.ir.types import BufferRole, DType
from forerun.kernels import norm_head
from forerun.passes.manager import PassManager
from forerun.runtime.cost import estimate
from forerun.runtime.dtypes import numpy_dtype

RESULTS = Path(__file__).parent / "results"
MEASURED = RESULTS / "cost_model_measured.json"
LIMIT = 0.15
TOLERANCE = 2e-3
"""Relative L2 of logits, between versions that sum in different orders."""

_TIMED = {name: pipeline for name, pipeline in ABLATION.items() if name != "hoist_nc"}
_FEW = {"serial": "", "full": ABLATION["full"], "hoist": ABLATION["hoist"], "rings": "fast"}
STEPS: dict[tuple[str, int], tuple[tuple[int, ...], dict[str, str]]] = {
    ("llama-3.2-1b", 1024): ((160, 511), {"serial": "", **_TIMED, "full_edges": FULL_EDGES}),
    ("llama-3.2-1b", 2304): ((2047,), {"full_edges": FULL_EDGES, "rings": "fast"}),
    ("qwen2.5-0.5b", 1024): ((160, 511), _FEW),
    ("smollm2-135m", 1024): ((160, 511), _FEW),
}
"""What is timed, by shape and context: positions, and pipelines by their names. ``serial`` comes first: it is checked
against."""
_POOL = (1 << 22) + 12345  # rows of matrices do not repeat soon
CHAIN = {"serial": "", "edges": "insert-pdl{trigger=end}", "hoist": "insert-pdl,hoist-loads"}


# Graphs


def step_of(shape: str, context: int) -> Graph:
    """A decode step as the benchmarks build it."""
    config = shape_named(shape)
    splits = max(1, 128 // config.kv_heads)
    types = {"dtype": DType.BF16, "cache_dtype": DType.BF16}
    return decode_graph(config, context=context, splits=splits, argmax_parts=norm_head.PARTS, **types)


def loop_of(shape: str, context: int, limit: int) -> Graph:
    """A generation loop as ``models.py`` builds it."""
    types = {"dtype": DType.BF16, "cache_dtype": DType.BF16}
    config = shape_named(shape)
    return generation_graph(
        config, limit=limit, eot=-1, context=context, splits=32, argmax_parts=norm_head.PARTS, **types
    )


def graph_of(record: Mapping[str, Any]) -> Graph:
    """The graph that was measured."""
    if "graph" in record:
        return parse_graph(Path(record["graph"]).read_text(encoding="utf-8"), record["graph"])
    if "chain" in record:
        start = scratch_chain(record["chain"])
    elif "loop" in record:
        start = loop_of(record["shape"], record["context"], record["loop"])
    else:
        start = step_of(record["shape"], record["context"])
    return PassManager(record["pipeline"]).run(start).graph


def estimated(record: Mapping[str, Any]) -> float:
    """Seconds of a replay, or of a token of a loop."""
    found = estimate(graph_of(record), record.get("inputs", {}))
    if "loop" not in record:
        return found.seconds
    return found.nodes["decode"].end - found.nodes["decode"].ready


# What other benchmarks have measured


def recorded(results: Path = RESULTS) -> Iterator[dict[str, Any]]:
    """Records from the result files of other benchmarks, as far as they are there."""
    llama = {"shape": "llama-3.2-1b", "context": 1024}
    found = _microseconds(results, "ablation")
    for row in _TIMED:
        if f"ablation.{row}_us" in found:
            us = found[f"ablation.{row}_us"]
            yield _record(f"ablation.{row}", us, llama, ABLATION[row], 511)
    found = _microseconds(results, "llama_step")
    for place, position, context in (("pos160", 160, 1024), ("pos512", 511, 1024), ("pos2048", 2047, 2304)):
        for kind, pipeline in (("step_us", "fast"), ("full_edges_us", FULL_EDGES)):
            us = found.get(f"llama_1b.{kind}.{place}", 0.0)
            if us:
                yield _record(f"llama_step.{kind}.{place}", us, {**llama, "context": context}, pipeline, position)
    found = _microseconds(results, "models")
    if "qwen2_5_0_5b.one_step_us" in found:
        us = found["qwen2_5_0_5b.one_step_us"]
        yield _record("models.qwen2_5_0_5b", us, {"shape": "qwen2.5-0.5b", "context": 1024}, "fast", 511)
    loop = {"shape": "smollm2-135m", "context": 512, "loop": 128}
    for name, pipeline in (("", "fast"), ("_no_passes", "")):
        rate = found.get(f"smollm2.tokens_per_second{name}", 0.0)
        if rate:
            yield _record(f"models.smollm2{name}", 1e6 / rate, loop, pipeline, 128)


def _microseconds(results: Path, name: str) -> dict[str, float]:
    path = results / f"{name}.json"
    if not path.exists():
        return {}
    return {key: metric["value"] for key, metric in json.loads(path.read_text())["metrics"].items()}


def _record(name: str, us: float, what: Mapping[str, Any], pipeline: str, position: int) -> dict[str, Any]:
    inputs = {"position": [position], "token": [11]}
    return {"name": name, **what, "pipeline": pipeline, "inputs": inputs, "seconds": us / 1e6}


# Measuring


class PooledWeights(Mapping[str, NDArray[Any]]):
    """Random weights whose matrices are pieces of one pool of numbers, since times do not depend on them.

    Args:
        graph: Whose weights.
        others: Where those that are no matrices are from.
    """

    def __init__(self, graph: Graph, others: Mapping[str, NDArray[Any]]) -> None:
        self._shapes = {b.name: b.shape for b in graph.buffers.values() if b.role is BufferRole.WEIGHT}
        self._others = others
        values = np.random.default_rng(0).standard_normal(_POOL, np.float32) * np.float32(DEVIATION)
        self._pool = values.astype(numpy_dtype(DType.BF16))

    def __getitem__(self, name: str) -> NDArray[Any]:
        shape = self._shapes[name]
        if len(shape) != 2:
            return self._others[name]
        start = 4096 * list(self._shapes).index(name)
        return np.resize(np.roll(self._pool, -start), shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def measure() -> Iterator[dict[str, Any]]:
    """Times of decode steps of several shapes, pipelines and positions on this GPU, and of a chain."""
    for (shape, context), (positions, pipelines) in STEPS.items():
        what = {"shape": shape, "context": context}
        graph = step_of(shape, context)
        weights = PooledWeights(graph, RandomWeights(shape_named(shape), DType.BF16))
        inputs = [{"position": [position], "token": [11]} for position in positions]
        yield from _timed(f"{shape}.{context}", graph, weights, pipelines, inputs, what)
    chain = scratch_chain()
    x = np.random.default_rng(0).standard_normal(chain.buffers["x"].shape, np.float32)
    weights = PooledWeights(chain, {})
    for record in _timed("chain", chain, weights, CHAIN, [{"x": x}], {"chain": len(chain) // 2}):
        yield {**record, "inputs": {}}


def _timed(
    name: str,
    graph: Graph,
    weights: Mapping[str, Any],
    pipelines: Mapping[str, str],
    inputs: list[dict[str, Any]],
    what: Mapping[str, Any],
) -> Iterator[dict[str, Any]]:
    """A record for each pipeline and input. The first version keeps the weights on the GPU, for all."""
    first, *others = pipelines
    with forerun.compile(graph, "cuda", pipelines[first], weights=weights) as base:
        held = {weight: base.buffer(weight) for weight in weights}
        expected = [base.run(given) for given in inputs]
        yield from _times(base, name, first, pipelines[first], inputs, expected, what)
        for row in others:
            with forerun.compile(graph, "cuda", pipelines[row], weights=held) as version:
                yield from _times(version, name, row, pipelines[row], inputs, expected, what)


def _times(
    version: forerun.Executable,
    name: str,
    row: str,
    pipeline: str,
    inputs: list[dict[str, Any]],
    expected: list[dict[str, NDArray[Any]]],
    what: Mapping[str, Any],
) -> Iterator[dict[str, Any]]:
    for given, wanted in zip(inputs, expected, strict=True):
        wrong = _difference(version.run(given), wanted)
        full_name = f"{name}.{row}" + (f".pos{given['position'][0]}" if "position" in given else "")
        if wrong:
            print(f"{full_name}: LEFT OUT, not timed: {wrong}", flush=True)
            continue
        times = [version.seconds_per_replay(20) for _ in range(7)]
        yield {"name": full_name, **what, "pipeline": pipeline, "inputs": given, "seconds": statistics.median(times)}


def _difference(found: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]]) -> str:
    """What outputs say else than they should: numbers within the tolerance, choices the same."""
    for name, value in expected.items():
        if value.dtype.kind in "iu":
            wrong = not np.array_equal(found[name], value)
        else:
            wrong = bool(np.linalg.norm(found[name] - value) > TOLERANCE * np.linalg.norm(value))
        if wrong:
            return f"output %{name} differs"
    return ""


# Comparing


def errors(records: list[dict[str, Any]]) -> list[float]:
    """The relative error for each record, printed."""
    found = []
    for record in records:
        expected = estimated(record)
        found.append(expected / record["seconds"] - 1)
        print(f"{record['name']}: {record['seconds'] * 1e6:.1f} us, estimated {expected * 1e6:.1f} ({found[-1]:+.1%})")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", default=MEASURED, help="what was measured")
    parser.add_argument("--measure", action="store_true", help="measure on this GPU first, and write the file")
    options = parser.parse_args()
    if options.measure:
        began = time.perf_counter()
        measured = []
        for record in measure():
            measured.append(record)
            print(
                f"{time.perf_counter() - began:5.1f} s  {record['name']}: {record['seconds'] * 1e6:.1f} us", flush=True
            )
            # After each, so that what was measured is there whatever comes next.
            options.file.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    given = json.loads(options.file.read_text(encoding="utf-8")) if options.file.exists() else []
    records = [*recorded(), *given]
    found = errors(records)
    each = zip(records, found, strict=True)
    metrics = {f"cost_model.error.{record['name']}": Metric(error, "ratio", error, error) for record, error in each}
    metric = bootstrap_median([abs(error) for error in found], "ratio")
    write_result("cost_model", {"cost_model.median_error": metric, **metrics})
    verdict = "within" if metric.value <= LIMIT else "above"
    print(f"median {metric.value:.1%} of {len(found)} graphs, {verdict} {LIMIT:.0%}")


if __name__ == "__main__":
    main()
