"""What the benchmarks share: order of pairs, intervals, result files; and that the denominators are right."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

from forerun.frontends.llama import LlamaModel
from tests.llama_oracle import all_logits
from tests.tiny_gguf import write_tiny_gguf

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def common(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("common")


def test_pairs_are_warmed_up_and_run_a_b_b_a(common: ModuleType) -> None:
    order: list[str] = []
    first, second = common.abba(lambda: order.append("A"), lambda: order.append("B"), rounds=2)
    assert "".join(order) == "AB" + "ABBA" * 2
    assert len(first) == len(second) == 2


def test_the_ratio_is_of_pairs_and_drift_does_not_widen_it(common: ModuleType) -> None:
    drifting = [1.0 * 1.5**i for i in range(20)]
    ratio = common.bootstrap_median_ratio([1.2 * seconds for seconds in drifting], drifting)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((1.2, 1.2, 1.2))
    assert ratio.unit == "ratio"


def test_the_interval_holds_the_median_and_grows_with_the_spread(common: ModuleType) -> None:
    narrow = common.bootstrap_median([10 + 0.01 * i for i in range(21)], "ms")
    wide = common.bootstrap_median([10 + 1.0 * i for i in range(21)], "ms")
    for metric in (narrow, wide):
        assert metric.low < metric.value < metric.high
    assert wide.high - wide.low > 50 * (narrow.high - narrow.low)
    assert wide == common.bootstrap_median([10 + 1.0 * i for i in range(21)], "ms")


def test_result_files_have_the_agreed_form(
    common: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = common.write_result("name", {"a.b": common.Metric(1.5, "s", 1.25, 2.0)}, tmp_path / "results")
    result = json.loads(path.read_text())
    assert path.name == "name.json"
    assert result["name"] == "name"
    assert result["metrics"] == {"a.b": {"value": 1.5, "unit": "s", "low": 1.25, "high": 2.0}}
    assert {"commit", "machine", "date"} <= set(result)
    assert "a.b: 1.5 s (95 %: 1.25 to 2)" in capsys.readouterr().out


def test_the_numpy_loop_computes_the_model(common: ModuleType, tmp_path: Path) -> None:
    model = LlamaModel.open(write_tiny_gguf(tmp_path / "tiny.gguf"))
    loop = importlib.import_module("smollm2_reference").NumpyLoop(model.config, model.weights)
    prompt = model.tokenizer.encode("the capital of France is")
    tokens = loop.generate(prompt, 8)
    chosen = all_logits(model.config, model.weights, [*prompt, *tokens]).argmax(axis=1).tolist()
    assert tokens == chosen[len(prompt) - 1 : -1]
    assert len(tokens) == 8
