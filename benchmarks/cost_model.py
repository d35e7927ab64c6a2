"""The cost model against measured graphs: the median of its relative errors, which must be at most 15 %.

Reads a JSON file of what was measured, a list of objects: ``name``, ``seconds`` of one replay, and the graph as it ran:
``graph`` (a .fir file, such as the last one of a dump), or ``shape``, ``context`` and ``pipeline`` of a decode step in
bf16. ``inputs`` says what regions depend on, such as {"position": [160]}. Writes results/cost_model.json.

    python benchmarks/cost_model.py measured.json
    python benchmarks/cost_model.py --measure measured.json      # on a GPU: times decode steps, and keeps them
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common import bootstrap_median, write_result

import forerun
from forerun.frontends.decode import decode_graph
from forerun.frontends.llama_config import shape_named
from forerun.frontends.random_weights import RandomWeights
from forerun.ir.graph import Graph
from forerun.ir.text import parse_graph
from forerun.ir.types import DType
from forerun.passes.manager import PassManager
from forerun.runtime.cost import estimate

SHAPES = ("smollm2-135m", "qwen2.5-0.5b", "llama-3.2-1b")
PIPELINES = ("", "infer-dependencies", "infer-dependencies,insert-pdl", "default", "fast")
POSITIONS = (160, 512)
CONTEXT = 1024
LIMIT = 0.15


def step_of(shape: str, context: int) -> Graph:
    """A decode step as ``forerun bench`` builds it."""
    config = shape_named(shape)
    splits = max(1, 128 // config.kv_heads)
    return decode_graph(config, context=context, dtype=DType.BF16, splits=splits, argmax_parts=128)


def graph_of(record: Mapping[str, Any]) -> Graph:
    """The graph that was measured."""
    if "graph" in record:
        return parse_graph(Path(record["graph"]).read_text(encoding="utf-8"), record["graph"])
    return PassManager(record["pipeline"]).run(step_of(record["shape"], record["context"])).graph


def measure() -> Iterator[dict[str, Any]]:
    """Times of decode steps of several shapes, pipelines and positions on this GPU."""
    for shape in SHAPES:
        weights = RandomWeights(shape_named(shape), DType.BF16)
        for pipeline in PIPELINES:
            graph = step_of(shape, CONTEXT)
            with forerun.compile(graph, "cuda", pipeline, weights=weights) as executable:
                for position in POSITIONS:
                    executable.run({"token": [1], "position": [position]})
                    times = [executable.seconds_per_replay(50) for _ in range(9)]
                    yield {
                        "name": f"{shape}, {pipeline or 'no passes'}, position {position}",
                        "shape": shape,
                        "context": CONTEXT,
                        "pipeline": pipeline,
                        "inputs": {"position": [position], "token": [1]},
                        "seconds": statistics.median(times),
                    }


def errors(records: list[dict[str, Any]]) -> list[float]:
    """The relative error for each record, printed."""
    found = []
    for record in records:
        expected = estimate(graph_of(record), record.get("inputs", {})).seconds
        found.append(expected / record["seconds"] - 1)
        print(f"{record['name']}: {record['seconds'] * 1e6:.1f} us, estimated {expected * 1e6:.1f} ({found[-1]:+.1%})")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--measure", action="store_true", help="measure on this GPU first, and write the file")
    options = parser.parse_args()
    if options.measure:
        options.file.write_text(json.dumps(list(measure()), indent=1) + "\n", encoding="utf-8")
    found = [abs(error) for error in errors(json.loads(options.file.read_text(encoding="utf-8")))]
    metric = bootstrap_median(found, "ratio")
    write_result("cost_model", {"cost_model.median_error": metric})
    verdict = "within" if metric.value <= LIMIT else "above"
    print(f"median {metric.value:.1%} of {len(found)} graphs, {verdict} {LIMIT:.0%}")


if __name__ == "__main__":
    main()
