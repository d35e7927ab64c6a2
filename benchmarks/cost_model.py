"""The cost model against measured graphs: the median of its relative errors, which must be at most 15 %.

What was measured: decode steps that ``llama_step.py`` and ``models.py`` have timed, from their result files; and a JSON
file of this benchmark's own, results/cost_model_measured.json, if it is there: ``records``, objects with ``name``,
``seconds`` of one replay, ``inputs`` (what regions depend on, such as {"position": [160]}), and the graph as it ran:
``graph`` (a .fir file, such as the last one of a dump), or ``shape``, ``context`` and ``pipeline`` of a decode step in
bf16 (``loop``: of a generation loop, a token; ``tuning``: with the choices of that file), or ``chain`` and
``pipeline``. Writes results/cost_model.json, which says what it was compared with: files, their commits and GPUs.

Of the ablation, ``hoist_nc`` is left out (the graph of ``hoist``, its sources changed behind forerun's back), and
``control_off`` (``full`` once more). Graphs are built as they are now, also where a result is of an older commit.

    python benchmarks/cost_model.py                # anywhere
    python benchmarks/cost_model.py --measure      # on a GPU, without torch: times graphs first, and keeps the file
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import Metric, bootstrap_median, origin, write_result
from controls import scratch_chain
from numpy.typing import NDArray
from rows import ABLATION, FULL_EDGES, tuning_for

import forerun
from forerun.frontends.decode import decode_graph, generation_graph
from forerun.frontends.llama_config import shape_named
from forerun.frontends.random_weights import DEVIATION, RandomWeights
from forerun.ir.graph import Graph
from forerun.ir.text import parse_graph
from forerun.ir.types import BufferRole, DType
from forerun.kernels import norm_head
from forerun.measure.step import differences
from forerun.passes.apply_tuning import ApplyTuning
from forerun.passes.infra.known_tunings import SHIPPED
from forerun.passes.infra.manager import PassManager
from forerun.passes.infra.pipeline import Pipeline
from forerun.runtime.dtypes import numpy_dtype
from forerun.tuner.cost_model import estimate
from forerun.tuner.gpus import constants_of

RESULTS = Path(__file__).parent / "results"
MEASURED = RESULTS / "cost_model_measured.json"
TUNING = SHIPPED / "nvidia-h100-llama-3.2-1b.json"
"""The choices with which the rows ``tuned`` were measured."""
GPU = "NVIDIA H100 80GB HBM3"
"""What records are of that do not name their GPU."""
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
    return decode_graph(
        config,
        context=context,
        dtype=DType.BF16,
        cache_dtype=DType.BF16,
        splits=splits,
        argmax_parts=norm_head.PARTS,
    )


def loop_of(shape: str, context: int, limit: int) -> Graph:
    """A generation loop as ``models.py`` builds it."""
    return generation_graph(
        shape_named(shape),
        limit=limit,
        eot=-1,
        context=context,
        dtype=DType.BF16,
        cache_dtype=DType.BF16,
        splits=32,
        argmax_parts=norm_head.PARTS,
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
    passes = Pipeline.parse(record["pipeline"])
    if "tuning" in record:
        passes = Pipeline((*passes, ApplyTuning(record["tuning"])))
    return PassManager(passes).run(start).graph


def estimated(record: Mapping[str, Any]) -> float:
    """Seconds of a replay, or of a token of a loop."""
    found = estimate(graph_of(record), constants_of(record.get("gpu", GPU)), record.get("inputs", {}))
    if "loop" not in record:
        return found.seconds
    return found.nodes["decode"].end - found.nodes["decode"].ready


# What other benchmarks have measured


def recorded(results: Path = RESULTS) -> Iterator[dict[str, Any]]:
    """Records from the result files of other benchmarks, as far as they are there."""
    llama = {"shape": "llama-3.2-1b", "context": 1024}
    tuned = _tuned(llama)
    rows: list[tuple[str, str, Mapping[str, Any], str, int]] = [
        *(("ablation", f"{row}_us", llama, pipeline, 511) for row, pipeline in _TIMED.items()),
        ("ablation", "tuned_us", tuned, ABLATION["rings"], 511),
    ]
    for place, position, context in (("pos160", 160, 1024), ("pos512", 511, 1024), ("pos2048", 2047, 2304)):
        here = {**llama, "context": context}
        rows += [
            ("llama_step", f"step_us.{place}", here, "fast", position),
            ("llama_step", f"tuned_step_us.{place}", _tuned(here), "fast", position),
            ("llama_step", f"full_edges_us.{place}", here, FULL_EDGES, position),
        ]
    qwen = {"shape": "qwen2.5-0.5b", "context": 1024}
    rows += [
        ("llama_torch", "one_step_us", llama, "fast", 511),
        ("llama_torch", "tuned_one_step_us", tuned, "fast", 511),
        ("tuning", "untuned_us", llama, "fast", 511),
        ("tuning", "tuned_us", tuned, "fast", 511),
        ("models", "qwen2_5_0_5b.one_step_us", qwen, "fast", 511),
    ]
    for file, metric, what, pipeline, position in rows:
        found = _values(results, file)
        us = found.get(f"{file}.{metric}", found.get(f"llama_1b.{metric}", found.get(metric, 0.0)))
        if us:
            yield {**_record(file, metric, us, what, pipeline, position), "gpu": _gpu_of(results, file)}
    loop = {"shape": "smollm2-135m", "context": 512, "loop": 128}
    for name, pipeline in (("", "fast"), ("_no_passes", "")):
        rate = _values(results, "models").get(f"smollm2.tokens_per_second{name}", 0.0)
        if rate:
            yield _record("models", f"smollm2{name}", 1e6 / rate, loop, pipeline, 128)


def _tuned(what: Mapping[str, Any]) -> dict[str, Any]:
    return {**what, "tuning": str(tuning_for(TUNING, what["context"]))}


def _gpu_of(results: Path, file: str) -> str:
    said = json.loads((results / f"{file}.json").read_text(encoding="utf-8"))
    return str(said.get("gpu", GPU))


def _values(results: Path, file: str) -> dict[str, float]:
    path = results / f"{file}.json"
    if not path.exists():
        return {}
    return {key: metric["value"] for key, metric in json.loads(path.read_text(encoding="utf-8"))["metrics"].items()}


def _record(file: str, metric: str, us: float, what: Mapping[str, Any], pipeline: str, position: int) -> dict[str, Any]:
    inputs = {"position": [position], "token": [11]}
    return {
        "name": f"{file}.{metric.removesuffix('_us')}",
        "file": file,
        **what,
        "pipeline": pipeline,
        "inputs": inputs,
        "seconds": us / 1e6,
    }


def compared_with(records: Iterable[Mapping[str, Any]], results: Path = RESULTS) -> dict[str, dict[str, str]]:
    """The result files that records are from: of which commit, GPU and date."""
    found: dict[str, dict[str, str]] = {}
    for file in dict.fromkeys(str(record.get("file", MEASURED.stem)) for record in records):
        path = results / f"{file}.json"
        said = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        found[file] = {key: said.get(key, "unknown") for key in ("commit", "gpu", "driver", "date")}
    return found


def note_of(compared: Mapping[str, Mapping[str, str]]) -> str:
    """The same in words, by commit."""
    commits: dict[str, list[str]] = {}
    for file, said in compared.items():
        commits.setdefault(said["commit"][:12], []).append(f"`{file}.json`")
    return "compared with " + "; ".join(f"{', '.join(files)} of {commit}" for commit, files in commits.items())


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
    with forerun.compile(graph, "cuda", pipelines[first], weights=weights, tuning=None) as base:
        held = {weight: base.buffer(weight) for weight in weights}
        expected = [base.run(given) for given in inputs]
        yield from _times(base, name, first, pipelines[first], inputs, expected, what)
        for row in others:
            with forerun.compile(graph, "cuda", pipelines[row], weights=held, tuning=None) as version:
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
    for difference in differences(found, expected):
        exact = expected[difference.output].dtype.kind in "iu"
        if not difference.relative_l2 <= (0 if exact else TOLERANCE):  # NaN is not
            return f"output %{difference.output} differs"
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
        began, where = time.perf_counter(), origin()
        measured = []
        for record in measure():
            measured.append(record)
            print(
                f"{time.perf_counter() - began:5.1f} s  {record['name']}: {record['seconds'] * 1e6:.1f} us", flush=True
            )
            # After each, so that what was measured is there whatever comes next.
            text = json.dumps({**where, "records": measured}, indent=1)
            options.file.write_text(text + "\n", encoding="utf-8")
    given = json.loads(options.file.read_text(encoding="utf-8")) if options.file.exists() else {"records": []}
    records = [*recorded(), *({"gpu": given.get("gpu", GPU), **record} for record in given["records"])]
    found = errors(records)
    each = zip(records, found, strict=True)
    metrics = {f"cost_model.error.{record['name']}": Metric(error, "ratio", error, error) for record, error in each}
    metric = bootstrap_median([abs(error) for error in found], "ratio")
    path = write_result("cost_model", {"cost_model.median_error": metric, **metrics})
    result = json.loads(path.read_text(encoding="utf-8"))
    values, compared = result.pop("metrics"), compared_with(records)
    result |= {"note": note_of(compared), "compared_with": compared, "metrics": values}
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    verdict = "within" if metric.value <= LIMIT else "above"
    print(f"median {metric.value:.1%} of {len(found)} recorded times, {verdict} {LIMIT:.0%}")


if __name__ == "__main__":
    main()
