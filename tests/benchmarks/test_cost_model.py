"""The benchmark of the cost model reads what was measured, and compares it with estimates."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from forerun.ir.text import print_graph
from forerun.runtime.cost import estimate

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
    seconds = estimate(graph, {"position": [3]}).seconds
    path = tmp_path / "graph.fir"
    path.write_text(print_graph(graph), encoding="utf-8")
    filed = {"name": "b", "graph": str(path), "inputs": {"position": [3]}, "seconds": 2 * seconds}
    found = benchmark.errors([{**shaped, "seconds": seconds}, filed])
    assert found == pytest.approx([0.0, -0.5])
