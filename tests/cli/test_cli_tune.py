"""``forerun tune``: its options reach the search, and its account is told. No GPU is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forerun import tuner
from forerun.cli import main
from forerun.ir.graph import Graph
from forerun.ir.text import print_graph
from forerun.passes.infra.tuning import Tuning
from forerun.tuner import Trial, TuningResult
from tests.runtime.cuda.support import twice

GROUP = "forerun.kernels.cuda:gemv.cu#gemv(w: f32[2, 2])"
TRIALS = (
    Trial(GROUP, "264 CTAs instead of 2", "kept", 2e-5, 1e-5),
    Trial(GROUP, "trigger at end", "undone", 1e-5, 1.5e-5),
    Trial(GROUP, "64 threads instead of 32", "refused", reason="%y differs (3 bytes)"),
    Trial("", "all of it", "kept", 2e-5, 1e-5),
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    asked: dict[str, Any] = {}

    def tune(graph: Graph, target: Any, *, progress: Any, **options: Any) -> TuningResult:
        asked.update(options, graph=graph, target=str(target))
        for trial in TRIALS:
            progress(trial, 1.25, 7.0)
        return TuningResult(graph, Tuning("H100", "13.0"), 2e-5, 1e-5, TRIALS, 1.5, finished=False)

    monkeypatch.setattr(tuner, "tune", tune)
    return asked


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "twice.fir"
    path.write_text(print_graph(twice()), encoding="utf-8")
    return str(path)


def test_an_account(asked: dict[str, Any], file: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--pipeline", "insert-pdl", "-o", "t.json", "--budget", "7", "--tolerance", "0.5", "--from", "b.json"]
    assert main(["tune", file, *options]) == 0
    assert asked["graph"] == twice()
    assert (asked["budget_seconds"], asked["tolerance"]) == (7.0, 0.5)
    assert (asked["file"], asked["begin"]) == ("t.json", "b.json")
    assert str(asked["pipeline"]) == "insert-pdl"
    assert asked["inputs"].keys() == {"x"}
    told = capsys.readouterr()
    assert "a step took 20.0 us, and takes 10.0 us: 2.000x" in told.out
    assert "1 of 3 changes kept in 1.5 s; the budget is spent" in told.out
    assert "1.2 of 7 s  gemv: 264 CTAs instead of 2: 20.0 -> 10.0 us, kept" in told.err
    assert "undone" not in told.err
    assert main(["tune", file, "-v"]) == 0
    assert "gemv: 64 threads instead of 32: refused: %y differs" in capsys.readouterr().err


def test_json(asked: dict[str, Any], file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", file, "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert told.err == ""
    assert (found["gpu"], found["tuned_us"], len(found["trials"])) == ("H100", 10.0, 4)
    assert found["trials"][2]["reason"] == "%y differs (3 bytes)"


def test_types_of_a_shape(asked: dict[str, Any]) -> None:
    assert main(["tune", "--shape", "smollm2-135m", "--context", "64", "--kv-dtype", "f16"]) == 0
    dtypes = {name: str(buffer.dtype) for name, buffer in asked["graph"].buffers.items()}
    assert (dtypes["blk.0.k_cache"], dtypes["blk.0.attn_q.weight"]) == ("f16", "bf16")


def test_there_must_be_a_gpu(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", file, "--target", "reference"]) == 3
    told = capsys.readouterr().err
    assert "target 'reference' has no GPU's clock" in told
    assert "forerun run " in told


def test_choices_on_standard_output_stand_alone(
    asked: dict[str, Any], file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", file, "-o", "-"]) == 0
    told = capsys.readouterr()
    assert asked["file"] is None
    assert json.loads(told.out)["gpu"] == "H100"
    assert "a step took 20.0 us" in told.err
    assert main(["tune", file, "-o", "-", "--json"]) == 2


def test_options_that_a_graph_has_no_use_for(
    asked: dict[str, Any], file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for option, value in (("--dtype", "f16"), ("--kv-dtype", "f16"), ("--context", "8")):
        assert main(["tune", file, option, value]) == 2
        assert capsys.readouterr().err.startswith(f"error: {option} has no use here\n")
