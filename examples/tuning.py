"""Tuning: on a GPU by measuring the whole graph, elsewhere by the cost model.

The cost model estimates times from bytes and boundaries. It shows what a search does, and finds where programmatic
dependencies pay; the best launches can only be measured.
"""

from __future__ import annotations

from dataclasses import replace

import forerun
from forerun.frontends.decode import decode_graph
from forerun.frontends.llama_config import SHAPES
from forerun.frontends.random_weights import RandomWeights
from forerun.passes.infra.manager import PassManager
from forerun.runtime.gpu import no_gpu_reason
from forerun.tuner import Search, TuningResult
from forerun.tuner.cost_model import CostModel
from forerun.tuner.gpus import H100

CONFIG = replace(SHAPES["smollm2-135m"], layers=2)


def tune_by_measuring() -> TuningResult:
    weights = RandomWeights(CONFIG)
    return forerun.tune(
        decode_graph(CONFIG, context=256), "cuda", weights=weights, budget_seconds=20, file="tuning.json"
    )


def tune_by_the_cost_model() -> TuningResult:
    graph = PassManager("exact").run(decode_graph(CONFIG, context=256)).graph
    return Search(CostModel(H100, {"position": [127]}), rounds=1, sweeps=1, budget=10).run(graph)


def main() -> None:
    reason = no_gpu_reason()
    result = tune_by_measuring() if reason is None else tune_by_the_cost_model()
    how = "measured" if reason is None else f"estimated by the cost model, since {reason}"
    print(f"{how}: {1e6 * result.untuned:.1f} us untuned, {1e6 * result.tuned:.1f} us tuned")
    kept = [trial for trial in result.trials if trial.verdict == "kept"]
    print(f"{len(result.trials)} changes were tried, {len(kept)} kept")
    for trial in kept:
        print(f"  {trial.brief}")
    assert result.tuned <= result.untuned


if __name__ == "__main__":
    main()
