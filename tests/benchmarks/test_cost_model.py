"""The benchmark of the cost model reads what was measured, and compares it with estimates."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from forerun.ir.text import print_graph
from forerun.tuner.cost_model import estimate
from forerun.tuner.gpus import H100, H200

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("cost_model", FOLDER / "cost_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "cost_model", module)
    spec.loader.exec_module(module)
    return module


def test_errors_of_graphs_and_of_shapes(benchmark: ModuleType, tmp_path: Path) -> None:
    shaped = {"name": "a", "shape": "smollm2-135m", "context": 64, "pipeline": "", "inputs": {"position": [3]}}
    graph = benchmark.graph_of(shaped)
    seconds = estimate(graph, H100, {"position": [3]}).seconds
    path = tmp_path / "graph.fir"
    path.write_text(print_graph(graph), encoding="utf-8")
    filed = {"name": "b", "graph": str(path), "inputs": {"position": [3]}, "seconds": 2 * seconds}
    found = benchmark.errors([{**shaped, "seconds": seconds}, filed])
    assert found == pytest.approx([0.0, -0.5])


def test_records_of_an_h200_are_told_apart(benchmark: ModuleType) -> None:
    records = list(benchmark.recorded_h200())
    groups = {group: [r["name"] for r in records if r["group"] == group] for group in {r["group"] for r in records}}
    assert groups.keys() == {"fitted", "test", "changed", "replaced"}
    assert len({record["name"] for record in records}) == len(records)
    assert all(record["gpu"] == "NVIDIA H200" for record in records)
    assert len(groups["fitted"]) == 5
    assert all(name.startswith("quantised.") for name in groups["replaced"])
    # Whoever shares a graph with a fitted record is none of those that test.
    fitted = [record for record in records if record["group"] == "fitted"]
    errors = [1.0 if record in fitted else 0.5 for record in records]
    tested = benchmark.by_graph(records, errors, ("test", "changed"))
    assert len(benchmark.by_graph(records, errors, ("fitted", "test", "changed"))) == len(fitted) + len(tested)


def test_what_was_estimated_is_what_the_result_says(benchmark: ModuleType) -> None:
    result = json.loads((FOLDER / "results" / "cost_model.json").read_text(encoding="utf-8"))["metrics"]
    chosen = ("batch.batch8.step", "cost_model_noted_h200.rings", "fold_params.smollm2-135m.without")
    records = [record for record in benchmark.recorded_h200() if record["name"] in chosen]
    for record, error in zip(records, benchmark.errors(records, H200), strict=True):
        written = result[f"cost_model.error.{record['group']}.{record['name']}"]["value"]
        assert error == pytest.approx(written, abs=1e-6)
    assert result["cost_model.median_error"]["value"] <= benchmark.LIMIT
    assert result["cost_model.worst_error"]["value"] <= benchmark.WORST


def test_a_graph_that_was_timed_twice_counts_once(benchmark: ModuleType) -> None:
    records = [
        {"name": "a", "file": "x", "seconds": 1.0, "shape": "s", "group": "test"},
        {"name": "b", "file": "y", "seconds": 2.0, "shape": "s", "group": "test"},
        {"name": "c", "file": "y", "seconds": 2.0, "shape": "t", "group": "changed"},
        {"name": "d", "file": "y", "seconds": 2.0, "shape": "u", "group": "fitted"},
    ]
    assert benchmark.by_graph(records, [0.1, -0.3, -0.2, 9.0], ("test", "changed")) == pytest.approx([0.1, 0.2])
    metrics = benchmark.summary("m", [0.1, 0.2, 0.4])
    assert metrics["m.median_error"].value == 0.2
    assert metrics["m.worst_error"].value == 0.4


def test_a_fit_finds_the_constants_that_times_are_of(benchmark: ModuleType) -> None:
    true = replace(H200, of_registers=1.5e12, index=2e-6)
    shaped = [
        {"shape": "smollm2-135m", "context": 64, "pipeline": "", "inputs": {"position": [3]}},
        {"shape": "llama-3.2-1b", "context": 64, "pipeline": "", "inputs": {"position": [3]}},
    ]
    records = [r | {"seconds": benchmark.seconds_of(r, benchmark.graph_of(r), true)} for r in shaped]
    found = benchmark.fit(records, H200, ("of_registers", "index"))
    assert found.of_registers == pytest.approx(true.of_registers, rel=0.03)
    assert found.index == pytest.approx(true.index, rel=0.1)
    assert replace(found, of_registers=1.5e12, index=2e-6) == true


@pytest.mark.slow
def test_results_of_other_benchmarks_are_within_the_limit(benchmark: ModuleType) -> None:
    records = list(benchmark.recorded())
    assert len(records) >= 23
    assert len({record["name"] for record in records}) == len(records)
    errors = sorted(abs(error) for error in benchmark.errors(records))
    assert errors[len(errors) // 2] < benchmark.LIMIT


def test_tuned_steps_have_the_choices_of_the_file(benchmark: ModuleType) -> None:
    records = {record["name"]: record for record in benchmark.recorded()}
    plain, tuned = (benchmark.graph_of(records[f"ablation.{row}"]) for row in ("rings", "tuned"))
    changed = [node.name for node in plain if tuned.nodes[node.name].launch != node.launch]
    assert len(changed) == 4 * 16 + 1
    files = {records[f"llama_step.tuned_step_us.{place}"]["tuning"] for place in ("pos512", "pos2048")}
    assert len(files) == 2
    assert all(Path(file).exists() for file in files)


def test_it_says_what_it_was_compared_with(benchmark: ModuleType, tmp_path: Path) -> None:
    metrics = {"models.x": {"value": 1.0}, "smollm2.tokens_per_second": {"value": 1000.0}}
    said = {"commit": "0123456789abcdef", "gpu": "a GPU", "driver": "1", "date": "today"}
    (tmp_path / "models.json").write_text(json.dumps({**said, "metrics": metrics}), encoding="utf-8")
    (record,) = benchmark.recorded(tmp_path)
    assert record["name"] == "models.smollm2"
    assert record["seconds"] == pytest.approx(1e-3)
    compared = benchmark.compared_with([record, {"name": "of its own"}], tmp_path)
    assert compared["models"] == said
    assert set(compared["cost_model_measured"].values()) == {"unknown"}
    note = benchmark.note_of(compared)
    assert note == "compared with `models.json` of 0123456789ab; `cost_model_measured.json` of unknown"


def test_a_chain_and_weights_from_a_pool(benchmark: ModuleType) -> None:
    graph = benchmark.graph_of({"chain": 2, "pipeline": benchmark.CHAIN["hoist"]})
    assert len(graph) == 4
    weights = benchmark.PooledWeights(graph, {})
    assert list(weights) == ["w0", "w1"]
    assert weights["w0"].shape == graph.buffers["w0"].shape
    assert weights["w0"].astype("f4").std() == pytest.approx(0.02, rel=0.01)
    assert (weights["w0"] != weights["w1"]).any()


class Measured:
    """An executable that takes a millisecond."""

    def __init__(self, choice: int) -> None:
        self.choice = choice

    def run(self, inputs: dict[str, list[int]]) -> dict[str, np.ndarray]:
        return {"logits": np.ones(3, np.float32), "next_token": np.array([self.choice])}

    def seconds_per_replay(self, count: int) -> float:
        return 1e-3


def test_only_what_gives_the_same_is_timed(benchmark: ModuleType) -> None:
    inputs, what = [{"position": [5]}], {"shape": "smollm2-135m"}
    expected = [Measured(3).run(inputs[0])]
    (record,) = benchmark._times(Measured(3), "a", "row", "p", inputs, expected, what)
    assert record == {"name": "a.row.pos5", "pipeline": "p", "inputs": inputs[0], "seconds": 1e-3, **what}
    assert list(benchmark._times(Measured(4), "a", "row", "p", inputs, expected, what)) == []
