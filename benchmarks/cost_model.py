"""The cost model against measured graphs of an H100 and an H200: its relative errors, by graph.

What was measured: steps that other benchmarks have timed, from their result files (``cost_records.py``, which also says
which of an H200's records constants were fitted to, and which are of kernels that have changed since); and two files of
this benchmark's own, results/cost_model_measured.json (an H100) and cost_model_noted_h200.json. Writes
results/cost_model.json, which says what it was compared with: files, their commits and GPUs.

``cost_model.median_error`` and ``.worst_error`` are over all graphs of an H200 that no constant was fitted to, and that
the model sees as they were timed; those of ``cost_model.same_code`` over those of them whose kernels are also the same
machine code as then. A graph that was timed several times counts once, with its mean error. Those of
``cost_model.h100`` are over all times of an H100, some constants of which were fitted to earlier runs of these graphs.

Of the ablation, ``hoist_nc`` is left out (the graph of ``hoist``, its sources changed behind forerun's back), and
``control_off`` (``full`` once more). Graphs are built as they are now, also where a result is of an older commit.

    python benchmarks/cost_model.py                # anywhere
    python benchmarks/cost_model.py --fit          # the same, after the constants that the fitted records give
    python benchmarks/cost_model.py --measure      # on a GPU, without torch: times graphs first, and keeps the file
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import Metric, bootstrap_median, origin, write_result
from controls import scratch_chain
from cost_records import GPU, RESULTS, TIMED, graph_of, recorded, recorded_h200, step_of
from numpy.typing import NDArray
from rows import ABLATION, FULL_EDGES

import forerun
from forerun.frontends.llama_config import shape_named
from forerun.frontends.random_weights import DEVIATION, RandomWeights
from forerun.ir.graph import Graph
from forerun.ir.types import BufferRole, DType
from forerun.measure.step import differences
from forerun.runtime.dtypes import numpy_dtype
from forerun.tuner.cost_model import estimate
from forerun.tuner.gpus import Constants, constants_of

MEASURED = RESULTS / "cost_model_measured.json"
LIMIT, WORST = 0.10, 0.25
"""Upper limits of the median and of the largest absolute error on an H200."""
FITTED = ("of_registers", "index", "copy")
"""What no calibration measures, and is not the same on both GPUs or was not known of either before."""
TOLERANCE = 2e-3
"""Relative L2 of logits, between versions that sum in different orders."""

_FEW = {"serial": "", "full": ABLATION["full"], "hoist": ABLATION["hoist"], "rings": "fast"}
STEPS: dict[tuple[str, int], tuple[tuple[int, ...], dict[str, str]]] = {
    ("llama-3.2-1b", 1024): ((160, 511), {"serial": "", **TIMED, "full_edges": FULL_EDGES}),
    ("llama-3.2-1b", 2304): ((2047,), {"full_edges": FULL_EDGES, "rings": "fast"}),
    ("qwen2.5-0.5b", 1024): ((160, 511), _FEW),
    ("smollm2-135m", 1024): ((160, 511), _FEW),
}
"""What is timed, by shape and context: positions, and pipelines by their names. ``serial`` comes first: it is checked
against."""
_POOL = (1 << 22) + 12345  # rows of matrices do not repeat soon
CHAIN = {"serial": "", "edges": "insert-pdl{trigger=end}", "hoist": "insert-pdl,hoist-loads"}


# Estimates


def seconds_of(record: Mapping[str, Any], graph: Graph, constants: Constants) -> float:
    """Seconds of a replay, or of a token of a loop."""
    found = estimate(graph, constants, record.get("inputs", {}))
    if "loop" not in record:
        return found.seconds
    return found.nodes["decode"].end - found.nodes["decode"].ready


def fit(records: Iterable[Mapping[str, Any]], constants: Constants, names: Iterable[str] = FITTED) -> Constants:
    """The constants with those of these names so that squares of the logarithms of errors are least.

    Each in turn is made larger or smaller by a step, as long as that helps, and then the step is made smaller.
    """
    graphs = [(record, graph_of(record)) for record in records]

    def loss(tried: Constants) -> float:
        return sum(math.log(seconds_of(record, graph, tried) / record["seconds"]) ** 2 for record, graph in graphs)

    least, step = loss(constants), 1.3
    while step > 1.005:
        tried = [replace(constants, **{n: getattr(constants, n) * f}) for n in names for f in (step, 1 / step)]
        found, best = min(((loss(c), i) for i, c in enumerate(tried)))
        if found < least:
            least, constants = found, tried[best]
        else:
            step **= 0.5
    return constants


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


def errors(records: list[dict[str, Any]], constants: Constants | None = None) -> list[float]:
    """The relative error for each record, printed; by the constants of its GPU if none are given."""
    found = []
    for record in records:
        expected = seconds_of(record, graph_of(record), constants or constants_of(record.get("gpu", GPU)))
        found.append(expected / record["seconds"] - 1)
        group = f"{record['group']:8} " if "group" in record else ""
        times = f"{record['seconds'] * 1e6:8.1f} us, estimated {expected * 1e6:8.1f} ({found[-1]:+.1%})"
        print(f"{group}{record['name']}: {times}")
    return found


def by_graph(records: Iterable[Mapping[str, Any]], found: Iterable[float], groups: tuple[str, ...]) -> list[float]:
    """The absolute value of the mean error of each graph of these groups; inputs are a part of a graph here."""
    graphs: dict[str, list[float]] = {}
    for record, error in zip(records, found, strict=True):
        if record["group"] in groups:
            key = {name: record[name] for name in record if name not in ("name", "seconds", "file", "group")}
            graphs.setdefault(json.dumps(key, sort_keys=True), []).append(error)
    return [abs(statistics.mean(of_graph)) for of_graph in graphs.values()]


def summary(name: str, found: list[float]) -> dict[str, Metric]:
    """The median and the largest of absolute errors."""
    worst = max(found)
    return {
        f"{name}.median_error": bootstrap_median(found, "ratio"),
        f"{name}.worst_error": Metric(worst, "ratio", worst, worst),
    }


def measured(file: Path) -> None:
    """Time the graphs on this GPU, and keep the file."""
    began, where = time.perf_counter(), origin()
    found = []
    for record in measure():
        found.append(record)
        print(f"{time.perf_counter() - began:5.1f} s  {record['name']}: {record['seconds'] * 1e6:.1f} us", flush=True)
        # After each, so that what was measured is there whatever comes next.
        file.write_text(json.dumps({**where, "records": found}, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", default=MEASURED, help="what was measured")
    parser.add_argument("--measure", action="store_true", help="measure on this GPU first, and write the file")
    parser.add_argument("--fit", action="store_true", help="print what the fitted records give")
    options = parser.parse_args()
    if options.measure:
        measured(options.file)
    given = json.loads(options.file.read_text(encoding="utf-8")) if options.file.exists() else {"records": []}
    older = [*recorded(), *({"gpu": given.get("gpu", GPU), **record} for record in given["records"])]
    newer = list(recorded_h200())
    if options.fit:
        chosen = [record for record in newer if record["group"] == "fitted"]
        print(fit(chosen, constants_of(chosen[0]["gpu"])))
    found_older, found = errors(older), errors(newer)
    metrics = summary("cost_model", by_graph(newer, found, ("test", "changed")))
    metrics |= summary("cost_model.same_code", by_graph(newer, found, ("test",)))
    metrics |= summary("cost_model.h100", [abs(error) for error in found_older])
    for record, error in zip([*newer, *older], [*found, *found_older], strict=True):
        of = f"{record['group']}." if "group" in record else "h100."
        metrics[f"cost_model.error.{of}{record['name']}"] = Metric(error, "ratio", error, error)
    path = write_result("cost_model", metrics)
    result = json.loads(path.read_text(encoding="utf-8"))
    values, compared = result.pop("metrics"), compared_with([*newer, *older])
    result |= {"note": note_of(compared), "compared_with": compared, "metrics": values}
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    median, worst = (metrics[f"cost_model.{name}_error"].value for name in ("median", "worst"))
    print(f"H200: median {median:.1%} (at most {LIMIT:.0%}), worst {worst:.1%} (at most {WORST:.0%})")


if __name__ == "__main__":
    main()
