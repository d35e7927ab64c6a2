"""The negative controls of the ablation are refuted, all of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from forerun.ir.semantics import check
from forerun.passes.infra.manager import PassManager

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_the_chain_on_one_scratch_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("controls", FOLDER / "controls.py")
    assert spec is not None
    assert spec.loader is not None
    controls = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(controls)
    chain = PassManager("exact").run(controls.scratch_chain(4, 64)).graph
    assert check(chain).status == "proved"
    for change in controls.WRONG.values():
        assert check(controls.with_roles(chain, change)).status == "refuted"
    metrics = controls.measure_scratch_chain()
    assert set(metrics) >= {"ablation.control_chain_refuted", "ablation.control_chain_proved"}
    assert {metric.value for metric in metrics.values()} == {1.0}
